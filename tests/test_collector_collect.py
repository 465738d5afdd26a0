"""The collector at work: beside launches and other sweeps nobody ever sees half of what it does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.collector import collect, scan
from kernel_provisioner.collector.collect import TRASH
from kernel_provisioner.errors import OverlayError
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.store import State
from kernel_provisioner.system import locks
from tests.support.bases import REPOSITORY
from tests.support.holders import held
from tests.support.notebooks import write_notebook
from tests.support.shelf import EVERYTHING, NOW, Shelf, names
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN, wait_for


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty overlay root, a base, and a directory for notebooks."""
    return Shelf(tmp_path)


def test_a_dry_run_says_the_same_and_changes_nothing(shelf: Shelf) -> None:
    """Not even a lock file is made."""
    shelf.overlay("a.ipynb", State.FAILED)
    kept = shelf.overlay("a.ipynb")
    shelf.install(kept, "humanize", "4.9.0")
    shelf.overlay("a.ipynb")
    before = tree_hash(shelf.root)
    dry = shelf.collect(dry_run=True)
    assert tree_hash(shelf.root) == before
    wet = shelf.collect()
    assert dry == wet
    assert (len(wet.removed), len(wet.kept)) == (1, 1)


@pytest.mark.fault(21)
def test_a_notebook_that_is_being_launched_is_left_alone(shelf: Shelf) -> None:
    """A launch holds its directory's lock from its look at the overlays until it has one."""
    generation = shelf.overlay("a.ipynb", State.FAILED)
    with held(generation.path.parent / layout.LAUNCH_LOCK, "exclusive"):
        collected = shelf.collect(EVERYTHING)
        assert (collected.removed, collected.busy) == ([], [generation.path.parent])
    assert names(shelf.collect()) == {"a/0001"}


def test_one_sweep_runs_at_a_time(shelf: Shelf) -> None:
    """The second says so instead of waiting."""
    shelf.overlay("a.ipynb", State.FAILED)
    with held(shelf.root / ".prune.lock", "exclusive"), pytest.raises(OverlayError, match="is locked"):
        shelf.collect()


def test_a_sweep_that_was_cut_short_is_finished_by_the_next(shelf: Shelf) -> None:
    """What lies in the trash is out of every launch's sight, and nobody's any more."""
    left = shelf.root / TRASH / "a-0001-00000000"
    (left / "lib").mkdir(parents=True)
    (left / "lib/file").touch()
    (left / "lib").chmod(0o500)
    shelf.collect()
    assert not left.exists()
    assert stat.S_IMODE(shelf.root.stat().st_mode) == 0o700


@pytest.mark.fault(26)
def test_nothing_is_removed_where_locks_do_not_exclude(shelf: Shelf, tmp_path: Path) -> None:
    """On such a disk (some NFS mounts) nobody can tell what is in use."""
    generation = shelf.overlay("a.ipynb", State.FAILED)
    opened: list[locks.Lock] = []

    def take(path: Path) -> locks.Lock:
        opened.append(locks.exclusive(tmp_path / f"lock-{len(opened)}"))  # each its own: they never meet
        return opened[-1]

    with pytest.raises(OverlayError, match="cannot be removed") as caught:
        collect(shelf.root, EVERYTHING, now=NOW, take=take)
    assert "TORCH_OVERLAY_ROOT" in caught.value.fix
    assert generation.path.exists()


def test_a_survey_looks_into_no_overlay(shelf: Shelf) -> None:
    """A list of thousands stays quick because of what it does not open."""
    generation = shelf.overlay("a.ipynb")
    seen: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir"):
            seen.append(os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else "")

    sys.addaudithook(watch)  # stays for good, so it is told when to stop
    (found,) = scan(shelf.root)
    watching = False
    assert found.generations
    inside = [Path(path).relative_to(generation.path) for path in seen if f"{generation.path}/" in path]
    assert {path.as_posix() for path in inside} == {layout.SPEC, layout.USE_LOCK}
    assert len(inside) == 2
    assert str(generation.path) not in seen


@pytest.mark.fault(21)
@pytest.mark.slow
def test_a_launch_beside_a_greedy_sweep_always_gets_a_whole_overlay(tmp_path: Path) -> None:
    """Sweeps of everything, one after the other; each launch still holds all of an overlay of its own."""
    script = tmp_path / "sweep.py"
    script.write_text(
        "import sys, pathlib\n"
        "from kernel_provisioner.errors import LockTimeout\n"
        "from kernel_provisioner.collector import Policy, collect\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    collect(pathlib.Path(sys.argv[1]), Policy(everything=True), now=0.0)\n"
        "    pathlib.Path(sys.argv[3]).touch()\n"
    )
    shelf = Shelf(tmp_path)
    write_notebook(tmp_path / "a.ipynb")
    stop, collected = tmp_path / "stop", tmp_path / "swept"
    command = [sys.executable, str(script), str(shelf.root), str(stop), str(collected)]
    child = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    wait_for(collected.exists, "the first sweep")
    try:
        for _ in range(100):
            _launch(shelf, tmp_path / "a.ipynb")
    finally:
        stop.touch()
        assert child.wait(timeout=WITHIN) == 0


def _launch(shelf: Shelf, notebook: Path) -> None:
    """As ``prepare`` does it: take or make an overlay under the launch lock, and hold it."""
    from kernel_provisioner.launch.acquire import hold_overlay, launch_lock

    directory = shelf.store.notebook_dir(notebook)
    with launch_lock(directory):
        ready = [one for one in shelf.store.generations(directory) if one.state() is State.READY]
        generation = ready[0] if ready else shelf.fill(shelf.store.begin(directory), State.READY)
        store.claim(directory, notebook)
        lock = hold_overlay(generation)
    with lock:
        for name in (
            layout.SPEC,
            layout.OVERLAY,
            layout.ENTERED,
            "lib/python3.11/site-packages/zzz_torch_base.pth",
        ):
            assert (generation.path / name).exists(), f"{name} is gone under a running kernel"
