"""What ends a build from outside: too much time, or nobody left who waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ..errors import InstallFailed
from ..inkernel.shared import layout
from ..overlay import store
from ..system import locks

_LOOK = 0.5  # seconds between two looks whether anybody waits
_ALONE = 4  # looks in a row that see nobody; a kernel that restarts lets go for a moment


class _Expired(BaseException):
    """Raised wherever the main thread is; no handler on the way takes it for a fault of a package."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise InstallFailed where the block takes longer, however many commands it is made of.

    Each command has a deadline of its own; this one is for an index that is slow again and again.
    For the main thread only, and not to be nested. The clock cannot be set.
    """

    def expire(_: int, __: FrameType | None) -> None:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Expired:
        raise InstallFailed(
            f"the overlay was not built within {seconds / 60:.0f} minutes",
            why="the packages are too large or the index is too slow",
            fix="restart the kernel to try again, for what has been fetched is in uv's cache;"
            " over a slow line set UV_HTTP_TIMEOUT, by default 30 (seconds), and all deadlines grow with it",
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_when_alone(generation: store.Generation) -> None:
    """From now on end this process, by SIGTERM, once no kernel holds the overlay any more.

    To be called by a builder that a kernel was started with, and that holds the builder's lock: where
    that lock keeps nobody else out, nobody can tell who waits, and the build goes on.
    """
    if locks.is_held(generation.path / layout.BUILDER_LOCK):
        path = generation.path / layout.USE_LOCK
        threading.Thread(target=_watch, args=(path,), name="end-when-alone", daemon=True).start()


def _watch(path: Path) -> None:
    seen_alone = 0
    while True:
        time.sleep(_LOOK)
        try:
            lock = locks.attempt(path)
        except OSError:  # the overlay is gone
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if lock is None:
            seen_alone = 0
            continue
        seen_alone += 1
        if seen_alone >= _ALONE:
            # The lock stays with this process until it has ended: a launch that comes now waits that
            # long, and then sees that nobody builds here.
            os.kill(os.getpid(), signal.SIGTERM)
            return
        lock.release()
