"""Batch runners that hand no notebook to the kernel: find theirs on the call stack.

nbclient, and with it ``jupyter execute``, nbconvert and papermill, starts a kernel without saying
for which notebook; voila's kernel pool does too. The runner waits on the stack while it starts the
kernel, and holds the notebook. Everything that knows the insides of these programs is here.
Seen in nbclient 0.11, nbconvert 7.17, papermill 2.7 and voila 0.5.13.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

_OPENED = {"nbclient.cli": "jupyter execute", "papermill.execute": "papermill"}
"""Modules with a function that reads the notebook ``input_path`` into ``nb``, and who they are."""


def calling_frames() -> Iterator[FrameType]:
    """The frames of the caller, innermost first, then those of every other thread.

    The others count because jupyter_core runs a coroutine in a thread of its own where the runner
    was itself called from a coroutine (papermill in a notebook's cell, for example).
    """
    yield from _stack(sys._getframe(1))  # noqa: SLF001 - its documented use is to look at the callers
    for thread, frame in sys._current_frames().items():  # noqa: SLF001 - likewise
        if thread != threading.get_ident():
            yield from _stack(frame)


def running_client(
    frames: Iterable[FrameType], kernel_manager: object
) -> tuple[Mapping[str, object], Path | None, str] | None:
    """The notebook, its path if known, and the runner that is starting ``kernel_manager``'s kernel."""
    stack = list(frames)
    try:
        for frame in stack:
            if frame.f_globals.get("__name__") == "nbclient.client":
                client = frame.f_locals.get("self")
                if client is not None and getattr(client, "km", None) is kernel_manager:
                    return client.nb, *_origin(client, stack)
        return None
    finally:
        stack.clear()  # it holds this very frame: a cycle that would keep every caller's values alive


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


def _origin(client: Any, stack: list[FrameType]) -> tuple[Path | None, str]:
    for frame in stack:
        runner = _OPENED.get(frame.f_globals.get("__name__", ""))
        if runner and frame.f_locals.get("nb") is client.nb:
            name = frame.f_locals.get("input_path")
            return (_existing(_start_directory() / name) if isinstance(name, str | Path) else None), runner
    metadata = client.resources.get("metadata", {})
    if metadata.get("name"):  # nbconvert's; nbclient itself knows the directory only
        return _existing(Path(metadata.get("path") or "", f"{metadata['name']}.ipynb")), "nbconvert"
    return None, "nbclient"


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
