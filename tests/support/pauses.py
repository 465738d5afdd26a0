"""Hold a process of the program at one of its named points, see kernel_provisioner/pausepoint.py."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from kernel_provisioner.system.pause_points import VARIABLE

from .waiting import patient, wait_for

REACHED_WITHIN = patient(120.0)  # seconds; a busy machine takes a while to get to the interesting places


class Paused:
    """One point; processes that run with ``env`` stop there until ``go``."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory / f"pause-{name}", name
        self.directory.mkdir()
        os.mkfifo(self.directory / f"{name}.go")
        self.env = {VARIABLE: f"{name}={self.directory}"}

    @property
    def waiting(self) -> list[int]:
        """The pids that have come to the point, in no order."""
        return [int(path.suffix[1:]) for path in self.directory.iterdir() if path.suffix != ".go"]

    def reached(self) -> int:
        """Wait until a process has come there; its pid."""
        wait_for(lambda: self.waiting, f"nobody came to {self.name}", within=REACHED_WITHIN)
        return self.waiting[0]

    def go(self) -> None:
        """Let whoever waits there now go on."""
        (self.directory / f"{self.name}.go").write_bytes(b"")

    def let_go(self) -> None:
        """Let whoever waits there now go on, if anybody does."""
        with contextlib.suppress(OSError):  # nobody waits
            os.close(os.open(self.directory / f"{self.name}.go", os.O_WRONLY | os.O_NONBLOCK))

    def go_until(self, ended: Callable[[], object], what: str) -> None:
        """Let go whoever comes there, as often as they come, until ``ended()`` is true."""

        def look() -> bool:
            if ended():
                return True
            self.let_go()
            return False

        wait_for(look, what, within=REACHED_WITHIN)
