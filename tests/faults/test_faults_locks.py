"""Rows 25 and 26: locks that a crash left behind, and disks that keep none."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.system import locks
from tests.support.oracle import explains, faults
from tests.support.pauses import Paused
from tests.support.waiting import WITHIN, wait_for

from .lockless import REPOSITORY, Lockless
from .scene import Scene, nobody_left

pytestmark = pytest.mark.slow  # each launch is a process, and so is each build


@pytest.fixture(
    params=[errno.ENOLCK, errno.EBADF, 0], ids=["no lock daemon", "read-only NFS", "no exclusion"]
)
def lockless(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> Lockless:
    """Overlays, bases and notebooks lie on a disk that keeps no locks."""
    return Lockless(tmp_path / "lockless", tmp_path, request.param)


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", [layout.USE_LOCK, layout.BUILDER_LOCK, "../" + layout.LAUNCH_LOCK])
def test_a_lock_file_that_somebody_left_behind_hinders_nobody(scene: Scene, name: str) -> None:
    """Its text names a process that lives, of another machine: only a lock that is held counts."""
    scene.bench.publish("left")
    notebook, oracle = scene.notebook("left"), scene.oracle()
    overlay = Path(scene.launch(notebook)["overlay"])
    stale = overlay / name
    stale.write_text(f"{os.getpid()}\nanother-host.example\n")
    assert oracle.next_try(notebook, scene.env)["overlay"] == str(overlay)
    scene.bench.command("prune", "--all", TORCH_OVERLAY_ROOT=str(scene.root))
    assert not overlay.exists(), "nobody uses it"
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(25)
def test_the_lock_of_a_builder_that_was_killed_is_free_at_once(scene: Scene) -> None:
    """Whoever gets its process number later does not keep the overlay from being built again."""
    scene.bench.publish("orphaned")
    notebook, oracle = scene.notebook("orphaned"), scene.oracle()
    paused = Paused(scene.home, "planned")
    with scene.launching(notebook, paused.env):
        pid = paused.reached()
        (lock,) = scene.root.glob(f"*/0001/{layout.BUILDER_LOCK}")
        assert locks.is_held(lock)
        os.kill(pid, 9)
        wait_for(lambda: not locks.is_held(lock), "the lock to be free")
        lock.write_text(f"{os.getpid()}\n")  # the number is somebody else's now, who lives
    told = oracle.next_try(notebook, scene.env)
    assert Path(told["overlay"]).name == "0003"


@pytest.mark.fault(26)
def test_launches_need_no_locks(scene: Scene, lockless: Lockless) -> None:
    """Two at once: while the first builds, the second begins a generation of its own; both are whole."""
    scene.bench.publish("lockless-extra")
    notebook, oracle = scene.notebook("lockless-extra"), scene.oracle()
    paused = Paused(scene.home, "planned")
    first = scene.launch(notebook, prefix=lockless.prefix, **paused.env)
    paused.reached()
    second = scene.launch(notebook, prefix=lockless.prefix)
    assert (first["failure"], second["failure"]) == ({}, {})
    assert first["overlay"] != second["overlay"]
    _until_ready(second["overlay"])
    paused.go()
    _until_ready(first["overlay"])
    oracle.unharmed()
    third = scene.launch(notebook, prefix=lockless.prefix)
    assert (third["overlay"], third["state"]) == (second["overlay"], "ready")
    nobody_left(scene.root)


@pytest.mark.fault(26)
def test_building_ahead_needs_no_locks(scene: Scene, lockless: Lockless) -> None:
    """A builder that no lock tells of is waited for all the same."""
    scene.bench.publish("lockless-ahead")
    notebook = str(scene.notebook("lockless-ahead"))
    done = _command(scene, lockless, "prebuild", notebook, "--kernel", "torch-cpu", "--json")
    assert [row["state"] for row in json.loads(done.stdout)] == ["built"], done.stdout


@pytest.mark.fault(26)
def test_nothing_is_deleted_where_nobody_knows_who_uses_what(scene: Scene, lockless: Lockless) -> None:
    """The collector refuses, and says why and what to do; and so does the removal of a base."""
    notebook, oracle = scene.notebook(), scene.oracle()
    overlay = scene.launch(notebook)["overlay"]
    refused = _command(scene, lockless, "prune", "--all", "--json")
    told = json.loads(refused.stdout)
    assert refused.returncode != 0
    explains(told, cause="can lock one file", step="TORCH_OVERLAY_ROOT", path=scene.root)
    assert Path(overlay, layout.OVERLAY).exists()
    oracle.unharmed()


@pytest.mark.fault(26)
def test_no_base_is_removed_where_nobody_knows_who_runs_on_it(tmp_path: Path, scene: Scene) -> None:
    """The message names the disk, and what its owner can do."""
    base = scene.bench.base()
    lockless = Lockless(tmp_path / "lockless", base.directory.parent, errno.ENOLCK)
    oracle = scene.oracle()
    refused = _command(scene, lockless, "base", "remove", base.manifest.id, "--json")
    assert refused.returncode != 0, refused.stdout
    told = json.loads(refused.stdout)
    explains(told, cause="keeps no locks", step="shut all kernels down", path=base.lock_path)
    oracle.unharmed()


def _until_ready(overlay: str) -> None:
    """Wait for a build that no lock tells of."""
    generation = store.Generation(Path(overlay))
    wait_for(lambda: generation.state() is store.State.READY, f"{overlay} to be ready")
    assert not faults(generation)


def _command(scene: Scene, lockless: Lockless, *words: str) -> subprocess.CompletedProcess[str]:
    """``jupyter overlay`` with these words, on the disk that keeps no locks."""
    command = [lockless.python, "-m", "kernel_provisioner.cli.app", *words]
    return subprocess.run(
        command, env=scene.env, cwd=REPOSITORY, capture_output=True, text=True, timeout=WITHIN, check=False
    )
