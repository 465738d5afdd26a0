"""The provisioner as a server has it, with a note of what each of its steps does to the event loop.

A plug-in for a server that a test starts: ``install`` makes the directory for PYTHONPATH and the
kernel that uses it. A step is what a coroutine does between two awaits: for so long it has the loop.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

from jupyter_client.connect import KernelConnectionInfo

from kernel_provisioner.provisioner import TorchOverlayProvisioner

REPOSITORY = Path(__file__).parents[2]
NOTES = "TEST_WATCHED_NOTES"
"""The variable that names the file for the notes, a line of JSON for each step."""

DISK = "TEST_WATCHED_DISK"
"""Set where calls that look at the disk are noted, too, which takes its own time."""

_PACKAGE = str(REPOSITORY / "kernel_provisioner")
_HARMLESS = {
    "_path_normpath", "close", "fspath", "get_blocking", "getcwd", "getpid", "putenv", "unsetenv", "urandom",
    "waitpid",
}  # fmt: skip
"""Functions of the module posix that no disk is asked for."""


def install(directory: Path, kernels: Path, name: str = "watched") -> dict[str, str]:
    """Make the plug-in in ``directory`` and its kernel ``name`` in ``kernels``; variables for the server."""
    plugin = directory / "watched-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: watched\nVersion: 1.0\n")
    group = "jupyter_client.kernel_provisioners"
    (plugin / "entry_points.txt").write_text(f"[{group}]\nwatched = {__name__}:Watched\n")
    (kernels / name).mkdir(parents=True)
    stanza = {"provisioner_name": "watched", "config": {"accelerator": "cpu"}}
    spec = {"argv": ["python", "-f", "{connection_file}"], "display_name": name, "language": "python",
            "metadata": {"kernel_provisioner": stanza}}  # fmt: skip
    (kernels / name / "kernel.json").write_text(json.dumps(spec))
    return {"PYTHONPATH": f"{directory}{os.pathsep}{REPOSITORY}", NOTES: str(directory / "notes.jsonl")}


def notes(environ: dict[str, str]) -> list[dict[str, Any]]:
    """The steps so far: ``what``, ``cpu`` (seconds of the loop's thread), ``disk`` (calls)."""
    path = Path(environ[NOTES])
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Watched(TorchOverlayProvisioner):
    """Does what its parent does, and notes each step."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """As the parent's."""
        result: dict[str, Any] = await _Stepped("pre_launch", super().pre_launch(**kwargs))
        return result

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """As the parent's."""
        result: KernelConnectionInfo = await _Stepped("launch_kernel", super().launch_kernel(cmd, **kwargs))
        return result

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT002 - jupyter_client's signature
        """As the parent's."""
        await _Stepped("cleanup", super().cleanup(restart=restart))


class _Stepped:
    """An awaitable that drives another, step by step."""

    def __init__(self, what: str, coroutine: Awaitable[Any]) -> None:
        self.what, self.coroutine = what, coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.coroutine.__await__()
        go = lambda: next(steps)  # noqa: E731 - what to do next: go on, or raise there
        while True:
            try:
                waits_for = self._step(go)
            except StopIteration as end:
                return end.value
            try:
                sent = yield waits_for
                go = lambda sent=sent: steps.send(sent)  # type: ignore[misc] # noqa: E731
            except BaseException as error:  # a cancellation, for example: it is for the inner one
                go = lambda error=error: steps.throw(error)  # type: ignore[misc] # noqa: E731

    def _step(self, go: Any) -> Any:
        disk: list[str] = []
        if os.environ.get(DISK):
            sys.setprofile(_listener(disk))
        started = time.thread_time()
        try:
            return go()
        finally:
            took = time.thread_time() - started
            sys.setprofile(None)
            note = {"what": self.what, "cpu": took, "disk": disk, "thread": threading.current_thread().name}
            with Path(os.environ[NOTES]).open("a") as file:
                file.write(json.dumps(note) + "\n")


def _listener(disk: list[str]) -> Any:
    """Hears of calls into C, and keeps those that ask the disk on behalf of our package."""

    def hear(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and _asks_the_disk(argument) and (where := _ours(frame)):
            disk.append(f"{argument.__name__} by {where}")

    return hear


def _asks_the_disk(function: Any) -> bool:
    name, module = function.__name__, getattr(function, "__module__", "")
    return (module == "posix" and name not in _HARMLESS) or (module in ("io", "_io") and name == "open")


def _ours(frame: FrameType | None) -> str:
    """Where in our package a call comes from; empty where Jupyter's own code has asked for it."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            return f"{Path(file).name}:{frame.f_lineno}"
        if "jupyter" in file:
            return ""
        frame = frame.f_back
    return ""
