"""A module that a program misses which a cell has started: answered only where that is sure.

Sure is a cell with one command, ``!python …``, by the overlay's own Python, that fails with the traceback
of such an import in a file of the user's as its last words.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .missing import Missing, found_by_name, users_own
from .shared.info import Info

_TAIL = 4000  # characters of the output that are kept
_COMMAND = re.compile(r"(?m)^[ \t]*!\s*(.*)$")
_PYTHON = re.compile(r"(?:\{sys\.executable\}|python[\d.]*)(?=\s)")
_SEVERAL = re.compile(r"[|&;<>]|\\$")
_LAST_WORDS = re.compile(r"\nModuleNotFoundError: No module named '([A-Za-z_][\w.]*)'\s*\Z")
_FILE = re.compile(r'(?m)^  File "([^"]+)", line \d+')


class Listener:
    """Hears what a cell with such a command prints; ``heard`` is the end of it."""

    def __init__(self) -> None:
        self.heard = ""
        self._stream: Any = None
        self._cell = ""

    def begin(self, cell: str) -> None:
        """Listen while a cell runs, if it has such a command."""
        self.heard = ""
        self._cell = cell
        if is_sure(cell) and not self._stream:
            self._stream = sys.stdout
            write: Callable[[str], Any] = self._stream.write

            def hear(text: str) -> Any:
                self.heard = (self.heard + text)[-_TAIL:]
                return write(text)

            self._stream.write = hear

    def end(self, status: object, info: Info) -> Missing | None:
        """Listen no more; what to say, where the command ended with this ``status``."""
        if not self._stream:
            return None
        del self._stream.write  # the method of its class counts again
        self._stream = None
        return missing_in(self.heard, info) if status == 1 and _is_overlays(self._cell, info) else None


def is_sure(cell: str) -> bool:
    """Whether a cell starts one command alone, and that is Python."""
    commands = _COMMAND.findall(cell)
    return len(commands) == 1 and bool(_PYTHON.match(commands[0])) and not _SEVERAL.search(commands[0])


def missing_in(text: str, info: Info) -> Missing | None:
    """What to say of output that ends with the traceback of an import; None where it does not."""
    text = text.replace("\r\n", "\n")
    last = _LAST_WORDS.search(text)
    start = text.rfind("Traceback (most recent call last):")
    files = [file for file in _FILE.findall(text[start:]) if not file.startswith("<frozen ")]
    if not last or start < 0 or not files or not users_own(files[-1]):
        return None
    return found_by_name(last[1], info)


def _is_overlays(cell: str, info: Info) -> bool:
    """Whether the Python that the cell's command names is that of this kernel's overlay."""
    word = _COMMAND.findall(cell)[0].split()[0]
    if word == "{sys.executable}":
        return True
    found = shutil.which(word)
    return bool(info.overlay and found) and Path(str(found)).parent == info.path / "bin"
