"""The collector: what it takes, and what it leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_provisioner.collector import Collected, Policy, Removed, collect, forget, scan
from kernel_provisioner.collector.collect import TRASH
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.store import State
from tests.support.holders import held
from tests.support.shelf import EVERYTHING, NOW, Shelf, names
from tests.support.tree import tree_hash

DAY = 86400.0


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty overlay root, a base, and a directory for notebooks."""
    return Shelf(tmp_path)


def test_the_newest_ready_overlay_of_a_notebook_stays_and_the_others_go(shelf: Shelf) -> None:
    """Failed, abandoned and superseded generations are of no use to anybody."""
    for state in (State.READY, State.FAILED, State.READY, State.ABANDONED, State.FAILED):
        shelf.overlay("a.ipynb", state)
    collected = shelf.collect()
    assert names(collected) == {"a/0001", "a/0002", "a/0004", "a/0005"}
    reasons = {removed.path.name: removed.reason for removed in collected.removed}
    assert "newer" in reasons["0001"]
    assert "failed" in reasons["0002"]
    assert "not finished" in reasons["0004"]
    (left,) = scan(shelf.root)
    assert [found.path.name for found in left.generations] == ["0003"]
    assert not list((shelf.root / TRASH).iterdir())
    assert not shelf.collect().removed, "there is nothing left to do"


@pytest.mark.fault(22)
def test_what_a_kernel_runs_in_stays_whatever_the_policy(shelf: Shelf) -> None:
    """A process that holds the overlay's lock is a kernel; age, notebook and base do not matter then."""
    generation = shelf.overlay("a.ipynb", used=NOW - 1000 * DAY)
    (shelf.home / "a.ipynb").unlink()
    (shelf.base / "base.json").unlink()
    with held(generation.path / layout.USE_LOCK):
        before = tree_hash(generation.path)
        assert not shelf.collect(Policy(unused_days=1, everything=True)).removed
        assert tree_hash(generation.path) == before
        assert [found.in_use for overlay in scan(shelf.root) for found in overlay.generations] == [True]
    assert names(shelf.collect(EVERYTHING)) == {"a/0001"}, "killed, its kernel holds nothing any more"


def test_what_is_being_built_stays(shelf: Shelf) -> None:
    """A builder holds its own lock; without it the same files are an abandoned build."""
    generation = shelf.overlay("a.ipynb", State.ABANDONED)
    with held(generation.path / layout.BUILDER_LOCK, "exclusive"):
        assert not shelf.collect(EVERYTHING).removed
        assert generation.state() is State.BUILDING
    assert names(shelf.collect()) == {"a/0001"}


def test_overlays_of_a_notebook_that_is_gone_go_with_their_directory(shelf: Shelf) -> None:
    """Nothing of it is left: no lock file, no note of its name."""
    generation = shelf.overlay("a.ipynb")
    (shelf.home / "a.ipynb").unlink()
    assert [removed.reason for removed in shelf.collect().removed] == ["its notebook is gone"]
    assert not generation.path.parent.exists()


def test_a_notebook_that_cannot_be_looked_at_is_not_gone(shelf: Shelf) -> None:
    """A disk that does not answer, a directory without permission: its notebooks may come back."""
    generation = shelf.overlay("a.ipynb")
    (shelf.home / "a.ipynb").unlink()
    (shelf.home / "a.ipynb").symlink_to("a.ipynb")  # a link to itself: an error that is not "not there"
    assert not shelf.collect().removed
    assert generation.path.exists()


def test_a_kernel_without_a_notebook_leaves_nothing_behind(shelf: Shelf) -> None:
    """Its overlay is swept once it has ended; where its provisioner could, it did so itself."""
    directory = shelf.store.scratch_dir("pid4711")
    generation = shelf.fill(shelf.store.begin(directory), State.READY)
    (directory / layout.LAUNCH_LOCK).touch()
    with held(generation.path / layout.USE_LOCK):
        assert not shelf.collect().removed
    assert names(shelf.collect()) == {"scratch/0001"}
    assert not directory.exists()


def test_overlays_on_a_base_that_is_gone_go(shelf: Shelf) -> None:
    """They can never start again."""
    shelf.overlay("a.ipynb", base=shelf.home / "bases/cpu-torch2.5.0-py311-11111111")
    shelf.overlay("b.ipynb")
    collected = shelf.collect()
    assert names(collected) == {"a/0001"}
    assert collected.removed[0].reason == "its base cpu-torch2.5.0-py311-11111111 is gone"


