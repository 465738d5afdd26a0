"""Work beside other work: its result, or its error, reaches whoever asks."""

from __future__ import annotations

import threading

import pytest

from kernel_provisioner.system.background import Aside
from tests.support.waiting import WITHIN


def test_the_result_is_waited_for() -> None:
    """It comes from another thread, which the work has begun on at once."""
    go = threading.Event()
    work = Aside(lambda: go.wait(WITHIN) and threading.current_thread() is not threading.main_thread())
    go.set()
    assert work.result() is True


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    """As often as it is asked for."""
    work = Aside(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            work.result()
