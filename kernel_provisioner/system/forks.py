"""What a fork does not copy: threads are gone in the child, locks stay held for ever, sockets are shared.

A process that has started kernels may fork: ``multiprocessing``, a web server's workers. What rests on
threads, locks or sockets is therefore had through ``PerProcess``, and nowhere kept in a module otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """One value for each process, made by ``make`` when it is first asked for there."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: list[_T] = []
        os.register_at_fork(after_in_child=self._made.clear)

    def __call__(self) -> _T:
        """This process's own; threads that ask at once are given the same."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]
