"""Run a notebook from start to end on one of our kernels, with nbclient, telling how it goes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import dataclasses
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient.client import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from ..errors import BuildFailed, NotebookUnreadable, OverlayError
from ..inkernel.shared.failures import TRANSIENT_KEY, failure_told
from ..notebook.file import open_notebook
from ..notebook.text import is_text


class Listener(Protocol):
    """Who hears how a run goes."""

    def cell(self, number: int, total: int) -> None:
        """A code cell starts; both count from one."""

    def step(self, text: str) -> None:
        """What is being done now; the next step takes its place."""

    def note(self, text: str) -> None:
        """Something that stays true."""


@dataclasses.dataclass
class Outcome:
    """How a run ended.

    ``cell`` is the number of the code cell that failed, 0 where none did, and ``traceback`` what
    it said. ``refusal`` is set where the overlay could not be had, so that no cell ran.
    ``first_cell`` and ``seconds`` count from the start of the kernel, to the end of the first code
    cell and of the run.
    """

    cell: int = 0
    error: str = ""
    traceback: str = ""
    refusal: OverlayError | None = None
    first_cell: float = 0.0
    seconds: float = 0.0


def load_notebook(path: Path) -> NotebookNode:
    """The notebook at ``path`` in today's format and without outputs; raises NotebookUnreadable."""
    with open_notebook(path) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
        nb: NotebookNode = (
            _from_text(text, path) if is_text(path) else nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        )
    except NotebookUnreadable:
        raise
    except Exception as error:  # nbformat, jsonschema and jupytext raise errors of many kinds
        raise NotebookUnreadable(
            f"the notebook {path} cannot be run",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="open it in JupyterLab and save it",
        ) from error
    for cell in nb.cells:  # what earlier runs left must not be taken for this one's
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def _from_text(text: str, path: Path) -> NotebookNode:
    """The cells of a text notebook, as jupytext tells them apart; raises NotebookUnreadable."""
    try:
        import jupytext
    except ImportError as error:
        raise NotebookUnreadable(
            f"the notebook {path} cannot be run",
            why="jupytext, which turns text into cells, is not installed where this command runs from",
            fix=f"{sys.executable} -m pip install jupytext",
        ) from error
    nb: NotebookNode = jupytext.reads(text, fmt=path.suffix)
    return nb


def execute(
    nb: NotebookNode, path: Path, kernel: str, listener: Listener, config: Config, *, passing: bool = False
) -> Outcome:
    """Run the cells of ``nb`` in order, outputs going into it, up to the first that fails.

    ``path`` is the notebook's file: the overlay belongs to it, and its directory is where cells
    run. ``passing``: in an overlay of this run's own, for what ``nb`` declares. A KeyboardInterrupt ends the
    kernel before it goes on to the caller.
    """
    run = _Run(nb, path, kernel, listener, config, passing=passing)
    # On a thread, for on the main one nbclient takes Ctrl-C for itself, and waits for dead kernels.
    threading.Thread(target=run.work, name="notebook", daemon=True).start()
    try:
        run.ended.wait()  # not join: interrupted, it takes the thread for ended (CPython before 3.13)
    except KeyboardInterrupt:
        run.cancel()
        run.ended.wait()
        raise
    if run.broke is not None:
        raise run.broke
    return run.outcome


