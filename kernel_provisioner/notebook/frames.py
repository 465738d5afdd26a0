"""Programs that hand no notebook to the kernel: find theirs on the call stack.

Most start kernels through nbclient, which says nothing of the notebook; some keep it in a task. Who
waits for the kernel holds the notebook, or its name. Everything that knows the insides of these
programs is here. Seen in nbclient 0.11, nbconvert 7.17, papermill 2.7, nbmake 1.5, jupytext 1.19,
jupyter-cache 1.0, myst-nb 1.4, nbval 0.11, euporie 2.10, voila 0.5.13, jupyter_client 8.10 and
jupyter_server 2.21.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any


@dataclasses.dataclass(frozen=True)
class _Program:
    """Where a frame of a module holds the notebook that is run (empty: nowhere), and the name of its file.

    The name may be a list of one: a program that runs several files in one kernel has no notebook.

    ``in_cells``: what the kernel says of itself goes into the notebook's outputs.
    """

    name: str
    module: str
    notebook: str
    path: str
    in_cells: bool = False


_PROGRAMS = (
    # Its output is the record of one run, which is to say what it ran on. The others' outputs are
    # published, committed, compared or thrown away.
    _Program("papermill", "papermill.execute", "nb", "input_path", in_cells=True),
    _Program("jupyter execute", "nbclient.cli", "nb", "input_path"),
    _Program("nbmake", "nbmake.nb_run", "nb", "self.filename"),
    _Program("jupytext", "jupytext.cli", "notebook", "nb_file"),
    _Program("jupyter-cache", "jupyter_cache.executors.basic", "project_nb.nb", "project_nb.uri"),
    _Program("myst-nb", "myst_nb.core.execute.cache", "self.notebook", "self.path"),
    _Program("myst-nb", "myst_nb.core.execute.direct", "self.notebook", "self.path"),
    _Program("myst-nb", "myst_nb.core.execute.inline", "self.notebook", "self.path"),
)

_STARTERS: Mapping[str, tuple[str, tuple[_Program, ...]]] = {
    "nbclient.client": ("self.km", _PROGRAMS),
    "nbval.kernel": ("km", (_Program("nbval", "nbval.plugin", "self.nb", "self.fspath"),)),
    "euporie.core.kernel.jupyter": (
        "self.km",
        (_Program("euporie", "euporie.core.kernel.jupyter", "", "self.kernel_tab.path", in_cells=True),),
    ),
    # Consoles start kernels here too, and have no files to run.
    "jupyter_client.consoleapp": (
        "self.kernel_manager",
        (_Program("jupyter run", "jupyter_client.consoleapp", "", "self.filenames_to_run"),),
    ),
}
"""Modules that start kernels: where in their frames the kernel manager is, and which programs this may be."""

_RUNNER = " - runner"
"""How jupyter_core calls the thread that runs coroutines for another: that one's name, and this."""


@dataclasses.dataclass(frozen=True)
class RunningClient:
    """The notebook that a program has in memory, its file where it is known, and the program.

    ``in_cells``: whether the kernel may speak of itself in the notebook's outputs.
    """

    notebook: Mapping[str, object] | None
    path: Path | None
    name: str
    in_cells: bool = False


def calling_frames() -> Iterator[FrameType]:
    """The frames of the caller, innermost first, then those of the threads that wait for it.

    jupyter_core runs a coroutine in a thread of its own where the runner was itself called from a coroutine
    (papermill in a notebook's cell, for example). It names that thread after the one that waits.
    The frames of a thread that goes on running are never read: they may be gone meanwhile, and what is
    there instead may be no frame (seen in 3.11.7, and https://github.com/python/cpython/issues/152355).
    """
    yield from _stack(sys._getframe(1))  # noqa: SLF001 - its documented use is to look at the callers
    name = threading.current_thread().name
    while name.endswith(_RUNNER):
        name = name.removesuffix(_RUNNER)
        waiting = [thread.ident or 0 for thread in threading.enumerate() if thread.name == name]
        innermost = sys._current_frames()  # noqa: SLF001 - likewise
        for thread in waiting:
            yield from _stack(innermost.get(thread))


