"""Row 30: odd names and paths, and the umasks of careless and of careful users."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import Workshop
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.oracle import faults

from .scene import Scene

pytestmark = pytest.mark.slow

NAMES = (
    "with blank", "it's", 'a "quoted" one', "two\nlines", "größe-日本-🔥", "a$HOME;b`id`", "-rf", "%s {0}",
    "x" * 249, "ü" * 124, "e\u0301", "\u202eevil", os.fsdecode(b"\xff\xfe no text"), ".hidden", "a\\b", "*?",
)  # fmt: skip
"""Names of notebooks; the long ones take 255 bytes, with their suffix."""


@pytest.mark.fault(30)
def test_a_notebook_of_any_name_has_its_overlay(scene: Scene) -> None:
    """One each, built and whole; none takes another's for its own."""
    scene.bench.publish("named")
    notebooks = [scene.notebook("named", name=name) for name in NAMES]
    oracle = scene.oracle()
    outcomes = launches(notebooks, scene.env, again=True)
    for name, told in zip(NAMES, outcomes, strict=True):
        assert (told["failure"], told["state"]) == ({}, "ready"), (name, told["build"])
    assert len({told["overlay"] for told in outcomes}) == len(NAMES)
    assert [told["overlay"] for told in launches(notebooks, scene.env)] == [
        told["overlay"] for told in outcomes
    ]
    oracle.unharmed()


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "name", ["with blank", 'it\'s "a"', "größe-日本", "a$HOME;b", "d" * 255, "two\nlines"]
)
def test_overlays_and_notebooks_lie_in_any_folder(scene: Scene, name: str) -> None:
    """The packages run from there, and the environment's own Python says so."""
    scene.bench.publish("placed")
    folder = scene.home / name
    notebook = write_notebook(folder / "work/a.ipynb", torch_env={"accelerator": "cpu", "extras": ["placed"]})
    oracle = scene.oracle()
    told = scene.launch(notebook, TORCH_OVERLAY_ROOT=str(folder / "overlays"))
    assert (told["failure"], told["state"]) == ({}, "ready"), told["build"]
    generation = store.Generation(Path(told["overlay"]))
    assert not faults(generation)
    command = [str(generation.python), "-c", "import sys, torch; sys.stdout.write(sys.prefix)"]
    ran = subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, check=True)
    assert ran.stdout == str(generation.path)
    oracle.unharmed()


@pytest.mark.fault(30)
@pytest.mark.parametrize("name", ["with blank", 'it\'s "a"', "größe-日本", "two\nlines"])
def test_a_base_lies_in_any_folder_that_python_itself_can_use(
    scene: Scene, tmp_path: Path, name: str
) -> None:
    """It works, or its creation says which path cannot hold one; nothing is half there."""
    home = tmp_path / name
    home.mkdir()
    shop = Workshop(home, scene.index)
    done = shop.command("base", "create", "cpu", "--installer", "uv", "--json", check=False)
    if "\n" in name:
        assert done.returncode != 0
        assert "line break" in done.stdout + done.stderr
        assert not list(shop.data_dir.glob("torch-bases/*/base.json"))
        return
    assert done.returncode == 0, done.stderr
    scene.bench.publish("on-odd-base")
    notebook = write_notebook(home / "a.ipynb", torch_env={"extras": ["on-odd-base"]})
    (told,) = launches([notebook], {**shop.env, "TORCH_OVERLAY_ROOT": str(home / "overlays")})
    assert (told["failure"], told["state"]) == ({}, "ready"), told["build"]
    assert not faults(store.Generation(Path(told["overlay"])))


@pytest.mark.fault(30)
@pytest.mark.parametrize("umask", ["000", "077"])
def test_private_stays_private_whatever_the_umask(scene: Scene, umask: str) -> None:
    """Nobody else can look into the overlays, and nobody else can change what is in them."""
    scene.bench.publish("masked")
    notebook, oracle = scene.notebook("masked"), scene.oracle()
    prefix = ("/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh")
    told = scene.launch(notebook, prefix=prefix)
    assert (told["failure"], told["state"]) == ({}, "ready"), told["build"]
    assert _mode(scene.root) == 0o700
    overlay = Path(told["overlay"])
    own = [path for path in overlay.rglob("*") if not path.is_symlink() and path.name != ".lock"]  # uv's
    assert own
    assert [path for path in own if _mode(path) & 0o022] == []
    assert _mode(overlay) == _mode(overlay.parent) == 0o700
    oracle.unharmed()
    assert oracle.next_try(notebook, scene.env)["overlay"] == str(overlay)


@pytest.mark.fault(30)
@pytest.mark.parametrize("umask", ["000", "077"])
def test_a_base_is_open_to_read_and_closed_to_write_whatever_the_umask(
    scene: Scene, tmp_path: Path, umask: str
) -> None:
    """Its own directories and files; who can change one of them could run code as everybody."""
    shop = Workshop(tmp_path / "home", scene.index)
    before = os.umask(int(umask, 8))
    try:
        base = shop.create("cpu").base
    finally:
        os.umask(before)
    places = [base.directory.parent, base.directory, *base.directory.rglob("*")]
    kept = [path for path in places if not path.is_symlink()]
    assert [path for path in kept if _mode(path) & 0o022] == []
    assert [path for path in kept if not _mode(path) & 0o004] == []


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
