"""What the gate says: progress in one line of a cell that updates, and the outcome; or that one elsewhere."""

from __future__ import annotations

import contextlib
import html
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from .shared.disk import human
from .shared.failures import TRANSIENT_KEY

_DOING = "Adding this notebook's packages"
_BAR = 24  # characters of the bar in plain text
_MESSAGE = 100  # characters of a step's name; one that lists many extras would fill the cell

# As JupyterLab draws text output, so that nothing jumps; other frontends fall back to what they have.
_STYLE = (
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,inherit);"
    "line-height:var(--jp-code-line-height,inherit);padding-left:1ch"
)
_MUTED = f"{_STYLE};opacity:.7"  # ours, not the cell's; right in dark themes too


class Line:
    """One output that updates in place, in every client that knows ``update_display_data``.

    ``publisher`` is IPython's display publisher, ``doing`` names the work, ``clock`` gives seconds.
    """

    def __init__(
        self, publisher: Any, *, doing: str = _DOING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher = publisher
        self._doing = doing
        self._clock = clock
        self._id = uuid.uuid4().hex
        self._started: float | None = None
        self._fetching: float | None = None
        self._shown = ""

    def progress(self, message: str, done: int = 0, total: int = 0, sizes: tuple[int, int] = (0, 0)) -> None:
        """Show a step of the work; ``total`` 0 where its size is not known.

        ``sizes`` are the bytes that have come and all that will; where they are known they are shown, with
        the speed so far (after a second), and not ``done`` of ``total``.

        The seconds since the first step count up, to show that something happens. Nothing moves by
        itself: a page that is saved and reloaded meanwhile keeps this output as it is, and a running
        bar would run in it for ever.
        """
        now = self._clock()
        if self._started is None:
            self._started = now
        seconds = int(now - self._started)
        step = message if len(message) <= _MESSAGE else message[: _MESSAGE - 1] + "…"
        told = f"{step} · {seconds} s" if seconds else step
        said = {"step": message}
        if not total:
            markup = f'<div style="{_STYLE}">{html.escape(self._doing)} · {html.escape(told)}</div>'
            self._show(f"{self._doing} · {told}", markup, said)
            return
        counted = f"{done}/{total}"
        if sizes[1]:
            done, total = sizes
            self._fetching = now if self._fetching is None else self._fetching
            spent = now - self._fetching
            speed = f" · {human(int(done / spent))}/s" if done and spent >= 1 else ""
            counted = f"{human(done)} of {human(total)}{speed}"
        plain, doing = "#" * (_BAR * done // total), html.escape(self._doing)
        bar = f'<progress value="{done}" max="{total}" style="vertical-align:middle"></progress>'
        self._show(
            f"{self._doing} · [{plain:.<{_BAR}}] {counted} · {told}",
            f'<div style="{_STYLE}">{doing} {bar} {counted} · {html.escape(told)}</div>',
            {"step": f"{message} ({counted})"},
        )

    def settle(self, message: str) -> None:
        """Show what stays: set apart from what the cell itself prints, where a client draws HTML."""
        lines = html.escape(message).replace("\n", "<br>")
        self._show(message, f'<div style="{_MUTED}">{lines}</div>', {"outcome": message})

    @property
    def shown(self) -> bool:
        """Whether anything has been shown yet."""
        return bool(self._shown)

    def _show(self, text: str, markup: str, said: dict[str, str]) -> None:
        if text == self._shown:
            return
        data = {"text/plain": text, "text/html": markup}
        transient = {"display_id": self._id, TRANSIENT_KEY: said}
        self._publisher.publish(data, {}, transient=transient, update=bool(self._shown))
        self._shown = text


class Aside:
    """What a line would say, on the kernel's own standard error: the outputs are not ours to write into."""

    shown = False

    def __init__(self, stderr: int) -> None:
        self._stderr = stderr

    def progress(self, message: str, done: int = 0, total: int = 0, sizes: tuple[int, int] = (0, 0)) -> None:
        """Say nothing: a log keeps what stays."""

    def settle(self, message: str) -> None:
        """Write what stays."""
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(self._stderr, f"{message}\n".encode())
