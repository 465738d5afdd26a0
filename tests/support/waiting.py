"""Waiting for something to become true, with a deadline and never for luck."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

PATIENCE = "KERNEL_PROVISIONER_TEST_PATIENCE"
"""The variable that lengthens every deadline of the tests: 2 doubles it, on a machine busy with others."""


def patient(seconds: float) -> float:
    """A deadline on this machine, of one that is generous where two cores have six workers."""
    return seconds * float(os.environ.get(PATIENCE, "1"))


WITHIN = patient(120.0)
"""Seconds for whatever takes a few: a deadline ends what will never be, and measures nothing."""


def wait_for(
    condition: Callable[[], object], what: str, *, within: float = WITHIN, poll: float = 0.05
) -> None:
    """Return as soon as ``condition()`` is true, which is looked at every ``poll`` seconds.

    Raises AssertionError naming ``what`` where that does not happen ``within`` so many seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain: {what}")
        time.sleep(poll)


def has_ended(pid: int) -> bool:
    """Whether a process runs no more, collected by its parent or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