def running_client(stack: Sequence[FrameType], kernel_manager: object) -> RunningClient | None:
    """The program that is starting ``kernel_manager``'s kernel, with the notebook that it runs."""
    for frame in stack:
        manager, programs = _STARTERS.get(frame.f_globals.get("__name__", ""), ("", ()))
        if manager and _held(frame, manager) is kernel_manager:
            running = _running(stack, programs)
            if programs is not _PROGRAMS:
                return next(running, None)
            client = frame.f_locals["self"]
            return next((found for found in running if found.notebook is client.nb), _of_nbclient(client))
    return None


def requested_path(stack: Sequence[FrameType], kernel_manager: object) -> str:
    """The path that a Jupyter server was asked to start ``kernel_manager``'s kernel for, without a session.

    ``POST /api/kernels`` takes it, and passes only its directory on. The kernel is started in a task, for
    which the request waits in another; or, with the synchronous kernel manager, in a thread.
    """
    tasks = ([*_awaiting(task)][::-1] for task in asyncio.all_tasks())
    paths = (_requested(frames, kernel_manager) for frames in itertools.chain((stack,), tasks))
    return next(filter(None, paths), "")


def pooled_notebook(kernel_manager: object) -> str | None:
    """The notebook that a voila server warms ``kernel_manager``'s kernel for, relative to its root.

    The pool keeps a task for each kernel; the one that waits for this kernel knows the notebook.
    """
    pools = getattr(getattr(kernel_manager, "parent", None), "_pools", {})
    for notebook, tasks in pools.items():
        for task in tasks:
            if any(frame.f_locals.get("km") is kernel_manager for frame in _awaiting(task)):
                return str(notebook)
    return None


def _of_nbclient(client: Any) -> RunningClient:
    """What nbclient itself knows, and nbconvert tells it."""
    metadata = client.resources.get("metadata", {})
    if metadata.get("name"):
        path = _existing(Path(metadata.get("path") or "", f"{metadata['name']}.ipynb"))
        return RunningClient(client.nb, path, "nbconvert")
    return RunningClient(client.nb, None, "nbclient")


def _running(stack: Sequence[FrameType], programs: Sequence[_Program]) -> Iterator[RunningClient]:
    """What the frames of these programs hold, innermost first."""
    known = {program.module: program for program in programs}
    for frame in stack:
        program = known.get(frame.f_globals.get("__name__", ""))
        notebook = _held(frame, program.notebook) if program else None
        name = _held(frame, program.path) if program else None
        if program and (isinstance(notebook, Mapping) or (not program.notebook and name is not None)):
            name = name[0] if isinstance(name, list) and len(name) == 1 else name
            path = _existing(_start_directory() / name) if isinstance(name, str | os.PathLike) else None
            yield RunningClient(notebook, path, program.name, program.in_cells)


def _held(frame: FrameType, name: str) -> Any:
    """The value of a dotted name in a frame, None where there is none."""
    first, *attributes = name.split(".")
    value = frame.f_locals.get(first)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value


def _requested(stack: Sequence[FrameType], kernel_manager: object) -> str:
    """The path in the frame of a server that waits for the start of this kernel."""
    waits = False
    for frame in stack:
        module = frame.f_globals.get("__name__", "")
        if module == "jupyter_client.multikernelmanager":
            waits = waits or frame.f_locals.get("km") is kernel_manager
        elif waits and module == "jupyter_server.services.kernels.kernelmanager":
            return str(frame.f_locals.get("path") or "")
    return ""


def _start_directory() -> Path:
    """Where relative names started from: papermill may run a notebook in another directory."""
    io = getattr(sys.modules.get("papermill.iorw"), "papermill_io", None)
    directory = getattr(io.get_handler("local"), "_cwd", None) if io else None
    return Path(directory or Path.cwd())


def _existing(path: Path) -> Path | None:
    return path.absolute() if os.path.isfile(path) else None  # noqa: PTH113 - never raises, is_file may


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaiting(task: Any) -> Iterator[FrameType]:
    """The frames of the coroutines that ``task`` is suspended in, outermost first."""
    coroutine = None if task.done() else task.get_coro()
    while coroutine is not None:
        if getattr(coroutine, "cr_frame", None) is not None:
            yield coroutine.cr_frame
        coroutine = getattr(coroutine, "cr_await", None)
