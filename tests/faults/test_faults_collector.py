"""Rows 21 and 24: the collector beside a launch, and clocks that are wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from tests.support.bases import REPOSITORY
from tests.support.holders import held
from tests.support.oracle import faults
from tests.support.parts import need
from tests.support.pauses import Paused
from tests.support.waiting import WITHIN, wait_for

from .scene import Scene

pytestmark = pytest.mark.slow

YEAR = 365 * 86400.0
CLOCKS = ("-365d", "+365d")


def prune(scene: Scene, *words: str, **more: str) -> str:
    """What ``jupyter overlay prune`` prints."""
    env = {"TORCH_OVERLAY_ROOT": str(scene.root), **more}
    return scene.bench.command("prune", *words, check=True, **env).stdout


@pytest.mark.fault(21)
def test_a_kernel_that_starts_while_the_collector_looks_keeps_its_overlay(scene: Scene) -> None:
    """It was nobody's when the collector chose it, and somebody's when it was about to go."""
    scene.bench.publish("marked")
    notebook, oracle = scene.notebook("marked"), scene.oracle()
    overlay = Path(scene.launch(notebook)["overlay"])
    paused = Paused(scene.home, "marked")
    with ThreadPoolExecutor(1) as pool:
        pruned = pool.submit(prune, scene, "--all", **paused.env)
        paused.reached()
        assert scene.launch(notebook)["overlay"] == str(overlay)
        with held(overlay / layout.USE_LOCK):  # as the kernel holds it that was launched
            paused.go()
            assert str(overlay) not in pruned.result()
            oracle.unharmed()
            assert not faults(store.Generation(overlay))
    prune(scene, "--all")
    assert not overlay.exists(), "now it is nobody's"


@pytest.mark.fault(21)
def test_a_launch_that_has_found_its_overlay_keeps_it(scene: Scene) -> None:
    """Between the look and the hold the notebook's directory is locked: the collector leaves it alone."""
    scene.bench.publish("found")
    notebook, oracle = scene.notebook("found"), scene.oracle()
    overlay = Path(scene.launch(notebook)["overlay"])
    paused = Paused(scene.home, "found")
    with scene.launching(notebook, paused.env) as launching:
        paused.reached()
        prune(scene, "--all")
        assert not faults(store.Generation(overlay))
        paused.go()
        told = launching.result()
    assert (told["overlay"], told["state"]) == (str(overlay), "ready")
    oracle.unharmed()


@pytest.mark.fault(21)
def test_a_launch_after_the_collector_has_an_overlay_of_its_own(scene: Scene) -> None:
    """What was collected is built again, all of it."""
    scene.bench.publish("collected")
    notebook, oracle = scene.notebook("collected"), scene.oracle()
    overlay = Path(scene.launch(notebook)["overlay"])
    paused = Paused(scene.home, "marked")
    with ThreadPoolExecutor(1) as pool:
        pruned = pool.submit(prune, scene, "--all", **paused.env)
        paused.reached()
        paused.go()
        with scene.launching(notebook) as launching:
            assert "overlays removed" in pruned.result()
            told = launching.result()
    assert told["state"] == "ready"
    assert not faults(store.Generation(Path(told["overlay"])))
    oracle.next_try(notebook, scene.env)
    assert overlay.parent == Path(told["overlay"]).parent


@pytest.mark.fault(24)
@pytest.mark.parametrize("shift", [-YEAR, YEAR], ids=["a year old", "of next year"])
def test_the_times_of_files_alone_collect_nothing(scene: Scene, shift: float) -> None:
    """A disk with another clock, a restored backup: what is ready stays; what is of the future is young."""
    scene.bench.publish("dated")
    notebook, oracle = scene.notebook("dated"), scene.oracle()
    overlay = Path(scene.launch(notebook)["overlay"])
    for path in (scene.root, *scene.root.rglob("*")):
        time = path.lstat().st_mtime + shift
        os.utime(path, (time, time), follow_symlinks=False)
    prune(scene)
    if shift > 0:
        prune(scene, "--older-than", "30")
    assert oracle.next_try(notebook, scene.env)["overlay"] == str(overlay)
    prune(scene, "--older-than", "30")
    assert overlay.exists(), "it was used just now"


@pytest.mark.fault(24)
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_is_a_year_off_changes_nothing(scene: Scene, clock: str) -> None:
    """A launch finds its overlay, another builds one, and the collector takes neither."""
    faketime = _faketime(clock)
    scene.bench.publish("timeless")
    notebook, oracle = scene.notebook("timeless"), scene.oracle()
    overlay = scene.launch(notebook)["overlay"]
    assert scene.launch(notebook, prefix=faketime)["overlay"] == overlay
    told = scene.launch(scene.notebook("timeless", name="another"), prefix=faketime)
    assert told["state"] == "ready", told["build"]
    command = [*faketime, sys.executable, "-m", "kernel_provisioner.cli.app", "prune"]
    subprocess.run(command, env=scene.env, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    assert Path(overlay).exists()
    assert Path(told["overlay"]).exists()
    for found in (overlay, told["overlay"]):
        assert not faults(store.Generation(Path(found)))
    (scene.notebooks / "another.ipynb").unlink()
    oracle.unharmed()


@pytest.mark.fault(24)
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_jumps_during_a_build_does_not_end_it(scene: Scene, clock: str) -> None:
    """Deadlines are counted by a clock that nobody can set."""
    _faketime(clock)
    scene.bench.publish("jumped")
    bench = scene.bench
    generation = bench.begin(bench.base(), "jumped", overlay_root=str(scene.root))
    paused, now = Paused(scene.home, "planned"), scene.home / "now"
    now.write_text("+0d")
    said = subprocess.run(["faketime", "-f", "+0d", "env"], capture_output=True, text=True, check=True).stdout
    (library,) = [line for line in said.splitlines() if line.startswith("LD_PRELOAD=")]
    clock_of = {
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    env = {**scene.env, **paused.env, **clock_of, "LD_PRELOAD": library.partition("=")[2]}
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=env, cwd=REPOSITORY) as builder:
        paused.reached()
        now.write_text(clock)
        paused.go()
        assert builder.wait(timeout=WITHIN) == 0
    wait_for(lambda: generation.state() is store.State.READY, "the overlay")
    assert not faults(generation)


def _faketime(clock: str) -> tuple[str, ...]:
    need(shutil.which("faketime"), "faketime (apt install faketime)")
    return ("faketime", "-f", clock)
