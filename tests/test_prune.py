"""The collector: what it takes, what it leaves, and that nobody ever sees half of its work."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner import locks
from kernel_provisioner.errors import OverlayError
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.store import Generation, State
from kernel_provisioner.prune import Policy, Removed, Swept, forget, survey, sweep
from kernel_provisioner.prune.sweep import TRASH
from tests.support.holders import held
from tests.support.notebooks import write_notebook
from tests.support.tree import tree_hash
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[1]
NOW = 2_000_000_000.0
DAY = 86400.0
EVERYTHING = Policy(everything=True)


class Shelf:
    """Overlays as launches and builders leave them, made with the store's own functions."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = store.Store(home / "overlays")
        self.store.prepare()
        self.root = self.store.root
        self.base = home / "bases/cpu-torch2.6.0-py311-00000000"
        self.base.mkdir(parents=True)
        (self.base / "base.json").write_text("{}")

    def overlay(
        self, notebook: str, state: State = State.READY, *, base: Path | None = None, used: float = NOW
    ) -> Generation:
        """One more generation of a notebook, which is written where it is not there yet."""
        path = self.home / notebook
        if not path.exists():
            write_notebook(path)
        directory = self.store.notebook_dir(path)
        generation = self.fill(self.store.begin(directory), state, base=base, used=used)
        store.claim(directory, path)
        return generation

    def fill(
        self, generation: Generation, state: State, *, base: Path | None = None, used: float = NOW
    ) -> Generation:
        """What a generation in this state holds."""
        site = generation.path / "lib/python3.11/site-packages"
        site.mkdir(parents=True)
        (site / "zzz_torch_base.pth").write_text("/base\n")
        self.install(generation, "torch", "2.6.0+cpu", installer="torch-overlay")
        base = base or self.base
        order = {
            "order": {"base": base.name},
            "base_directory": str(base),
        }
        generation.write(store.ORDER, order)
        (generation.path / store.USE_LOCK).touch()
        os.utime(generation.path / store.USE_LOCK, (used, used))
        if state is State.READY:
            self.install(generation, "einops", "0.8.1")
            declared = [{"name": "einops", "version": "0.8.1"}]
            generation.write(store.OVERLAY, {"base": base.name, "installed": declared, "replaced": {}})
            (generation.path / store.ENTERED).touch()
        elif state is State.FAILED:
            generation.write(store.FAILED, {"failure": {"what": "no"}})
        return generation

    def install(self, generation: Generation, name: str, version: str, *, installer: str = "uv") -> None:
        """Put a distribution into an overlay, as uv or pip would."""
        (dist_info := generation.path / f"lib/python3.11/site-packages/{name}-{version}.dist-info").mkdir()
        (dist_info / "INSTALLER").write_text(installer)

    def sweep(self, policy: Policy = Policy(), *, dry_run: bool = False) -> Swept:  # noqa: B008 - frozen
        """Collect, at a fixed time."""
        return sweep(self.root, policy, now=NOW, dry_run=dry_run)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty overlay root, a base, and a directory for notebooks."""
    return Shelf(tmp_path)


def names(swept: Swept) -> set[str]:
    """What was removed, by directory and generation."""
    return {f"{removed.path.parent.name.split('-')[0]}/{removed.path.name}" for removed in swept.removed}


def test_the_newest_ready_overlay_of_a_notebook_stays_and_the_others_go(shelf: Shelf) -> None:
    """Failed, abandoned and superseded generations are of no use to anybody."""
    for state in (State.READY, State.FAILED, State.READY, State.ABANDONED, State.FAILED):
        shelf.overlay("a.ipynb", state)
    swept = shelf.sweep()
    assert names(swept) == {"a/0001", "a/0002", "a/0004", "a/0005"}
    reasons = {removed.path.name: removed.reason for removed in swept.removed}
    assert "newer" in reasons["0001"]
    assert "failed" in reasons["0002"]
    assert "half-way" in reasons["0004"]
    (left,) = survey(shelf.root)
    assert [found.path.name for found in left.generations] == ["0003"]
    assert not list((shelf.root / TRASH).iterdir())
    assert not shelf.sweep().removed, "there is nothing left to do"


@pytest.mark.fault(22)
def test_what_a_kernel_runs_in_stays_whatever_the_policy(shelf: Shelf) -> None:
    """A process that holds the overlay's lock is a kernel; age, notebook and base do not matter then."""
    generation = shelf.overlay("a.ipynb", used=NOW - 1000 * DAY)
    (shelf.home / "a.ipynb").unlink()
    (shelf.base / "base.json").unlink()
    with held(generation.path / store.USE_LOCK):
        before = tree_hash(generation.path)
        assert not shelf.sweep(Policy(unused_days=1, everything=True)).removed
        assert tree_hash(generation.path) == before
        assert [found.in_use for overlay in survey(shelf.root) for found in overlay.generations] == [True]
    assert names(shelf.sweep(EVERYTHING)) == {"a/0001"}, "killed, its kernel holds nothing any more"


