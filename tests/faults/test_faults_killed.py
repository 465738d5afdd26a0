"""Rows 1 to 4, 6 and 8: a builder is killed, and what it leaves is never taken for an overlay."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from kernel_provisioner.overlay import store
from tests.support.launches import followed
from tests.support.pauses import Paused
from tests.support.waiting import wait_for

from .scene import Scene, builders, installers, nobody_left, processes

FILES = "*/0001/staging/lib*/python*/site-packages/large*/*"
"""What uv copies. (It makes the directories above also where it then finds nothing in its cache.)"""


def collected(scene: Scene, left: str) -> None:
    """Let the collector run; of the notebook's generations it keeps only ``left``."""
    scene.bench.command("prune", TORCH_OVERLAY_ROOT=str(scene.root))
    assert [path.name for path in scene.root.glob("*/[0-9]*")] == [left]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("begun", marks=pytest.mark.fault(1)),
        pytest.param("laid out", marks=pytest.mark.fault(1)),
        pytest.param("planned", marks=pytest.mark.fault(2)),
        pytest.param("unpacked", marks=pytest.mark.fault(3)),
        pytest.param("verified", marks=pytest.mark.fault(4)),
    ],
)
def test_a_builder_killed_on_its_way_is_followed_by_another(scene: Scene, point: str, tmp_path: Path) -> None:
    """Killed at ``point``: not ready; the next launch builds beside it, and the collector takes the rest."""
    scene.bench.publish("killed")
    notebook, paused = scene.notebook("killed"), Paused(tmp_path, point)
    oracle = scene.oracle()
    with scene.launching(notebook, paused.env) as launch:
        psutil.Process(paused.reached()).kill()
        told = launch.result()
    assert told["state"] == store.State.ABANDONED.value
    oracle.unharmed()
    again = oracle.next_try(notebook, scene.env)
    assert Path(again["overlay"]).name == "0003"
    collected(scene, "0003")
    oracle.unharmed()


@pytest.mark.fault(2)
def test_a_builder_killed_during_a_download_takes_the_downloader_along(scene: Scene) -> None:
    """Nobody goes on fetching for an overlay that will never be."""
    wheel = scene.bench.publish("fetching")
    scene.index.misbehave(f"/simple/{wheel.name}", "hang")
    notebook = scene.notebook("fetching")
    oracle = scene.oracle()
    with scene.launching(notebook) as launch:
        wait_for(lambda: any(one.path.endswith(wheel.name) for one in scene.index.asked), "the download")
        builders(scene.root)[0].kill()
        assert launch.result()["state"] == store.State.ABANDONED.value
        nobody_left(scene.root)
    oracle.unharmed()
    assert Path(oracle.next_try(notebook, scene.env)["overlay"]).name == "0003"
    collected(scene, "0003")


@pytest.mark.fault(3)
def test_a_half_unpacked_overlay_is_never_used(scene: Scene, tmp_path: Path) -> None:
    """uv is stopped while it copies, and everything is killed: the files that are there count for nothing."""
    names = [f"large-{number}" for number in range(4)]
    for name in names:
        scene.bench.publish(name, files={f"{name}/data.bin": bytes(60_000_000), f"{name}/__init__.py": ""})
    notebook, paused = scene.notebook(*names), Paused(tmp_path, "unpacked")  # the latest that it may get to
    oracle = scene.oracle()
    with scene.launching(notebook, {**paused.env, "UV_LINK_MODE": "copy"}) as launch:
        wait_for(lambda: any(scene.root.glob(FILES)), "the first files", poll=0.001)
        for process in installers(scene.root):
            process.suspend()
        builders(scene.root)[0].kill()
        assert launch.result()["state"] == store.State.ABANDONED.value
        nobody_left(scene.root)
    assert any(scene.root.glob(FILES))
    oracle.unharmed()
    assert Path(oracle.next_try(notebook, scene.env)["overlay"]).name != "0001"


@pytest.mark.fault(6)
def test_an_installer_that_outlives_its_builder_writes_where_nobody_looks(scene: Scene) -> None:
    """Even where its guard is killed too: the next overlay is another directory, and whole."""
    wheel = scene.bench.publish("orphaned", files={"orphaned/__init__.py": "", "orphaned/data.bin": bytes(9)})
    scene.index.misbehave(f"/simple/{wheel.name}", "wait")
    notebook = scene.notebook("orphaned")
    oracle = scene.oracle()
    with scene.launching(notebook) as launch:
        wait_for(lambda: any(one.path.endswith(wheel.name) for one in scene.index.asked), "the download")
        (builder,), (installer,) = builders(scene.root), installers(scene.root)
        for guard in builder.children():
            if guard != installer:
                guard.kill()
        builder.kill()
        assert launch.result()["state"] == store.State.ABANDONED.value
        assert processes(scene.root) == [installer]
        with scene.launching(notebook) as again:  # which lets the index answer both at the end
            wait_for(lambda: builders(scene.root), "the next builder")
            scene.index.behave()
            told = again.result()
            followed(store.Generation(Path(told["overlay"])))
        nobody_left(scene.root)
    assert (told["state"], Path(told["overlay"]).name) == ("ready", "0002")
    oracle.unharmed()
    collected(scene, "0003")
    oracle.unharmed()


@pytest.mark.fault(8)
def test_a_launch_that_comes_as_its_builder_leaves_begins_anew(scene: Scene, tmp_path: Path) -> None:
    """It saw that somebody builds; before it could hold the overlay that one was gone, for nobody waited."""
    wheel = scene.bench.publish("leaving")
    scene.index.misbehave(f"/simple/{wheel.name}", "wait")
    notebook, paused = scene.notebook("leaving"), Paused(tmp_path, "found")
    oracle = scene.oracle()
    with scene.launching(notebook) as first:
        wait_for(lambda: any(one.path.endswith(wheel.name) for one in scene.index.asked), "the download")
        with scene.launching(notebook, paused.env) as second:
            joining = paused.reached()
            for launcher in psutil.Process().children():
                if launcher.pid != joining:
                    launcher.kill()
            assert first.exception() is not None
            nobody_left(scene.root)
            scene.index.behave()
            paused.go()
            told = second.result()
    assert (told["state"], Path(told["overlay"]).name) == ("ready", "0002")
    oracle.unharmed()
