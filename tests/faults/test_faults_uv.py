"""Row 28: uv is missing, too old, hangs, or is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import uv

from kernel_provisioner.overlay import store
from tests.support.oracle import explains

from .scene import Scene, nobody_left

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
REAL = uv.find_uv_bin()
ANSWERS = f'[ "$1" = --version ] && exec {REAL} --version\n[ "$1" = cache ] && exec {REAL} "$@"\n'


class OwnUv:
    """A Python with all packages of this one, but a uv of its own: ``script``, or none."""

    def __init__(self, home: Path, script: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        site = next(home.glob("lib/python*/site-packages"))
        shutil.copytree(Path(uv.__file__).parent, site / "uv")  # which looks for its program near itself
        places = {str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        site.joinpath("all.pth").write_text("\n".join(places) + "\n")
        self.program = home / "bin/uv"
        if script:
            self.program.write_text(f"#!/bin/sh\n{script}\n")
            self.program.chmod(0o755)
        self.prefix = ("/bin/sh", "-c", f'shift; exec {home}/bin/python "$@"', "sh")


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("", "uv is not installed"),
        ("echo uv 0.4.30", r"uv 0\.4\.30 at .* is too old"),
        ("exit 127", "does not answer"),
        (f"{ANSWERS}kill -9 $$", "ended by signal 9"),
        (f"{ANSWERS}kill -11 $$", "ended by signal 11"),
    ],
    ids=["missing", "too old", "broken", "killed", "crashing"],
)
def test_a_uv_that_cannot_work_is_told_and_ready_overlays_start_without_it(
    scene: Scene, script: str, cause: str
) -> None:
    """The message names the program and the command that fixes it; what needs no uv goes on."""
    scene.bench.publish("needs-no-uv")  # once it is in the wheel store
    scene.bench.publish("needs-uv")
    ready, notebook = scene.notebook("needs-no-uv", name="ready"), scene.notebook("needs-uv")
    overlay = scene.launch(ready)["overlay"]
    own, oracle = OwnUv(scene.home / "own", script), scene.oracle()
    told = scene.launch(notebook, prefix=own.prefix)
    assert told["state"] != store.State.READY.value
    path = own.program if script else ""
    explains(told["failure"] or told["build"], cause=cause, step="pip install -U uv|try again", path=path)
    again = scene.launch(ready, prefix=own.prefix)
    assert (again["overlay"], again["failure"]) == (overlay, {})
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(28)
def test_a_uv_that_hangs_is_ended_with_all_that_it_started(scene: Scene) -> None:
    """The build ends within its deadline, and nobody is left behind."""
    scene.bench.publish("hanging")
    notebook, oracle = scene.notebook("hanging"), scene.oracle()
    own = OwnUv(scene.home / "own", f"{ANSWERS}sleep 1000 & wait")
    config = Path(scene.env["JUPYTER_CONFIG_DIR"]) / "jupyter_overlay_config.json"
    config.write_text('{"TorchPolicy": {"max_seconds": 3}}')
    try:
        told = scene.launch(notebook, prefix=own.prefix)
    finally:
        config.unlink()
    assert told["state"] == "failed"
    explains(told["build"], cause="3 seconds", step="max_seconds|UV_HTTP_TIMEOUT|try again")
    nobody_left(scene.root)
    nobody_left(own.program)
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)
