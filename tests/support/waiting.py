"""Waiting for something to become true, with a deadline and never for luck."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], what: str, *, within: float = 30.0, poll: float = 0.05) -> None:
    """Return as soon as ``condition()`` is true, which is looked at every ``poll`` seconds.

    Raises AssertionError naming ``what`` where that does not happen ``within`` so many seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain: {what}")
        time.sleep(poll)
