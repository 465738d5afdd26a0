"""Signs of life of the builder of an overlay, and the end of one that gives none.

A builder that is stopped (SIGSTOP, a frozen control group, a disk that hangs) goes on holding its lock,
and whoever waits for it would wait for ever. So a builder touches its lock's file every second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .layout import BUILDER_LOCK, PROGRESS, SCRATCH, STAGING, USE_LOCK

BEAT = 1.0
"""Seconds between two signs of life."""
PATIENCE = 30.0
"""Seconds without one after which a builder counts as frozen; a machine short of memory takes its time."""


def beat(overlay: Path) -> None:
    """Give a sign of life of this process, the builder of ``overlay``, every second from now on."""

    def work() -> None:
        while True:
            with contextlib.suppress(OSError):  # the overlay was removed; the process ends soon
                os.utime(overlay / BUILDER_LOCK)
            time.sleep(BEAT)

    threading.Thread(target=work, name="heartbeat", daemon=True).start()


class Watch:
    """Counts the seconds in which the builder of ``overlay`` has given no sign of life.

    Only those count in which this process was running itself: a machine that wakes up wakes up both.
    """

    def __init__(self, overlay: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = [overlay / BUILDER_LOCK, overlay / PROGRESS]
        self._clock = clock
        self._last = clock()
        self._seen: list[tuple[int, int]] = []
        self._silent = 0.0

    def silence(self) -> float:
        """Seconds since the last sign of life; to be asked several times a second."""
        now = self._clock()
        step, self._last = min(now - self._last, BEAT), now
        seen = [_mark(file) for file in self._files]
        self._silent = self._silent + step if seen == self._seen else 0.0
        self._seen = seen
        return self._silent


def is_frozen(overlay: Path) -> bool:
    """Whether a builder that holds its lock has been silent for long, for whoever has just taken the overlay.

    That is told by the times of two files on one disk, so that no other clock counts.
    """
    try:
        taken, beaten = ((overlay / name).stat().st_mtime for name in (USE_LOCK, BUILDER_LOCK))
    except OSError:
        return False
    return taken - beaten > PATIENCE


def end_builder(overlay: Path) -> None:
    """Kill what builds in ``overlay``, as far as this machine and user can."""
    for pid in _builders(overlay):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _builders(overlay: Path) -> Iterator[int]:
    """The builder of an overlay, and what it has started there, by their command lines."""
    places = tuple(f"{overlay}/{name}" for name in (STAGING, SCRATCH))
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            words = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            builds = "kernel_provisioner.builder" in words and str(overlay) in words
            if builds or any(word.startswith(places) for word in words[1:]):
                yield int(entry.name)


def _mark(file: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        info = file.stat()
        return info.st_mtime_ns, info.st_size
    return 0, 0
