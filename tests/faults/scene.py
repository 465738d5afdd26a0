"""A notebook about to be launched, and the processes that its launch starts: where faults are injected."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.settle import settle
from kernel_provisioner.overlay import store
from tests.support.bases import Bench
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.oracle import Oracle
from tests.support.waiting import patient, wait_for

GONE_WITHIN = patient(60.0)
"""Seconds for a process that was killed to be gone, on a busy machine."""


class Scene:
    """Notebooks and overlays of one test, on the bench that its module shares."""

    def __init__(self, bench: Bench, home: Path) -> None:
        self.bench, self.index, self.home = bench, bench.index, home
        self.notebooks, self.root = home / "notebooks", home / "overlays"
        self.env = {**bench.env, "TORCH_OVERLAY_ROOT": str(self.root)}
        bench.base()

    def notebook(self, *extras: str, name: str = "book") -> Path:
        """A notebook that asks for ``extras``."""
        told = {"accelerator": "cpu", "extras": list(extras)}
        return write_notebook(self.notebooks / f"{name}.ipynb", torch_env=told)

    def oracle(self) -> Oracle:
        """What bases and notebooks are now; to be asked after the fault."""
        bases = self.bench.data_dir / "torch-bases"
        return Oracle(bases=bases, overlays=self.root, notebooks=self.notebooks)

    def launch(self, notebook: Path, *, prefix: Sequence[str] = (), **more: str) -> dict[str, Any]:
        """Launch and wait for the build's end, and for that behind it; see ``support.launches``."""
        (told,) = launches([notebook], {**self.env, **more}, prefix=prefix, again=True)
        return told

    def launch_once(self, notebook: Path, **more: str) -> dict[str, Any]:
        """Launch and wait for the build's end alone."""
        (told,) = launches([notebook], {**self.env, **more})
        return told

    @contextlib.contextmanager
    def launching(self, notebook: Path, more: Mapping[str, str] | None = None) -> Iterator[Future[Any]]:
        """Launch once meanwhile; what was told is the future's result. Builds still running are killed."""
        with ThreadPoolExecutor(1) as pool:
            try:
                yield pool.submit(self.launch_once, notebook, **(more or {}))
            finally:
                self.index.behave()
                for process in builders(self.root):
                    process.kill()

    def entered(self, notebook: Path, *, prefix: Sequence[str] = ()) -> Path:
        """An overlay of ``notebook`` that is ready, and in which a cell has run."""
        overlay = Path(self.launch(notebook, prefix=prefix)["overlay"])
        settle(overlay, store.Generation(overlay).read(layout.OVERLAY))
        return overlay

    def serves(self, notebook: Path, overlay: Path, module: str, *, prefix: Sequence[str] = ()) -> None:
        """Assert that a launch still takes this overlay, and that a package can be imported there."""
        told = self.launch(notebook, prefix=prefix)
        assert (told["failure"], told["state"], told["overlay"]) == ({}, "ready", str(overlay))
        command = [*prefix, str(overlay / "bin/python"), "-c", f"import {module}; print('imported')"]
        done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        assert done.stdout == "imported\n", done.stderr


def limited(**limits: int) -> list[str]:
    """Words before a command that give its process limits, as ``fsize=4096`` or ``nofile=32``."""
    lines = [
        f"resource.setrlimit(resource.RLIMIT_{name.upper()}, ({most}, {most}))"
        for name, most in limits.items()
    ]
    code = "\n".join(["import os, resource, sys", *lines, "os.execv(sys.argv[1], sys.argv[1:])"])
    return [sys.executable, "-c", code]


def processes(place: Path) -> list[psutil.Process]:
    """The living processes whose command line names something under ``place``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(place) in word for word in process.cmdline()):
                found.append(process)
    return found


def builders(place: Path) -> list[psutil.Process]:
    """The builders at work under ``place``."""
    return [process for process in processes(place) if _named(process, "kernel_provisioner.builder")]


def installers(place: Path) -> list[psutil.Process]:
    """The uv processes at work under ``place``."""
    return [process for process in processes(place) if _named(process, "uv", last=True)]


def nobody_left(place: Path, *, within: float = GONE_WITHIN) -> None:
    """Wait until no process works under ``place`` any more."""
    wait_for(lambda: not processes(place), f"the end of all that works in {place}", within=within)


def _named(process: psutil.Process, name: str, *, last: bool = False) -> bool:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return Path(words[0]).name == name if last else name in words
    return False