class _Run:
    """One run, on a thread of its own."""

    def __init__(
        self,
        nb: NotebookNode,
        path: Path,
        kernel: str,
        listener: Listener,
        config: Config,
        *,
        passing: bool,
    ) -> None:
        self._passing = passing
        self.outcome = Outcome()
        self.broke: BaseException | None = None
        self.ended = threading.Event()
        self._nb, self._path, self._kernel = nb, path, kernel
        self._listener, self._config = listener, config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False

    def work(self) -> None:
        """Run to the end, in the thread that calls."""
        try:
            asyncio.run(self._execute())
        except BaseException as error:  # handed to the thread that waits
            self.broke = error
        finally:
            self.ended.set()

    def cancel(self) -> None:
        """Let the run end soon, its kernel first; from another thread."""
        self._cancelled = True
        if self._loop and self._task:
            with contextlib.suppress(RuntimeError):  # it ended just now
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _execute(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            return
        config = copy.deepcopy(self._config)
        config.pop("TorchOverlayProvisioner", None)  # for servers; a mistake in it is no reason to fail
        manager = AsyncKernelManager(kernel_name=self._kernel, config=config)
        client = _Client(self._nb, manager, self._listener, self.outcome, self._path)
        client.started = started = time.monotonic()
        env = {**os.environ, "KERNEL_NOTEBOOK_PATH": str(self._path)}
        if self._passing:  # then the notebook in memory counts, of which no file is known
            del env["KERNEL_NOTEBOOK_PATH"]
        with tempfile.TemporaryFile() as said:  # by the kernel's process itself, of interest if it dies
            try:
                await client.async_execute(env=env, stdout=said, stderr=said)
            except CellExecutionError:
                pass  # told by the cell's own output
            except DeadKernelError:
                self.outcome.cell, self.outcome.error = client.number, "the kernel died"
                self.outcome.traceback = f"the kernel died\n{_tail(said)}".rstrip()
            except RuntimeError as error:  # nbclient's word for a kernel that does not answer
                raise BuildFailed(
                    f"the kernel {self._kernel} did not start",
                    why=_tail(said) or str(error),
                    fix="jupyter overlay doctor  checks this machine",
                ) from error
            finally:
                self.outcome.seconds = time.monotonic() - started
                await client.end(manager, now=self._cancelled)
        _judge(self._nb, self.outcome)


class _Client(NotebookClient):
    """nbclient, telling a listener."""

    def __init__(
        self, nb: NotebookNode, manager: AsyncKernelManager, listener: Listener, outcome: Outcome, path: Path
    ) -> None:
        super().__init__(
            nb,
            manager,
            resources={"metadata": {"path": str(path.parent)}},
            timeout=None,
            record_timing=False,
            extra_arguments=["--HistoryManager.hist_file=:memory:"],
        )
        self.number = 0
        self.started = 0.0
        self._listener, self._outcome = listener, outcome
        self._total = sum(_runs(cell) for cell in nb.cells)
        self.on_cell_execute = self._begin
        self.on_cell_executed = self._end

    async def end(self, manager: AsyncKernelManager, *, now: bool) -> None:
        """End the kernel and let go of all that belongs to it; ``now``: without asking it first."""
        # nbclient leaves this registered where a start fails, and it then fails itself when Python ends.
        atexit.unregister(self._cleanup_kernel)
        if self.kc is not None:
            self.kc.stop_channels()
        # After a start that failed nbclient has let go of the manager and has closed its sockets, while
        # ``has_kernel`` stays true for a process that ended by itself: there is nobody to talk to.
        if self.km is not None and manager.has_kernel:
            await manager.shutdown_kernel(now=now)

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Let the listener hear the gate, which speaks in the first cell's output."""
        if self.number == 1 and msg["msg_type"] in ("display_data", "update_display_data"):
            self._overhear(msg["content"])
        return super().process_message(msg, cell, cell_index)

    def _overhear(self, content: Mapping[str, Any]) -> None:
        said = (content.get("transient") or {}).get(TRANSIENT_KEY) or {}
        if "step" in said:
            self._listener.step(said["step"])
        elif "outcome" in said:
            self._listener.note(said["outcome"])

    def _begin(self, cell: NotebookNode, cell_index: int) -> None:
        self.number += 1
        self._listener.cell(self.number, self._total)

    def _end(self, cell: NotebookNode, cell_index: int, execute_reply: Mapping[str, Any]) -> None:
        if self.number == 1:
            self._outcome.first_cell = time.monotonic() - self.started


def _runs(cell: NotebookNode) -> bool:
    """Whether nbclient executes the cell."""
    skipped = "skip-execution" in cell.metadata.get("tags", [])
    return bool(cell.cell_type == "code" and cell.source.strip() and not skipped)


def _tail(file: IO[bytes]) -> str:
    """The last lines of what a process has printed."""
    file.seek(0)
    return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-20:])


def _judge(nb: NotebookNode, outcome: Outcome) -> None:
    """Read from the outputs whether a cell failed, or the kernel refused to run any."""
    number = 0
    for cell in nb.cells:
        number += _runs(cell)
        for output in cell.get("outputs", []) if cell.cell_type == "code" else []:
            if output.output_type != "error":
                continue
            if refusal := _refusal(output):
                outcome.refusal = refusal
                return
            if "raises-exception" not in cell.metadata.get("tags", []):
                outcome.cell, outcome.error = number, f"{output.ename}: {output.evalue}"
                outcome.traceback = "\n".join(output.traceback)


def _refusal(output: NotebookNode) -> OverlayError | None:
    """The gate's failure that an error output is, if it is one."""
    told = failure_told(output.ename, output.evalue, output.traceback)
    return OverlayError.from_dict(told) if told else None