def test_what_is_being_built_stays(shelf: Shelf) -> None:
    """A builder holds its own lock; without it the same files are an abandoned build."""
    generation = shelf.overlay("a.ipynb", State.ABANDONED)
    with held(generation.path / store.BUILDER_LOCK, "exclusive"):
        assert not shelf.sweep(EVERYTHING).removed
        assert generation.state() is State.BUILDING
    assert names(shelf.sweep()) == {"a/0001"}


def test_overlays_of_a_notebook_that_is_gone_go_with_their_directory(shelf: Shelf) -> None:
    """Nothing of it is left: no lock file, no note of its name."""
    generation = shelf.overlay("a.ipynb")
    (shelf.home / "a.ipynb").unlink()
    assert [removed.reason for removed in shelf.sweep().removed] == ["its notebook is gone"]
    assert not generation.path.parent.exists()


def test_a_notebook_that_cannot_be_looked_at_is_not_gone(shelf: Shelf) -> None:
    """A disk that does not answer, a directory without permission: its notebooks may come back."""
    generation = shelf.overlay("a.ipynb")
    (shelf.home / "a.ipynb").unlink()
    (shelf.home / "a.ipynb").symlink_to("a.ipynb")  # a link to itself: an error that is not "not there"
    assert not shelf.sweep().removed
    assert generation.path.exists()


def test_a_kernel_without_a_notebook_leaves_nothing_behind(shelf: Shelf) -> None:
    """Its overlay is swept once it has ended; where its provisioner could, it did so itself."""
    directory = shelf.store.scratch_dir("pid4711")
    generation = shelf.fill(shelf.store.begin(directory), State.READY)
    (directory / store.LAUNCH_LOCK).touch()
    with held(generation.path / store.USE_LOCK):
        assert not shelf.sweep().removed
    assert names(shelf.sweep()) == {"scratch/0001"}
    assert not directory.exists()


def test_overlays_on_a_base_that_is_gone_go(shelf: Shelf) -> None:
    """They can never start again."""
    shelf.overlay("a.ipynb", base=shelf.home / "bases/cpu-torch2.5.0-py311-11111111")
    shelf.overlay("b.ipynb")
    swept = shelf.sweep()
    assert names(swept) == {"a/0001"}
    assert swept.removed[0].reason == "its base cpu-torch2.5.0-py311-11111111 is gone"


def test_what_was_installed_by_hand_is_named_and_kept(shelf: Shelf) -> None:
    """Nobody can get it back from the notebook; only --all takes it, and says so before."""
    old = shelf.overlay("a.ipynb")
    shelf.install(old, "humanize", "4.9.0", installer="pip")
    shelf.overlay("a.ipynb")
    swept = shelf.sweep()
    assert not swept.removed
    assert [(kept.path, kept.by_hand) for kept in swept.kept] == [(old.path, ("humanize 4.9.0",))]
    assert "newer" in swept.kept[0].reason

    told: list[Removed] = []

    def hear(removed: Removed) -> None:
        assert removed.path.exists(), "told before it goes"
        told.append(removed)

    sweep(shelf.root, EVERYTHING, now=NOW, tell=hear)
    assert [removed.by_hand for removed in told if removed.path == old.path] == [("humanize 4.9.0",)]
    assert not old.path.exists()