def test_what_was_installed_by_hand_is_named_and_kept(shelf: Shelf) -> None:
    """Nobody can get it back from the notebook; only --all takes it, and says so before."""
    old = shelf.overlay("a.ipynb")
    shelf.install(old, "humanize", "4.9.0", installer="pip")
    shelf.overlay("a.ipynb")
    collected = shelf.collect()
    assert not collected.removed
    assert [(kept.path, kept.by_hand) for kept in collected.kept] == [(old.path, ("humanize 4.9.0",))]
    assert "newer" in collected.kept[0].reason

    told: list[Removed] = []

    def hear(removed: Removed) -> None:
        assert removed.path.exists(), "told before it goes"
        told.append(removed)

    collect(shelf.root, EVERYTHING, now=NOW, tell=hear)
    assert [removed.by_hand for removed in told if removed.path == old.path] == [("humanize 4.9.0",)]
    assert not old.path.exists()


@pytest.mark.fault(24)
def test_age_counts_only_where_it_is_asked_for(shelf: Shelf) -> None:
    """By when a kernel last started; what is dated in the future was used just now."""
    shelf.overlay("old.ipynb", used=NOW - 31 * DAY)
    shelf.overlay("young.ipynb", used=NOW - 29 * DAY)
    shelf.overlay("future.ipynb", used=NOW + 400 * DAY)
    assert not shelf.collect().removed
    assert names(shelf.collect(Policy(unused_days=30, everything=True))) == {"old/0001"}
    assert names(shelf.collect(EVERYTHING)) == {"young/0001", "future/0001"}


def test_locks_of_a_resolution_outlive_their_overlay_for_a_while(shelf: Shelf) -> None:
    """The same request in another notebook installs from them offline; after a month they go."""
    kept = store.spec_key(shelf.overlay("a.ipynb").read(layout.SPEC)["order"])
    folder = shelf.root / "locks"
    folder.mkdir()
    for name, days in ((f"pylock.{kept}.toml", 90), ("pylock.young.toml", 29), ("pylock.old.toml", 31)):
        (folder / name).touch()
        os.utime(folder / name, (NOW - days * DAY,) * 2)
    assert [path.name for path in shelf.collect(dry_run=True).locks] == ["pylock.old.toml"]
    assert [path.name for path in shelf.collect().locks] == ["pylock.old.toml"]
    assert sorted(path.name for path in folder.iterdir()) == [f"pylock.{kept}.toml", "pylock.young.toml"]


def test_notes_of_renamed_notebooks_go_with_their_directory(shelf: Shelf) -> None:
    """A note that leads nowhere is of no use; one that leads to overlays stays."""
    directory = shelf.overlay("old.ipynb").path.parent
    (shelf.home / "old.ipynb").rename(shelf.home / "new.ipynb")
    shelf.store.carry_over(directory, shelf.home / "new.ipynb")
    shelf.collect()
    assert list(shelf.root.glob("*.renamed"))
    (shelf.home / "new.ipynb").unlink()
    assert names(shelf.collect()) == {"old/0001"}
    assert not list(shelf.root.glob("*.renamed"))


def test_freed_bytes_are_those_that_the_disk_gets_back(shelf: Shelf) -> None:
    """A hard link into uv's cache takes no room, so its removal frees none."""
    generation = shelf.overlay("a.ipynb", State.FAILED)
    cached = shelf.home / "cached"
    cached.write_bytes(b"x" * 500_000)
    os.link(cached, generation.path / "linked")
    (removed,) = shelf.collect().removed
    assert removed.usage.linked_bytes >= 500_000
    assert removed.usage.own_bytes < 500_000


def test_records_that_cannot_be_read_hinder_nothing(shelf: Shelf) -> None:
    """A torn build.json tells no base; the overlay is judged by the rest."""
    generation = shelf.overlay("a.ipynb")
    (generation.path / layout.SPEC).write_text("{")
    (shelf.overlay("b.ipynb").path / layout.SPEC).write_text("[]")
    assert not shelf.collect().removed
    assert {found.base for overlay in scan(shelf.root) for found in overlay.generations} == {""}


def test_what_is_not_ours_is_not_touched(shelf: Shelf) -> None:
    """Somebody's own directory in the overlay root stays as it is, numbers in it and all."""
    (shelf.root / "mine/2026").mkdir(parents=True)
    (shelf.root / "notes.txt").write_text("mine")
    before = tree_hash(shelf.root / "mine")
    shelf.collect(EVERYTHING)
    assert tree_hash(shelf.root / "mine") == before
    assert (shelf.root / "notes.txt").exists()


def test_no_root_is_nothing_to_do(tmp_path: Path) -> None:
    """Before the first launch there is no directory, and a sweep makes none."""
    assert collect(tmp_path / "none", EVERYTHING, now=NOW) == Collected()
    assert not list(scan(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_one_notebook_is_forgotten_unless_it_is_in_use(shelf: Shelf) -> None:
    """What the demo does with its own."""
    generation = shelf.overlay("a.ipynb")
    other = shelf.overlay("b.ipynb")
    with held(generation.path / layout.USE_LOCK):
        assert not forget(shelf.root, generation.path.parent)
        assert generation.path.exists()
    assert forget(shelf.root, generation.path.parent)
    assert not generation.path.parent.exists()
    assert other.path.exists()
