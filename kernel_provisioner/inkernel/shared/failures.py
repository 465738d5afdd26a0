"""What a cell shows in a form that programs can read back: failures as tracebacks, steps as metadata."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

TRANSIENT_KEY = "torch_overlay"
"""Key in a display's ``transient``, which no notebook keeps: what is said, without bar and clock.

``{"step": text}`` for a step of the work, ``{"outcome": text}`` for what stays.
"""

_WIDTH = 80  # columns of a failure: what a terminal has, and JupyterLab in half a laptop's screen
_INDENT = " " * 7  # as wide as "  why: "
_KEYS = ("why", "fix")
_LABEL = re.compile(r"  \x1b\[1m(why|fix)\x1b\[0m: ")


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
