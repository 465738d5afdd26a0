"""Rows 18 and 19: files of ours that are torn or from another version, and two builders of one overlay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import MANIFEST, SKELETON
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.links import FACTS
from kernel_provisioner.overlay import store
from tests.support.launches import launches
from tests.support.oracle import explains, faults
from tests.support.pauses import Paused
from tests.support.waiting import wait_for

from .scene import Scene

pytestmark = pytest.mark.slow  # dozens of builds

OWN = (layout.OVERLAY, layout.SPEC, layout.PROGRESS, f"../{layout.NOTEBOOK}")
"""Files of one overlay."""
SHARED = ("lock", "entry")
"""Files that overlays share: what an order comes to, and what an entry of the wheel store is."""


def _newer(path: Path) -> None:
    text = path.read_text()
    path.write_text(json.dumps({**_object(text), "schema": 99, "lock-version": "9.0"}))


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "newer": _newer,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 3),
}


@pytest.mark.fault(18)
def test_a_damaged_record_is_set_aside_and_the_notebook_starts(scene: Scene) -> None:
    """Whatever the file and whatever became of it: the next start has a whole overlay and no traceback."""
    cases = [(name, how) for name in (*OWN, *SHARED) for how in ("truncated", "noise")]
    cases += [(name, how) for name in (layout.OVERLAY, layout.SPEC) for how in ("empty", "newer")]
    notebooks = []
    for number, (name, _) in enumerate(cases):
        extra = f"state-{number}" if name in SHARED else "state"  # what is shared is damaged once
        scene.bench.publish(extra)
        notebooks.append(scene.notebook(extra, name=f"n{number}"))
    oracle = scene.oracle()
    damaged = []
    for told, (name, how) in zip(launches(notebooks, scene.env, again=True), cases, strict=True):
        assert told["state"] == "ready", (name, how, told["build"])
        damaged.append(_file(scene, Path(told["overlay"]), name))
        DAMAGE[how](damaged[-1])
        if name in SHARED:  # an overlay that is ready needs neither
            shutil.rmtree(told["overlay"])
    for told, case in zip(launches(notebooks, scene.env), cases, strict=True):
        assert (told["failure"], told["state"]) == ({}, "ready"), (case, told["build"])
        assert not faults(store.Generation(Path(told["overlay"]))), case
    oracle.unharmed()
    listed = scene.bench.command("list", "--json", TORCH_OVERLAY_ROOT=str(scene.root))
    assert len(json.loads(listed.stdout)) >= len(cases)
    scene.bench.command("prune", TORCH_OVERLAY_ROOT=str(scene.root))
    oracle.unharmed()


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    ("name", "how"), [*((MANIFEST, how) for how in DAMAGE), (SKELETON, "truncated"), (SKELETON, "noise")]
)
def test_a_damaged_base_is_told_with_the_way_to_mend_it(scene: Scene, name: str, how: str) -> None:
    """The only base there is: the kernel starts to say which file is wrong, and what makes it again."""
    scene.bench.publish("on-damaged")
    notebook = scene.notebook("on-damaged")
    base = scene.bench.base().directory
    data = scene.home / "data"
    copy = data / "torch-bases" / base.name  # the registration; the environment itself stays where it is
    shutil.copytree(base, copy, ignore=lambda _, names: {"venv"} & set(names))
    shutil.copy(base.parent / "cpu.alias", copy.parent)
    env = {**scene.env, "JUPYTER_DATA_DIR": str(data)}
    DAMAGE[how](copy / name)
    (told,) = launches([notebook], env)
    failure = told["failure"] or told["build"]
    explains(failure, cause="cannot be read|another version", step="base create", path=copy / name)
    shutil.copy(base / name, copy / name)
    (told,) = launches([notebook], env)
    assert told["state"] == "ready", told


@pytest.mark.fault(19)
def test_two_starts_of_one_notebook_share_one_build(scene: Scene) -> None:
    """The second finds the first at work and waits for it; nothing is fetched twice."""
    scene.bench.publish("shared-build")
    notebook, oracle = scene.notebook("shared-build"), scene.oracle()
    paused = Paused(scene.home, "planned")
    with scene.launching(notebook, paused.env) as first:
        builder = paused.reached()
        (use_lock,) = scene.root.glob(f"*/0001/{layout.USE_LOCK}")
        seen = use_lock.stat().st_mtime_ns
        with scene.launching(notebook, paused.env) as second:
            wait_for(lambda: use_lock.stat().st_mtime_ns != seen, "the second to find the first's overlay")
            assert paused.waiting == [builder]
            paused.go()
            outcomes = [first.result(), second.result()]
    assert [(told["state"], Path(told["overlay"]).name) for told in outcomes] == [("ready", "0001")] * 2
    assert len(scene.bench.fetched("shared-build")) == 1
    oracle.unharmed()


def _file(scene: Scene, overlay: Path, name: str) -> Path:
    """The file that is to be damaged."""
    if name in OWN:
        return overlay / name
    spec = store.Generation(overlay).read(layout.SPEC)["order"]
    if name == "lock":
        (lock,) = (scene.root / "locks").glob(f"pylock.{store.spec_key(spec)}.*.toml")
        return lock
    (entry,) = store.Generation(overlay).entries
    Path(entry).chmod(0o755)
    Path(entry, FACTS).chmod(0o644)
    return Path(entry, FACTS)
