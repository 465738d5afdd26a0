"""Row 27: what can become of a notebook's file, before a launch and during one."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.launches import launches
from tests.support.oracle import Oracle
from tests.support.parts import need

from .scene import Scene

pytestmark = pytest.mark.slow


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


FATES: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (Path.unlink, "No such file"),
    "renamed": (lambda path: path.rename(path.with_suffix(".txt")), "No such file"),
    "forbidden": (lambda path: path.chmod(0), "Permission denied"),
    "a gigabyte": (lambda path: os.truncate(path, 1 << 30), "the limit is"),
    "binary": (lambda path: path.write_bytes(os.urandom(3 << 20)), "cannot be read"),
    "half a notebook": (lambda path: os.truncate(path, path.stat().st_size // 2), "it is not JSON"),
    "a pipe": (_instead(os.mkfifo), "a named pipe"),
    "a socket": (_socket, "a socket"),
    "a folder": (_instead(Path.mkdir), "a directory"),
    "an endless device": (_instead(lambda path: path.symlink_to("/dev/zero")), "a device"),
    "a link to nothing": (_instead(lambda path: path.symlink_to("nowhere")), "No such file"),
}
"""What becomes of it, and what the kernel is told."""


@pytest.mark.fault(27)
def test_a_notebook_that_cannot_be_read_starts_on_the_base_alone(scene: Scene) -> None:
    """One line says why; the program waits for nobody, and once the file is back, so are its extras."""
    scene.bench.publish("readable")
    notebooks = [scene.notebook("readable", name=name) for name in FATES]
    whole = notebooks[0].read_bytes()
    scene.launch(notebooks[0])
    for notebook, (fate, _) in zip(notebooks, FATES.values(), strict=True):
        fate(notebook)
    oracle = scene.oracle()
    outcomes = launches(notebooks, scene.env, prefix=_without_privilege())
    for (name, (_, why)), notebook, told in zip(FATES.items(), notebooks, outcomes, strict=True):
        assert (told["failure"], told["state"]) == ({}, "ready"), name
        (notice,) = told["notices"][:1]
        assert notice.startswith(f"the notebook {notebook} cannot be read"), name
        assert why in notice, name
        assert "base alone" in notice, name
    oracle.unharmed()
    for notebook in notebooks:
        with suppress(FileNotFoundError):
            notebook.rmdir() if notebook.is_dir() else notebook.unlink()
        notebook.write_bytes(whole)
    for told in launches(notebooks, scene.env):
        assert (told["notices"], told["state"]) == ([], "ready")


@pytest.mark.fault(27)
@pytest.mark.parametrize("how", ["replaced", "in place"])
def test_a_notebook_that_is_rewritten_meanwhile_is_read_as_one_or_the_other(scene: Scene, how: str) -> None:
    """As editors save it, or as a script truncates and writes it: one state, or a notice; never a fault."""
    scene.bench.publish("rewritten")
    notebook = scene.notebook("rewritten")
    texts = [notebook.read_bytes(), scene.notebook(name="plain").read_bytes()]
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for text in texts:
                if how == "in place":
                    notebook.write_bytes(text)
                else:
                    beside = notebook.with_suffix(".tmp")
                    beside.write_bytes(text)
                    beside.replace(notebook)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        outcomes = launches([notebook] * 25, scene.env)
    finally:
        stop.set()
        writer.join()
    for told in outcomes:
        assert (told["failure"], told["state"]) == ({}, "ready"), told["build"]
        if how == "replaced":
            assert told["notices"] == []
        assert all("cannot be read" in notice for notice in told["notices"])
    notebook.write_bytes(texts[0])
    oracle = Oracle(
        bases=scene.bench.data_dir / "torch-bases", overlays=scene.root, notebooks=scene.notebooks
    )
    oracle.next_try(notebook, scene.env)


def _without_privilege() -> tuple[str, ...]:
    """Words before a command that take root's right to read every file; none for anybody else."""
    if os.getuid():
        return ()
    need(shutil.which("setpriv"), "setpriv (util-linux)")
    gone = "-dac_override,-dac_read_search"
    return ("setpriv", f"--inh-caps={gone}", f"--bounding-set={gone}")