@pytest.mark.fault(24)
def test_age_counts_only_where_it_is_asked_for(shelf: Shelf) -> None:
    """By when a kernel last started; what is dated in the future was used just now."""
    shelf.overlay("old.ipynb", used=NOW - 31 * DAY)
    shelf.overlay("young.ipynb", used=NOW - 29 * DAY)
    shelf.overlay("future.ipynb", used=NOW + 400 * DAY)
    assert not shelf.sweep().removed
    assert names(shelf.sweep(Policy(unused_days=30, everything=True))) == {"old/0001"}
    assert names(shelf.sweep(EVERYTHING)) == {"young/0001", "future/0001"}


def test_a_dry_run_says_the_same_and_changes_nothing(shelf: Shelf) -> None:
    """Not even a lock file is made."""
    shelf.overlay("a.ipynb", State.FAILED)
    kept = shelf.overlay("a.ipynb")
    shelf.install(kept, "humanize", "4.9.0")
    shelf.overlay("a.ipynb")
    before = tree_hash(shelf.root)
    dry = shelf.sweep(dry_run=True)
    assert tree_hash(shelf.root) == before
    wet = shelf.sweep()
    assert dry == wet
    assert (len(wet.removed), len(wet.kept)) == (1, 1)


@pytest.mark.fault(21)
def test_a_notebook_that_is_being_launched_is_left_alone(shelf: Shelf) -> None:
    """A launch holds its directory's lock from its look at the overlays until it has one."""
    generation = shelf.overlay("a.ipynb", State.FAILED)
    with held(generation.path.parent / store.LAUNCH_LOCK, "exclusive"):
        swept = shelf.sweep(EVERYTHING)
        assert (swept.removed, swept.busy) == ([], [generation.path.parent])
    assert names(shelf.sweep()) == {"a/0001"}


def test_one_sweep_runs_at_a_time(shelf: Shelf) -> None:
    """The second says so instead of waiting."""
    shelf.overlay("a.ipynb", State.FAILED)
    with held(shelf.root / ".prune.lock", "exclusive"), pytest.raises(OverlayError, match="is locked"):
        shelf.sweep()


def test_a_sweep_that_was_cut_short_is_finished_by_the_next(shelf: Shelf) -> None:
    """What lies in the trash is out of every launch's sight, and nobody's any more."""
    left = shelf.root / TRASH / "a-0001-00000000"
    (left / "lib").mkdir(parents=True)
    (left / "lib/file").touch()
    (left / "lib").chmod(0o500)
    shelf.sweep()
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

    with pytest.raises(OverlayError, match="cannot be collected") as caught:
        sweep(shelf.root, EVERYTHING, now=NOW, take=take)
    assert "TORCH_OVERLAY_ROOT" in caught.value.fix
    assert generation.path.exists()


def test_locks_of_a_resolution_outlive_their_overlay_for_a_while(shelf: Shelf) -> None:
    """The same request in another notebook installs from them offline; after a month they go."""
    kept = store.order_key(shelf.overlay("a.ipynb").read(store.ORDER)["order"])
    folder = shelf.root / "locks"
    folder.mkdir()
    for name, days in ((f"pylock.{kept}.toml", 90), ("pylock.young.toml", 29), ("pylock.old.toml", 31)):
        (folder / name).touch()
        os.utime(folder / name, (NOW - days * DAY,) * 2)
    assert [path.name for path in shelf.sweep(dry_run=True).locks] == ["pylock.old.toml"]
    assert [path.name for path in shelf.sweep().locks] == ["pylock.old.toml"]
    assert sorted(path.name for path in folder.iterdir()) == [f"pylock.{kept}.toml", "pylock.young.toml"]


def test_notes_of_renamed_notebooks_go_with_their_directory(shelf: Shelf) -> None:
    """A note that leads nowhere is of no use; one that leads to overlays stays."""
    directory = shelf.overlay("old.ipynb").path.parent
    (shelf.home / "old.ipynb").rename(shelf.home / "new.ipynb")
    shelf.store.carry_over(directory, shelf.home / "new.ipynb")
    shelf.sweep()
    assert list(shelf.root.glob("*.renamed"))
    (shelf.home / "new.ipynb").unlink()
    assert names(shelf.sweep()) == {"old/0001"}
    assert not list(shelf.root.glob("*.renamed"))


