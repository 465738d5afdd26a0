"""Which processors a build runs on: all but one, while it is decided what to install.

That falls together with the start of the kernel that the build is for. On a machine with two processors
uv's short-lived threads, which go before others whatever their priority, would interrupt the kernel so
often that both come later.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def one_left() -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, off one of several processors."""
    if sys.platform != "linux":  # macOS has no such call
        yield
        return
    there = os.sched_getaffinity(0)
    if len(there) > 1:  # of builders that run at once, not all off the same one
        os.sched_setaffinity(0, there - {sorted(there)[os.getpid() % len(there)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)
