"""Row 37: the wheel store, killed while it is filled, deleted under a kernel, on other disks, read-only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.inkernel.shared.disk import usage
from kernel_provisioner.overlay import store
from kernel_provisioner.store import entry as entries
from kernel_provisioner.store.fill import remove
from tests.support.parts import need
from tests.support.pauses import Paused
from tests.support.waiting import WITHIN, wait_for

from .scene import Scene, nobody_left, processes

pytestmark = pytest.mark.fault(37)

BIG = 3_000_000
"""Bytes of a package that nobody wants a second time."""

Mounted = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mounted]:
    """Mounts a disk of memory with this name; called again with ``NAME:ro``, nothing can be written to it."""
    need(os.geteuid() == 0, "mounting a disk takes root")
    there: list[Path] = []

    def mount(name: str) -> Path:
        name, _, only = name.partition(":")
        place = tmp_path / name
        options = f"remount,{only}" if only else "size=60m,mode=700"
        if not only:
            place.mkdir()
            there.append(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        return place

    yield mount
    for place in there:
        subprocess.run(["umount", "--lazy", place], check=True)


def wheels(scene: Scene) -> Path:
    """The store of this scene."""
    return scene.root / store.WHEELS


@contextlib.contextmanager
def held(place: Path) -> Iterator[None]:
    """Have a lock on a directory."""
    directory = os.open(place, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    yield
    os.close(directory)


def all_intact(scene: Scene) -> int:
    """Assert that each entry of the store is whole; their number."""
    there = [path for path in wheels(scene).iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert all(map(entries.intact, there))
    return len(there)


@pytest.mark.parametrize("point", ["filled", "unpacked-wheel", "published-wheel"])
def test_whoever_is_killed_while_filling_leaves_whole_entries_alone(
    scene: Scene, tmp_path: Path, point: str
) -> None:
    """Some are there and others not; the next build fills the rest, and the collector takes the leavings."""
    names = [f"filled-{point}-{number}" for number in range(3)]
    for name in names:
        scene.bench.publish(name)
    notebook, paused = scene.notebook(*names), Paused(tmp_path, point)
    oracle = scene.oracle()
    with scene.launching(notebook, paused.env) as launch:
        assert launch.result()["state"] == store.State.READY.value, "the store is filled behind it"
        psutil.Process(paused.reached()).kill()
    whole = all_intact(scene)
    assert whole == {"published-wheel": 1}.get(point, 0)
    oracle.next_try(notebook, scene.env)
    assert all_intact(scene) == 3
    scene.bench.command("prune", TORCH_OVERLAY_ROOT=str(scene.root))
    assert list(wheels(scene).glob(".new-*")) == []
    assert all_intact(scene) == 3
    oracle.unharmed()


def test_whoever_is_killed_while_replacing_a_damaged_entry_leaves_a_gap(scene: Scene, tmp_path: Path) -> None:
    """Between the old one's way out and the new one's way in there is none; the next build puts it there."""
    scene.bench.publish("replaced-late")
    notebook, other = scene.notebook("replaced-late"), scene.notebook("replaced-late>=1", name="other")
    overlay = scene.entered(notebook)
    (path,) = store.Generation(overlay).entries
    site = Path(path, "site")
    site.chmod(0o755)
    (site / "planted.py").touch()
    paused = Paused(tmp_path, "replacing-wheel")
    with scene.launching(other, paused.env) as launch:
        assert launch.result()["state"] == store.State.READY.value, "the store is filled behind it"
        psutil.Process(paused.reached()).kill()
    assert not Path(path).exists()
    scene.oracle().next_try(other, scene.env)
    assert all_intact(scene) == 1
    scene.serves(notebook, overlay, "replaced_late")


def test_compiling_that_is_killed_is_taken_up_by_the_next_build(scene: Scene) -> None:
    """Half of the bytecode serves, and no mark says that it is whole."""
    count = 3000
    files: dict[str, str | bytes] = {
        f"slow/part{number}.py": f"x = {number}\n" * 20 for number in range(count)
    }
    scene.bench.publish("slow", files={**files, "slow/__init__.py": ""})
    wheels(scene).mkdir(parents=True)
    with held(wheels(scene)):  # who compiles waits for it
        overlay = scene.entered(scene.notebook("slow"))
        (path,) = map(Path, store.Generation(overlay).entries)
        wait_for(lambda: processes(path), "the bytecode's turn")
        (compiling,) = processes(path)
    cache = path / "site/slow/__pycache__"
    wait_for(lambda: any(cache.iterdir()), "the first bytecode", poll=0.001)
    compiling.kill()
    assert not (path / entries.COMPILED).exists()
    assert len(list(cache.iterdir())) < count
    scene.serves(scene.notebook("slow"), overlay, "slow.part0")
    scene.entered(scene.notebook("slow", name="again"))
    wait_for((path / entries.COMPILED).exists, "the rest to be compiled")
    assert len([name for name in cache.iterdir() if name.suffix == ".pyc"]) == count + 1
    assert all_intact(scene) == 1


def test_an_entry_deleted_under_a_kernel_is_there_again_at_the_next_launch(scene: Scene) -> None:
    """What runs keeps what it has imported, and finds the rest again once the notebook is restarted."""
    scene.bench.publish(
        "pulled-away", files={"pulled_away/__init__.py": "", "pulled_away/late.py": "x = 7\n"}
    )
    notebook = scene.notebook("pulled-away")
    overlay = scene.entered(notebook)
    code = (
        "import pulled_away; print('imported', flush=True); input()\n"
        "try: import pulled_away.late\n"
        "except ImportError: print('gone', flush=True)\n"
        "input(); import importlib; importlib.invalidate_caches()\n"
        "import pulled_away.late; print(pulled_away.late.x, flush=True)"
    )
    command = [str(overlay / "bin/python"), "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin
        assert running.stdout
        assert running.stdout.readline() == "imported\n"
        (path,) = store.Generation(overlay).entries
        remove(Path(path))
        running.stdin.write("\n")
        running.stdin.flush()
        assert running.stdout.readline() == "gone\n"
        told = scene.launch_once(notebook)
        assert (told["state"], Path(told["overlay"]).name) == ("ready", "0001"), "which has files"
        wait_for(lambda: entries.are_there([path]), "the store is filled behind it")
        running.stdin.write("\n")
        running.stdin.flush()
        assert running.communicate(timeout=WITHIN)[0] == "7\n"
    assert all_intact(scene) == 1


@pytest.mark.root
def test_overlays_on_another_disk_than_uvs_cache_cost_links_alone(scene: Scene, disk: Mounted) -> None:
    """One copy for all of them; a project on a third disk is linked too, and an install by hand copies."""
    scene.bench.publish("on-disk", files={"on_disk/__init__.py": "", "on_disk/sub/data": os.urandom(BIG)})
    scene.bench.publish("on-disk-too", files={"on_disk/sub/more": ""})
    scene.root = disk("overlays")
    scene.env |= {"TORCH_OVERLAY_ROOT": str(scene.root), "UV_CACHE_DIR": str(scene.home / "cache")}
    for name in ("one", "two"):
        overlay = scene.entered(scene.notebook("on-disk", name=name))
        assert usage([overlay]).own_bytes < BIG / 2
    assert BIG < usage([scene.root]).own_bytes < 2 * BIG
    project = scene.home / "project"
    scene.bench.env |= scene.env
    scene.bench.command("venv", str(project), "--base", "cpu", "on-disk")
    assert usage([project]).own_bytes < BIG / 2
    uv = str(project / "bin/uv")
    subprocess.run(
        [uv, "pip", "install", "on-disk-too"],
        env={**scene.env, "VIRTUAL_ENV": str(project)},
        cwd="/",
        check=True,
    )
    assert usage([project]).own_bytes > BIG
    code = "import on_disk, os; print(sorted(os.listdir(on_disk.__path__[0] + '/sub')))"
    done = subprocess.run([project / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['data', 'more']\n"
    assert all_intact(scene) == 1


@pytest.mark.root
def test_a_shared_store_on_a_read_only_disk_of_its_own_serves(scene: Scene, disk: Mounted) -> None:
    """Filled, then mounted read-only, as an image is: linked to, and imported with its bytecode."""
    scene.bench.publish(
        "from-image", files={"from_image/__init__.py": "", "from_image/data": os.urandom(BIG)}
    )
    listed = scene.home / "requirements.txt"
    listed.write_text("from-image\n")
    place = disk("image") / "torch-store"
    scene.bench.command(
        "prebuild", "--store", str(place), str(listed), TORCH_OVERLAY_ROOT=str(scene.home / "admin")
    )
    disk("image:ro")
    scene.env["TORCH_OVERLAY_STORES"] = str(place)
    notebook = scene.notebook("from-image")
    overlay = scene.entered(notebook)
    assert usage([scene.root]).own_bytes < BIG / 2
    scene.serves(notebook, overlay, "from_image")
    code = "import from_image as f; print(f.__cached__)"
    done = subprocess.run([overlay / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert Path(os.path.realpath(done.stdout.strip())).is_relative_to(place)


@pytest.mark.root
def test_a_store_that_has_become_read_only_serves_ready_notebooks(scene: Scene, disk: Mounted) -> None:
    """They start and import; a new one is told that nothing can be written there."""
    scene.bench.publish("frozen-store")
    scene.root = disk("frozen")
    scene.env["TORCH_OVERLAY_ROOT"] = str(scene.root)
    notebook, other = scene.notebook("frozen-store"), scene.notebook("frozen-store", name="other")
    overlay = scene.entered(notebook)
    nobody_left(scene.root)
    disk("frozen:ro")
    scene.serves(notebook, overlay, "frozen_store")
    told = scene.launch(other)
    assert "nothing can be written" in told["failure"]["what"], told