def test_freed_bytes_are_those_that_the_disk_gets_back(shelf: Shelf) -> None:
    """A hard link into uv's cache takes no room, so its removal frees none."""
    generation = shelf.overlay("a.ipynb", State.FAILED)
    cached = shelf.home / "cached"
    cached.write_bytes(b"x" * 500_000)
    os.link(cached, generation.path / "linked")
    (removed,) = shelf.sweep().removed
    assert removed.usage.linked_bytes >= 500_000
    assert removed.usage.own_bytes < 500_000


def test_records_that_cannot_be_read_hinder_nothing(shelf: Shelf) -> None:
    """A torn build.json tells no base; the overlay is judged by the rest."""
    generation = shelf.overlay("a.ipynb")
    (generation.path / store.ORDER).write_text("{")
    (shelf.overlay("b.ipynb").path / store.ORDER).write_text("[]")
    assert not shelf.sweep().removed
    assert {found.base for overlay in survey(shelf.root) for found in overlay.generations} == {""}


def test_what_is_not_ours_is_not_touched(shelf: Shelf) -> None:
    """Somebody's own directory in the overlay root stays as it is, numbers in it and all."""
    (shelf.root / "mine/2026").mkdir(parents=True)
    (shelf.root / "notes.txt").write_text("mine")
    before = tree_hash(shelf.root / "mine")
    shelf.sweep(EVERYTHING)
    assert tree_hash(shelf.root / "mine") == before
    assert (shelf.root / "notes.txt").exists()


def test_no_root_is_nothing_to_do(tmp_path: Path) -> None:
    """Before the first launch there is no directory, and a sweep makes none."""
    assert sweep(tmp_path / "none", EVERYTHING, now=NOW) == Swept()
    assert not list(survey(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_one_notebook_is_forgotten_unless_it_is_in_use(shelf: Shelf) -> None:
    """What the demo does with its own."""
    generation = shelf.overlay("a.ipynb")
    other = shelf.overlay("b.ipynb")
    with held(generation.path / store.USE_LOCK):
        assert not forget(shelf.root, generation.path.parent)
        assert generation.path.exists()
    assert forget(shelf.root, generation.path.parent)
    assert not generation.path.parent.exists()
    assert other.path.exists()


def test_a_survey_looks_into_no_overlay(shelf: Shelf) -> None:
    """A list of thousands stays quick because of what it does not open."""
    generation = shelf.overlay("a.ipynb")
    seen: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir"):
            seen.append(os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else "")

    sys.addaudithook(watch)  # stays for good, so it is told when to stop
    (found,) = survey(shelf.root)
    watching = False
    assert found.generations
    inside = [Path(path).relative_to(generation.path) for path in seen if f"{generation.path}/" in path]
    assert {path.as_posix() for path in inside} == {store.ORDER, store.USE_LOCK}
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
        "from kernel_provisioner.prune import Policy, sweep\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    sweep(pathlib.Path(sys.argv[1]), Policy(everything=True), now=0.0)\n"
        "    pathlib.Path(sys.argv[3]).touch()\n"
    )
    shelf = Shelf(tmp_path)
    write_notebook(tmp_path / "a.ipynb")
    stop, swept = tmp_path / "stop", tmp_path / "swept"
    command = [sys.executable, str(script), str(shelf.root), str(stop), str(swept)]
    child = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    wait_for(swept.exists, "the first sweep")
    try:
        for _ in range(100):
            _launch(shelf, tmp_path / "a.ipynb")
    finally:
        stop.touch()
        assert child.wait(timeout=60) == 0


def _launch(shelf: Shelf, notebook: Path) -> None:
    """As ``prepare`` does it: take or make an overlay under the launch lock, and hold it."""
    from kernel_provisioner.prepare import _hold, _launch_lock

    directory = shelf.store.notebook_dir(notebook)
    with _launch_lock(directory):
        ready = [one for one in shelf.store.generations(directory) if one.state() is State.READY]
        generation = ready[0] if ready else shelf.fill(shelf.store.begin(directory), State.READY)
        store.claim(directory, notebook)
        lock = _hold(generation)
    with lock:
        for name in (
            store.ORDER,
            store.OVERLAY,
            store.ENTERED,
            "lib/python3.11/site-packages/zzz_torch_base.pth",
        ):
            assert (generation.path / name).exists(), f"{name} is gone under a running kernel"
