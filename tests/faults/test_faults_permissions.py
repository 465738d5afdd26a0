"""Rows 12 and 13: a base that is somebody else's, overlays that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import Bench
from tests.support.oracle import Oracle, explains
from tests.support.parts import need

from .scene import Scene, nobody_left

pytestmark = pytest.mark.root

SOMEBODY = 12345


@pytest.fixture
def plain() -> list[str]:
    """Words before a command that take root's powers from it: it owns its files, and permissions hold."""
    need(os.geteuid() == 0 and shutil.which("setpriv"), "giving a base to somebody takes root, and setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]


@pytest.fixture
def read_only(scene: Scene) -> Iterator[list[str]]:
    """Words of a command that makes the overlay root read-only; undone at the end."""
    scene.root.mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", scene.root, scene.root], check=True)
    yield ["mount", "-o", "remount,bind,ro", str(scene.root)]
    subprocess.run(["umount", "--lazy", scene.root], check=True)


def give(place: Path, uid: int) -> None:
    """Change who owns a tree."""
    for folder, names, files in os.walk(place):
        for name in [".", *names, *files]:
            os.chown(Path(folder, name), uid, uid, follow_symlinks=False)


@pytest.mark.fault(12)
@pytest.mark.parametrize("lock", [True, False], ids=["with its lock file", "without"])
def test_a_base_that_another_user_could_change_is_refused(
    scene: Scene, plain: list[str], *, lock: bool
) -> None:
    """By name. One that can only be read works: overlays run on it, and nothing is written there."""
    bench = Bench(scene.home / f"theirs-{lock}", scene.index)
    base = bench.base()
    bases = base.directory.parent
    base.lock_path.unlink(missing_ok=True)
    if lock:
        base.lock_path.touch(mode=0o644)
    scene.env["JUPYTER_DATA_DIR"] = str(bench.data_dir)
    bench.publish("mine")
    notebook = scene.notebook("mine")
    give(bases, SOMEBODY)
    told = scene.launch(notebook, prefix=plain)
    explains(told["failure"], cause="others can change", path=bases, step="jupyter overlay base create cpu")
    give(bases, os.getuid())
    bases.chmod(0o555)
    oracle = Oracle(bases=bases, overlays=scene.root, notebooks=scene.notebooks)
    before = sorted(bases.iterdir())
    overlay = scene.entered(notebook, prefix=plain)
    scene.serves(notebook, overlay, "mine", prefix=plain)
    oracle.unharmed()
    assert sorted(bases.iterdir()) == before


@pytest.mark.fault(13)
def test_a_read_only_disk_of_overlays_serves_what_is_ready(scene: Scene, read_only: list[str]) -> None:
    """Who needs nothing new starts; a build names the path, and works once the disk can be written."""
    scene.bench.publish("kept")
    notebook, other = scene.notebook("kept"), scene.notebook("kept", name="other")
    overlay = scene.entered(notebook)
    oracle = scene.oracle()
    nobody_left(scene.root)  # a builder that still compiles keeps the disk from becoming read-only
    subprocess.run(read_only, check=True)
    scene.serves(notebook, overlay, "kept")
    told = scene.launch(other)
    explains(told["failure"], cause="Read-only file system", path=scene.root, step="TORCH_OVERLAY_ROOT")
    oracle.unharmed()
    subprocess.run([word.replace(",ro", ",rw") for word in read_only], check=True)
    oracle.next_try(other, scene.env)


@pytest.mark.fault(13)
def test_overlays_without_permission_to_write_serve_what_is_ready(scene: Scene, plain: list[str]) -> None:
    """The same where the directories, and all in them, may only be read."""
    scene.bench.publish("kept")
    notebook, other = scene.notebook("kept"), scene.notebook("kept", name="other")
    overlay = scene.entered(notebook)
    oracle = scene.oracle()
    nobody_left(scene.root)
    modes = {path: path.stat().st_mode for path in [scene.root, *scene.root.rglob("*")] if path.is_dir()}
    for path in modes:
        path.chmod(0o500)
    scene.serves(notebook, overlay, "kept", prefix=plain)
    told = scene.launch(other, prefix=plain)
    explains(told["failure"], cause="Permission denied", path=scene.root, step="TORCH_OVERLAY_ROOT")
    for path, mode in modes.items():
        path.chmod(mode)
    oracle.unharmed()
    oracle.next_try(other, scene.env)


@pytest.mark.fault(13)
def test_overlays_of_somebody_else_are_refused_by_name(scene: Scene, plain: list[str]) -> None:
    """Ready or not: whoever owns them could have put anything there."""
    scene.bench.publish("kept")
    notebook = scene.notebook("kept")
    oracle = scene.oracle()
    assert scene.launch(notebook)["state"] == store.State.READY.value
    give(scene.root, SOMEBODY)
    told = scene.launch(notebook, prefix=plain)
    explains(told["failure"], cause="another user|others can change|belongs to", path=scene.root,
             step="TORCH_OVERLAY_ROOT")  # fmt: skip
    give(scene.root, os.getuid())
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)
