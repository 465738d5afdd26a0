"""What the gate shows in a cell: progress in one line that updates, the outcome, and failures."""

from __future__ import annotations

import html
import re
import textwrap
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

SAID = "torch_overlay"
"""Key in a display's ``transient``, which no notebook keeps: what is said, without bar and clock.

``{"step": text}`` for a step of the work, ``{"outcome": text}`` for what stays.
"""

_DOING = "Adding this notebook's packages"
_BAR = 24  # characters of the bar in plain text
_MESSAGE = 100  # characters of a step's name; one that lists many extras would fill the cell
_WIDTH = 80  # columns of a failure: what a terminal has, and JupyterLab in half a laptop's screen
_INDENT = " " * 7  # as wide as "  why: "

# As JupyterLab draws text output, so that nothing jumps; other frontends fall back to what they have.
_STYLE = (
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,inherit);"
    "line-height:var(--jp-code-line-height,inherit);padding-left:1ch"
)
_MUTED = f"{_STYLE};opacity:.7"  # ours, not the cell's; right in dark themes too
_KEYS = ("why", "fix")
_LABEL = re.compile(r"  \x1b\[1m(why|fix)\x1b\[0m: ")


class Line:
    """One output that updates in place, in every client that knows ``update_display_data``.

    ``publisher`` is IPython's display publisher, ``clock`` gives seconds.
    """

    def __init__(self, publisher: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._publisher = publisher
        self._clock = clock
        self._id = uuid.uuid4().hex
        self._started: float | None = None
        self._shown = ""

    def progress(self, message: str, done: int = 0, total: int = 0) -> None:
        """Show a step of the work; ``total`` 0 where its size is not known.

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
            markup = f'<div style="{_STYLE}">{_DOING} · {html.escape(told)}</div>'
            self._show(f"{_DOING} · {told}", markup, said)
            return
        plain = "#" * (_BAR * done // total)
        bar = f'<progress value="{done}" max="{total}" style="vertical-align:middle"></progress>'
        self._show(
            f"{_DOING} · [{plain:.<{_BAR}}] {done}/{total} · {told}",
            f'<div style="{_STYLE}">{_DOING} {bar} {done}/{total} · {html.escape(told)}</div>',
            {"step": f"{message} ({done}/{total})"},
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
        transient = {"display_id": self._id, SAID: said}
        self._publisher.publish(data, {}, transient=transient, update=bool(self._shown))
        self._shown = text


def failure_lines(failure: dict[str, str]) -> list[str]:
    """A failure as traceback lines: what, with the error's name in red, then why and fix.

    Each holds one line of the message, broken between words where it is longer than 80 columns:
    JupyterLab itself breaks within words. Indented lines (commands, for example) are left whole.
    """
    name = failure.get("error") or "OverlayError"
    lines = _wrapped(f"{name}: ", f"\x1b[31m{name}\x1b[0m: ", failure.get("what", ""))
    for key in _KEYS:
        if text := failure.get(key):
            lines += _wrapped(f"  {key}: ", f"  \x1b[1m{key}\x1b[0m: ", text)
    return lines


def failure_told(name: str, what: str, traceback: Sequence[str]) -> dict[str, str] | None:
    """The failure (``error``, ``what``, ``why``, ``fix``) that an error output tells.

    None where its traceback is not of ``failure_lines``, but of the user's code.
    """
    failure = {"error": name, "what": what}
    first = failure_lines(failure)
    if list(traceback[: len(first)]) != first:
        return None
    key = ""
    for line in traceback[len(first) :]:
        label = _LABEL.match(line)
        whole = line[label.end() if label else len(_INDENT) :].replace(f"\n{_INDENT}", " ")
        key = label[1] if label else key
        failure[key] = f"{failure[key]}\n{whole}" if key in failure else whole
    return failure


def _wrapped(plain: str, styled: str, text: str) -> list[str]:
    """The lines of ``text`` behind a label, which is ``plain`` to measure and ``styled`` to show."""
    lines = []
    for number, line in enumerate(text.splitlines() or [""]):
        before = _INDENT if number else plain
        whole = before + line
        if not line.startswith(" "):
            whole = textwrap.fill(
                line, _WIDTH, initial_indent=before, subsequent_indent=_INDENT, expand_tabs=False,
                replace_whitespace=False, break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        lines.append(whole if number else styled + whole[len(plain) :])
    return lines
