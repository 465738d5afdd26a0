"""ipykernel's kernel, with a gate before the first cell."""

from __future__ import annotations

import atexit
import gc
import shutil
import sys
from typing import Any, cast

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp

from .display import Line, failure_lines
from .gate import Gate, Interrupted
from .info import Info
from .magics import OverlayMagics


class OverlayKernel(IPythonKernel):
    """A kernel whose cells run in an overlay, and that explains itself where they cannot."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._info = Info.take()
        self._gate = Gate(self._info)
        self._notices = list(self._info.notices)
        self._ipython = cast("Any", self.shell)
        self._ipython.register_magics(OverlayMagics(self._ipython, self._info, self._gate))
        self._spare_queue = False
        self._leaving = False
        self._in_folder = False
        atexit.register(self._leave)

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
            line = Line(self._ipython.display_pub)
            failure = self._gate.failure
            if not failure and not self._gate.open:
                try:
                    await self._gate.enter(line)
                except Interrupted:
                    line.settle("This notebook's packages are still being added: run the cell again")
                    return self._fail({"error": "KeyboardInterrupt", "what": "stopped waiting for packages"})
                failure = self._gate.failure
            self._tell_notices()
            if failure and not code.lstrip().startswith("%overlay"):
                self._spare_queue = not store_history
                return self._fail(failure)
            if not self._in_folder:
                self._in_folder = True
                cast("OverlayKernelApp", self.parent).enter_folder()
        reply: dict[str, Any] = await super().do_execute(
            code, silent, store_history, user_expressions, allow_stdin, cell_meta=cell_meta, cell_id=cell_id
        )
        return reply

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:  # noqa: FBT001 - ipykernel's signature
        """Note that this is the end. Some clients only send this, and leave no provisioner to clean up."""
        self._leaving = not restart
        reply: dict[str, Any] = super().do_shutdown(restart)  # ipykernel's own is no coroutine
        return reply

    def _leave(self) -> None:
        """Take an overlay along that nobody can come back to."""
        if self._leaving and self._info.scratch:
            shutil.rmtree(self._info.path.parent, ignore_errors=True)

    def _abort_queues(self, *args: Any, **kwargs: Any) -> None:
        """Abort the cells behind a failed one, but not for code that a client ran on its own account.

        Voila sends a line before the first cell; aborted with it, that cell would say nothing.
        """
        if not self._spare_queue:
            super()._abort_queues(*args, **kwargs)

    def _tell_notices(self) -> None:
        notices, self._notices = self._notices, []
        if notices:
            Line(self._ipython.display_pub).settle("\n".join(notices))

    def _fail(self, failure: dict[str, str]) -> dict[str, Any]:
        """Fail the cell as an exception would, with the whole message."""
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


class OverlayKernelApp(IPKernelApp):
    """ipykernel's application, which looks into the notebook's folder only once the user runs code.

    IPython puts the working directory before site-packages before it imports the rest of itself,
    so that a ``jedi.py`` lying beside a notebook would run when the notebook is opened; or when a
    client completes a name there, which imports jedi.
    """

    def initialize(self, argv: list[str] | None = None) -> None:
        """Start up; see the class."""
        self.kernel_class = OverlayKernel
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
