"""Work done beside other work, for its result or its error later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Aside(Generic[_T]):
    """A function that runs on a thread of its own from now on.

    For what waits for a process or a disk. (``concurrent.futures`` would take longer to import than
    some of it takes to do.)
    """

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._done: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
        self._thread.start()

    def result(self) -> _T:
        """Wait for what the function returns; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._done[0]

    def _run(self) -> None:
        try:
            self._done.append(self._work())
        except BaseException as error:  # for whoever asks for the result
            self._error = error
