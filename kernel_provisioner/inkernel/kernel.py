"""ipykernel's kernel, with a gate before the first cell."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ipykernel import kernelapp
from ipykernel.connect import write_connection_file
from ipykernel.ipkernel import IPythonKernel

from .display import Aside, Line
from .gate import Gate, Interrupted
from .magics import OverlayMagics
from .outer import OverlayFailed
from .read_by_torch import Readings
from .shared import flock
from .shared.failures import failure_lines
from .shared.info import Info
from .shared.layout import LAUNCH_LOCK, USE_LOCK
from .wording import told_in_cell


class Forked:
    """What only a kernel that was forked has to do.

    ``before_first_cell`` runs code of its packages; ``readings`` is what torch read when it was imported.
    """

    def __init__(self) -> None:
        self.before_first_cell: list[Callable[[], None]] = []
        self.readings: Readings | None = None


FORKED = Forked()
"""That of this process."""


class OverlayKernel(IPythonKernel):
    """A kernel whose cells run in an overlay, and that explains itself where they cannot."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._info = Info.take()
        self._gate = Gate(self._info)
        self._notices = list(self._info.notices)
        self._ipython = cast("Any", self.shell)
        magics = OverlayMagics(self._ipython, self._info, self._gate)
        self._ipython.register_magics(magics)
        self._apply = magics.apply
        self._ipython.set_hook("complete_command", self._complete, str_key="%overlay")
        self._outside: Any = None
        self._ipython.events.register("pre_run_cell", self._listen)
        self._ipython.events.register("post_run_cell", self._tell_missing)
        self._ipython.events.register("post_run_cell", self._tell_damaged)
        if FORKED.readings:
            self._ipython.events.register("post_run_cell", self._tell_read_by_torch)
        self._spare_queue = False
        self._leaving = False
        self._terminated = False
        self._in_folder = False
        atexit.register(self._leave)  # first, so that it is done last: what users register needs packages

    async def do_execute(
        self,
        code: str,
        silent: bool,  # noqa: FBT001 - ipykernel's signature
        store_history: bool = True,  # noqa: FBT001, FBT002 - likewise
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,  # noqa: FBT001, FBT002 - likewise
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        """Run a cell, once the overlay is there.

        Silent executions are the client's own (a variable inspector's, say), not the user's: they
        neither wait nor open the gate.
        """
        self._spare_queue = False
        if not silent:
            line = self._line()
            failure = self._gate.failure
            if not failure and not self._gate.open:
                try:
                    await self._gate.enter(line)
                except Interrupted as interrupted:
                    self._terminated = interrupted.last
                    if not self._gate.open:
                        line.settle("This notebook's packages are still being installed. Run the cell again.")
                    return self._fail({"error": "KeyboardInterrupt", "what": "stopped waiting for packages"})
                failure = self._gate.failure
            self._tell_notices()
            if failure and not code.lstrip().startswith("%overlay"):
                self._spare_queue = not store_history
                return self._fail(failure)
            while FORKED.before_first_cell:
                with contextlib.suppress(Exception):  # a package that is broken: its own import tells
                    FORKED.before_first_cell.pop()()
            if not self._in_folder:
                self._in_folder = True
                cast("IPKernelApp", self.parent).enter_folder()
            read = self._info.quiet and self._info.notebook  # whole, at the start
            if not (failure or read) and "# /// script" in code:
                try:
                    self._apply(code)
                except OverlayFailed as error:
                    return self._fail(error.failure)
                except KeyboardInterrupt:
                    return self._fail({"error": "KeyboardInterrupt", "what": "stopped adding packages"})
        reply: dict[str, Any] = await super().do_execute(
            code, silent, store_history, user_expressions, allow_stdin, cell_meta=cell_meta, cell_id=cell_id
        )
        return reply

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Answer a cell; a kernel that was told to end while it waited ends then, not before."""
        await super().execute_request(stream, ident, parent)
        if self._terminated:
            self.io_loop.add_callback(self.io_loop.stop)

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:  # noqa: FBT001 - ipykernel's signature
        """Note that this is the end. Some clients only send this, and leave no provisioner to clean up."""
        self._leaving = not restart
        reply: dict[str, Any] = super().do_shutdown(restart)  # ipykernel's own is no coroutine
        return reply

    def _leave(self) -> None:
        """Take an overlay along that nobody can come back to, and nobody else uses."""
        if self._leaving and self._info.scratch:
            for fd in self._info.held:
                with contextlib.suppress(OSError):
                    os.close(fd)
            remove_unused(self._info.path.parent)

    def _abort_queues(self, *args: Any, **kwargs: Any) -> None:
        """Abort the cells behind a failed one, but not for code that a client ran on its own account.

        Voila sends a line before the first cell; aborted with it, that cell would say nothing.
        """
        if not self._spare_queue:
            super()._abort_queues(*args, **kwargs)

    def _tell_notices(self) -> None:
        notices, self._notices = self._notices, []
        if notices:
            self._line().settle("\n".join(notices))

    def _line(self) -> Line | Aside:
        """Where something can be said: in the cell, or on standard error."""
        if self._info.quiet:
            return Aside(cast("IPKernelApp", self.parent).stderr)
        return Line(self._ipython.display_pub)

    def _complete(self, _: Any, event: Any) -> list[str]:
        """What may follow on a line that begins with ``%overlay``."""
        from .commands import completions

        return completions(event.text_until_cursor, event.symbol, self._info)

    def _listen(self, info: Any) -> None:
        """Hear what a program prints that a cell starts: it may miss a module."""
        if "!" in info.raw_cell:
            from .missing_outside import Listener

            self._outside = self._outside or Listener()
            self._outside.begin(info.raw_cell)

    def _tell_missing(self, result: Any) -> None:
        """Say under the traceback of a cell which package has the module that it misses."""
        found = None
        if self._outside:
            found = self._outside.end(self._ipython.user_ns.get("_exit_code"), self._info)
        if isinstance(result.error_in_exec, ModuleNotFoundError):
            from .missing import missing

            found = missing(result.error_in_exec, self._info)
        if found and self._info.quiet:
            self._line().settle(found.text)
        elif found:
            self._ipython.display_pub.publish(found.bundle())

    def _tell_damaged(self, result: Any) -> None:
        """Say under the traceback of a cell which package in the wheel store was changed."""
        if isinstance(result.error_in_exec, Exception) and self._info.overlay:
            from .damage import damaged

            if said := damaged(result.error_in_exec, self._info.path):
                self._line().settle(said)

    def _tell_read_by_torch(self, _: Any) -> None:
        """Say under a cell that it set too late what torch reads when it is imported."""
        if FORKED.readings and (told := FORKED.readings.told_once(self._info.path)):
            self._line().settle(told)

    def _fail(self, failure: dict[str, str]) -> dict[str, Any]:
        """Fail the cell as an exception would, with the whole message."""
        failure = told_in_cell(failure, self._info)
        error = {
            "ename": failure.get("error", "OverlayError"),
            "evalue": failure.get("what", ""),
            "traceback": failure_lines(failure),
        }
        self.send_response(self.iopub_socket, "error", error)
        return {
            "status": "error",
            "execution_count": self._ipython.execution_count,
            "user_expressions": {},
            "payload": [],
            **error,
        }


def remove_unused(directory: Path) -> None:
    """Remove the overlays of a kernel without a notebook, where no other kernel uses one or is about to.

    What stays is the collector's.
    """
    with contextlib.suppress(OSError):
        launching = flock.open_file(directory / LAUNCH_LOCK, create=False)
        try:
            overlays = directory.glob(f"*/{USE_LOCK}")
            if flock.take(launching, fcntl.LOCK_EX) and not any(
                flock.is_held(path, fcntl.LOCK_EX) for path in overlays
            ):
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(launching)


def write_whole(path: str, **info: Any) -> tuple[str, Any]:
    """Write a connection file, as Jupyter does, but put in place whole.

    Jupyter compares the file with what it knows once a kernel is started. A warm start is answered once the
    kernel listens, which is the moment in which ipykernel writes its keys into that file.
    """
    new, written = write_connection_file(f"{path}.new", **info)
    os.replace(new, path)  # noqa: PTH105 - both are texts
    return path, written


kernelapp.write_connection_file = write_whole  # type: ignore[attr-defined,assignment] # there is no seam


class IPKernelApp(kernelapp.IPKernelApp):
    """ipykernel's application, which looks into the notebook's folder only once the user runs code.

    Named as the original is: each line of its log begins with the name, by which clients know such lines.

    IPython puts the working directory before site-packages before it imports the rest of itself,
    so that a ``jedi.py`` lying beside a notebook would run when the notebook is opened; or when a
    client completes a name there, which imports jedi.
    """

    stderr = 2

    def initialize(self, argv: list[str] | None = None) -> None:
        """Start up; see the class."""
        self.kernel_class = OverlayKernel
        with contextlib.suppress(OSError):  # ipykernel makes an output of what is written to 2 itself
            self.stderr = os.dup(2)
        super().initialize(argv)

    def init_path(self) -> None:
        """Nothing yet: ``init_code`` does it, the first step that runs what is the user's."""

    def init_code(self) -> None:
        """Run the user's own startup files, with the working directory on the path for as long."""
        gc.freeze()  # what was imported stays anyway: the collector need never walk over it
        gc.enable()
        self.enter_folder()
        super().init_code()
        sys.path[:] = [entry for entry in sys.path if entry]

    def enter_folder(self) -> None:
        """Put the working directory on the path, as IPython does, for code of the user's."""
        super().init_path()
