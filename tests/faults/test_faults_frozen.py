"""Rows 31 and 35: a builder or uv is stopped, and signals come at every phase of a cell that waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from tests.support.waiting import wait_for

from .scene import Scene, builders, installers, nobody_left

pytestmark = pytest.mark.fault(31)


def test_a_launch_begins_anew_beside_a_frozen_builder(scene: Scene) -> None:
    """Which has been silent for long; it is ended, and keeps nobody waiting who wants the same packages."""
    wheel = scene.bench.publish("frozen")
    scene.index.misbehave(f"/simple/{wheel.name}", "wait")
    notebook = scene.notebook("frozen")
    oracle = scene.oracle()
    with scene.launching(notebook):
        wait_for(lambda: any(one.path.endswith(wheel.name) for one in scene.index.asked), "the download")
        (builder,) = builders(scene.root)
        builder.suspend()
        (lock,) = scene.root.glob(f"*/0001/{layout.BUILDER_LOCK}")
        os.utime(lock, (0, 0))  # as long ago as can be
        scene.index.behave()
        again = oracle.next_try(notebook, scene.env)
        assert Path(again["overlay"]).name == "0003"
        assert not builder.is_running()
    nobody_left(scene.root)


@pytest.mark.slow  # half a minute of patience
def test_uv_that_is_frozen_is_ended_and_started_again(scene: Scene) -> None:
    """The build goes on by itself, and the overlay is whole."""
    wheel = scene.bench.publish("thawed")
    scene.index.misbehave(f"/simple/{wheel.name}", "wait")
    notebook = scene.notebook("thawed")
    oracle = scene.oracle()
    with scene.launching(notebook) as launch:
        wait_for(lambda: any(one.path.endswith(wheel.name) for one in scene.index.asked), "the download")
        (installer,) = installers(scene.root)
        installer.suspend()
        scene.index.behave()
        told = launch.result()
    assert (told["state"], Path(told["overlay"]).name) == ("ready", "0001"), told["build"]
    assert not installer.is_running()
    oracle.unharmed()


def test_links_to_a_cache_are_never_what_an_overlay_is_made_of(scene: Scene) -> None:
    """``UV_LINK_MODE=symlink`` would leave it ready and empty once the cache is cleaned."""
    scene.bench.publish("copied")
    notebook = scene.notebook("copied")
    overlay = Path(scene.launch(notebook, UV_LINK_MODE="symlink")["overlay"])
    found = list(overlay.rglob("copied/*.py"))
    assert found
    assert not [path for path in found if path.is_symlink()]
