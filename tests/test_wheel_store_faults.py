"""Entries of the wheel store that are gone, damaged, half written, made twice, or named by nobody."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from tests.support.bases import REPOSITORY, Bench, Built
from tests.support.pauses import Paused
from tests.support.stored import entry, two
from tests.support.waiting import WITHIN


@pytest.mark.fault(37)
def test_an_entry_that_is_gone_is_linked_anew_at_the_next_launch(bench: Bench) -> None:
    """A ready overlay does not fit any more, and the next build fills the store again."""
    bench.publish("goes-away")
    built, _ = two(bench, "goes-away")
    spec = built.generation.read(layout.SPEC)["order"]
    base = bench.base().manifest
    assert bench.overlays.fitting(built.path.parent, spec, base) == built.generation
    where = entry(built, "goes-away")
    _writable(where)
    (where / "entry.json").unlink()
    assert bench.overlays.fitting(built.path.parent, spec, base) is None
    again = bench.overlay(bench.base(), "goes-away", notebook="goes-away-a.ipynb")
    assert again.ready, again.told
    assert built.python("import goes_away; print(goes_away.__version__)") == "1.0"


@pytest.mark.fault(37)
@pytest.mark.parametrize("how", ["another file", "a file less"])
def test_an_entry_that_is_damaged_is_replaced_by_the_next_build(bench: Bench, how: str) -> None:
    """Only root could change it; whoever links to it looks at its directories."""
    name = f"damaged-{how.rpartition(' ')[2]}"
    bench.publish(
        name, files={f"{name.replace('-', '_')}/__init__.py": "V = 1\n", f"{name.replace('-', '_')}/b.py": ""}
    )
    built, _ = two(bench, name)
    package = entry(built, name) / "site" / name.replace("-", "_")
    _writable(package)
    if how == "another file":
        (package / "c.py").write_text("")
    else:
        (package / "b.py").unlink()
    again = bench.overlay(bench.base(), name, notebook="again.ipynb")
    assert again.ready, again.told
    assert sorted(path.name for path in package.glob("*.py")) == ["__init__.py", "b.py"]


@pytest.mark.fault(37)
@pytest.mark.parametrize("point", ["filled", "unpacked-wheel", "published-wheel"])
def test_a_builder_that_is_killed_publishes_nothing_half(bench: Bench, tmp_path: Path, point: str) -> None:
    """What it left is no entry; the next build makes it, and clears what was left."""
    bench.publish(f"killed-{point}")
    generation = bench.begin(bench.base(), f"killed-{point}")
    paused = Paused(tmp_path, point)
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env={**bench.env, **paused.env}, cwd=REPOSITORY) as builder:
        paused.reached()
        builder.send_signal(signal.SIGKILL)
        builder.wait(WITHIN)
    wheels = bench.overlays.root / store.WHEELS
    assert len(list(wheels.glob(".new-*"))) == 1
    built = bench.overlay(bench.base(), f"killed-{point}", notebook="next.ipynb")
    assert built.ready, built.told
    bench.enter(built)
    assert built.python(f"import killed_{point.replace('-', '_')}") == ""
    bench.command("prune", TORCH_OVERLAY_ROOT=str(bench.overlays.root))
    assert list(wheels.glob(".new-*")) == []


def test_two_that_fill_the_same_entry_end_with_one(bench: Bench, tmp_path: Path) -> None:
    """The second comes too late to publish, and links to what the first has published."""
    bench.publish("race-fill")
    generation = bench.begin(bench.base(), "race-fill", notebook="race-a.ipynb")
    paused = Paused(tmp_path, "unpacked-wheel")
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env={**bench.env, **paused.env}, cwd=REPOSITORY) as first:
        paused.reached()
        # The order's maker holds the others back; this one asks in other words for the same wheel.
        other = bench.overlay(bench.base(), "race-fill>=1", notebook="race-c.ipynb")
        assert other.ready, other.told
        paused.go()
        assert first.wait(WITHIN) == 0
    first_built = Built(generation, other.done)
    for built in (first_built, other):
        bench.enter(built)
    assert entry(first_built, "race-fill") == entry(other, "race-fill")


def test_the_collector_removes_what_no_overlay_names(bench: Bench) -> None:
    """A package goes with its last notebook, and says so; what a kernel is linked to stays."""
    bench.publish("last-one")
    bench.publish("stays-one")
    gone = bench.overlay(bench.base(), "last-one", notebook="gone.ipynb")
    stays = bench.overlay(bench.base(), "stays-one", notebook="stays.ipynb")
    bench.enter(stays)
    for built, name in ((gone, "gone.ipynb"), (stays, "stays.ipynb")):
        (bench.home / name).write_text("{}")
        (built.path.parent / layout.NOTEBOOK).write_text(f"{(bench.home / name).resolve()}\n")
    (path,) = gone.content[layout.ENTRIES]
    (bench.home / "gone.ipynb").unlink()
    root = str(bench.overlays.root)
    dry = json.loads(bench.command("prune", "--dry-run", "--json", TORCH_OVERLAY_ROOT=root).stdout)
    assert path in [wheel["path"] for wheel in dry["wheels"]]
    assert Path(path).exists()
    assert (
        "that nothing uses removed from the wheel store"
        in bench.command("prune", TORCH_OVERLAY_ROOT=root).stdout
    )
    assert not Path(path).exists()
    assert stays.python("import stays_one") == ""


def _writable(path: Path) -> None:
    for folder in (path, *(one for one in path.rglob("*") if one.is_dir())):
        folder.chmod(0o755)
