"""What the gate shows in the first cell's output: a bar that moves, then one line that stays."""

from __future__ import annotations

import html
import uuid
from typing import Any

_WIDTH = 24


class Line:
    """One output that updates in place, in every client that knows ``update_display_data``."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._id = uuid.uuid4().hex
        self._shown = ""

    def progress(self, message: str, done: int = 0, total: int = 0) -> None:
        """Show a step of the work; ``total`` 0 where its size is not known."""
        bar = f"[{'#' * (_WIDTH * done // total):.<{_WIDTH}}] {done}/{total} " if total else ""
        value = f' value="{done}" max="{total}"' if total else ""
        self._show(bar + message, f"<progress{value}></progress> {html.escape(message)}")

    def settle(self, message: str) -> None:
        """Show the outcome, as plain text."""
        self._show(message, "")

    @property
    def shown(self) -> bool:
        """Whether anything has been shown yet."""
        return bool(self._shown)

    def _show(self, text: str, markup: str) -> None:
        if text == self._shown:
            return
        data = {"text/plain": text, **({"text/html": markup} if markup else {})}
        self._publisher.publish(data, {}, transient={"display_id": self._id}, update=bool(self._shown))
        self._shown = text


def failure_lines(failure: dict[str, str]) -> list[str]:
    """A failure as traceback lines: what in red, then why and fix."""
    lines = [f"\x1b[31m{failure.get('error', 'OverlayError')}\x1b[0m: {failure.get('what', '')}"]
    for key in ("why", "fix"):
        if failure.get(key):
            first, *rest = failure[key].splitlines()
            lines.append(f"  \x1b[1m{key}\x1b[0m: {first}")
            lines += [f"       {line}" for line in rest]
    return lines
