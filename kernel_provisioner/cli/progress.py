"""How a run goes, on a console: one line that changes on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status
from rich.text import Text

from .cell import Cell, tell

_WIDTH = 24  # characters of a bar


@contextlib.contextmanager
def progress_on(console: Console, *, indent: str = "", passing: bool = False) -> Iterator[Progress]:
    """Show progress for as long as the context lasts; ``passing``: let nothing of it stay."""
    if Cell.listens:
        yield _InCell(console)
    elif console.is_terminal:
        with Status("", console=console) as status:
            yield Progress(console, status, indent=indent, passing=passing)
    else:
        yield Progress(console, indent=indent, passing=passing)


@contextlib.contextmanager
def working_on(console: Console, what: str) -> Iterator[None]:
    """Show one step for as long as the context lasts, and nothing of it after."""
    with progress_on(console, passing=True) as progress:
        progress.step(what)
        yield


class Progress:
    """A ``Listener`` that shows. Texts are shown as they are, brackets and all."""

    def __init__(
        self, console: Console, status: Status | None = None, *, indent: str = "", passing: bool = False
    ) -> None:
        self._console, self._indent, self._status, self._passing = console, indent, status, passing
        self._cell = self._shown = ""

    def cell(self, number: int, total: int) -> None:
        """A code cell starts."""
        self._cell = f"cell {number} of {total}"
        self._show(self._cell)

    def step(self, text: str, done: float = 0, total: int = 0) -> None:
        """What is being done now, and ``done`` of ``total`` where that is known."""
        if total and not self._status:
            return  # without a terminal a line for each step will do
        bar = f"{'█' * int(_WIDTH * done / total):░<{_WIDTH}} {int(done)}/{total}  " if total else ""
        self._show(f"{self._cell}: {text}" if self._cell else bar + text)

    def note(self, text: str) -> None:
        """A line that stays."""
        for line in [] if self._passing else text.splitlines():
            self._console.print(Text(self._indent + line))

    def _show(self, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        if self._status:
            self._status.update(Text(text))
        elif not self._passing:
            self._console.print(Text(self._indent + text))


class _InCell(Progress):
    """Steps for a kernel to show, in a line of its own that updates."""

    def step(self, text: str, done: float = 0, total: int = 0) -> None:
        tell(step=text, done=int(done), total=total)
