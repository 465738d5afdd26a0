"""Row 32: what a kernel stands on is gone: a base's Python, its environment, or an overlay's own files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.registry import MANIFEST
from kernel_provisioner.inkernel.shared import layout
from tests.support.launches import launches
from tests.support.oracle import explains

from .scene import Scene

pytestmark = pytest.mark.fault(32)

OTHER = "cpu-torch2.6.0-py311-00000000"
GONE: dict[str, Callable[[Path], dict[str, Any]]] = {
    "its Python": lambda place: {"interpreter": str(place / "python3.11")},
    "its environment": lambda place: {"prefix": str(place / "venv")},
    "its packages": lambda place: {"site_dirs": [str(place / "site-packages")]},
}
"""What no longer is where a base's manifest says."""

DAMAGE: dict[str, Callable[[Path], object]] = {
    "no interpreter": lambda overlay: (overlay / "bin/python").unlink(),
    "a link to nothing": lambda overlay: _relink(overlay / "bin/python"),
    "an empty .pth": lambda overlay: _pth(overlay).write_text(""),
    "no .pth": lambda overlay: _pth(overlay).unlink(),
    "an empty pyvenv.cfg": lambda overlay: (overlay / "pyvenv.cfg").write_text(""),
}


@pytest.mark.parametrize("harm", DAMAGE)
def test_an_overlay_that_could_not_start_is_followed_by_a_new_one(scene: Scene, harm: str) -> None:
    """Its record says ready, and a kernel would die at every start: the next launch builds beside it."""
    scene.bench.publish("stands")
    notebook = scene.notebook("stands")
    oracle = scene.oracle()
    overlay = scene.entered(notebook)
    DAMAGE[harm](overlay)
    again = oracle.next_try(notebook, scene.env)
    assert Path(again["overlay"]) != overlay


@pytest.mark.parametrize("gone", GONE)
def test_a_base_that_could_not_start_gives_way_to_the_next(scene: Scene, gone: str) -> None:
    """Which fits as well; the first output says so, with the way to fix it."""
    scene.bench.publish("moves")
    notebook, env = scene.notebook("moves"), _registered(scene, GONE[gone](scene.home / "gone"), other=True)
    (told,) = launches([notebook], env)
    assert (told["failure"], told["state"], told["base"]["id"]) == ({}, "ready", OTHER), told
    first = scene.bench.base().manifest.id
    (notice,) = [line for line in told["notices"] if first in line]
    assert str(scene.home / "gone") in notice
    assert f"running on {OTHER}" in notice
    assert f"jupyter overlay base remove {first}" in notice


@pytest.mark.parametrize("gone", GONE)
def test_where_no_base_is_left_the_kernel_explains(scene: Scene, gone: str) -> None:
    """It starts, and every cell tells what is gone and how to have it again."""
    scene.bench.publish("waits")
    notebook, env = scene.notebook("waits"), _registered(scene, GONE[gone](scene.home / "gone"))
    (told,) = launches([notebook], env)
    assert told["overlay"] == ""
    explains(told["failure"], cause="is gone", step="base create cpu", path=scene.home / "gone")


def test_an_adopted_environment_that_is_gone_gives_way_too(scene: Scene) -> None:
    """It is asked again first, for it may have been made again in its place."""
    scene.bench.publish("adopts")
    lost = {"adopted": True, "prefix": str(scene.home / "gone"), "interpreter": str(scene.home / "gone/py")}
    notebook, env = scene.notebook("adopts"), _registered(scene, lost, other=True)
    (told,) = launches([notebook], env)
    assert (told["failure"], told["state"], told["base"]["id"]) == ({}, "ready", OTHER), told
    assert any(str(scene.home / "gone") in line for line in told["notices"])


def _registered(scene: Scene, lost: dict[str, Any], *, other: bool = False) -> dict[str, str]:
    """The bench's base, with a manifest that names what is gone; ``other``: and one that is whole."""
    base = scene.bench.base().directory
    places = {base.name: lost, **({OTHER: {"id": OTHER}} if other else {})}
    data = scene.home / "data"
    for name, changes in places.items():
        copy = data / "torch-bases" / name
        shutil.copytree(base, copy, ignore=lambda _, names: {"venv"} & set(names))
        manifest = json.loads((copy / MANIFEST).read_text())
        (copy / MANIFEST).write_text(json.dumps({**manifest, **changes}))
    shutil.copy(base.parent / "cpu.alias", data / "torch-bases")
    return {**scene.env, "JUPYTER_DATA_DIR": str(data)}


def _relink(python: Path) -> None:
    python.unlink()
    python.symlink_to("/gone/python3.11")


def _pth(overlay: Path) -> Path:
    (found,) = overlay.glob(f"lib/python*/site-packages/{layout.BASE_PATHS}.pth")
    return found
