"""``jupyter overlay`` for a cell: run where this kernel was started from, its steps shown as they come."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from .display import Line
from .shared.environment import command_environment
from .shared.failures import failure_lines

_BEAT = 0.9  # seconds between two looks; a line is shown from the second on, or once there is a step
_STARTING = ("Starting", 0, 0)
_USAGE = 2  # exit status of a command line that is wrong


class OverlayFailed(Exception):
    """What a cell asked for could not be done; ``failure`` says what, why and the fix."""

    def __init__(self, failure: dict[str, str]) -> None:
        super().__init__(failure.get("what", ""))
        self.failure = failure

    def _render_traceback_(self) -> list[str]:
        """IPython shows the message alone: where in our code it was raised helps nobody."""
        return failure_lines(self.failure)


def run(command: Sequence[str], words: Sequence[str], line: Line) -> int:
    """Run ``command`` with ``words``; what it prints is printed, its steps are shown in ``line``.

    Its exit status, where that is no failure. Raises OverlayFailed with what it says of one. An interrupt
    ends it.
    """
    with subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=command_environment(os.environ),
        start_new_session=True,
    ) as process:
        told = _Told()
        readers = [_reader(process.stdout, told.printed.append), _reader(process.stderr, told.hear)]
        try:
            waited = False
            while _runs(process):
                told.show()
                if waited or told.step != _STARTING:
                    line.progress(*told.step)
                waited = True
        except BaseException:  # an interrupt
            process.terminate()
            raise
        for reader in readers:
            reader.join()
    told.show()
    if failure := told.failure or _misused(process.returncode, told.said):
        raise OverlayFailed(failure)
    if told.said:
        print("\n".join(told.said), file=sys.stderr)
    return process.returncode


class _Told:
    """What a command has printed, and what it says on stderr: its last step, its failure, and other lines."""

    def __init__(self) -> None:
        self.printed: list[str] = []
        self.step: tuple[str, int, int] = _STARTING
        self.failure: dict[str, str] = {}
        self.said: list[str] = []

    def hear(self, text: str) -> None:
        """A line of stderr."""
        value: Any = None
        with contextlib.suppress(ValueError):
            value = json.loads(text)
        if isinstance(value, dict) and "step" in value:
            self.step = (str(value["step"]), int(value.get("done", 0)), int(value.get("total", 0)))
        elif isinstance(value, dict) and "error" in value:
            self.failure = value
        elif text.strip():
            self.said.append(text.rstrip("\n"))

    def show(self) -> None:
        """Print what has come, in the thread of the cell."""
        while self.printed:
            print(self.printed.pop(0), end="")


def _reader(stream: IO[str] | None, hear: Callable[[str], None]) -> threading.Thread:
    """A thread that hears each line of a stream to its end."""

    def read() -> None:
        for text in stream or ():
            hear(text)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _runs(process: subprocess.Popen[str]) -> bool:
    """Whether a process still runs after a moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_BEAT)
        return False
    return True


def _misused(status: int, said: list[str]) -> dict[str, str]:
    """The failure that a command line which is wrong comes to; nothing where it was right."""
    if status == _USAGE or status < 0:
        first, *rest = said or [f"the command ended with status {status}"]
        return {"error": "UsageError", "what": first, "why": "\n".join(rest)}
    return {}
