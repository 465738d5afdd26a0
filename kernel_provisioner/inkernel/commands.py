"""The words after ``%overlay``: which there are, what they take, and how Tab completes them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

from .missing import NAMES
from .outer import OverlayFailed
from .shared.info import Info
from .shared.packages import named_in, packages

COMMANDS = ("add", "remove", "upgrade", "lock", "tree", "why", "freeze", "export", "du", "log", "base")
_OF_THE_NOTEBOOK = frozenset({"add", "remove", "upgrade", "lock", "tree", "why", "export"})
_ON_ITS_KERNEL = frozenset({"upgrade", "lock", "tree", "why", "export"})
_BASE = ("list", "create", "use", "show")
_TAGS = ("cpu", "cu118", "cu124", "cu126", "cu128", "cu130", "rocm6.3", "rocm6.4", "xpu")


def no_such(command: str) -> str:
    """What to say of a command that there is not: the one that was probably meant."""
    close = difflib.get_close_matches(command, COMMANDS, 1)
    return f"there is no %overlay {command}" + (f"; did you mean %overlay {close[0]}?" if close else "")


def shell_words(command: str, words: list[str], info: Info) -> list[str]:
    """What ``jupyter overlay`` is asked for ``%overlay COMMAND WORDS``.

    Raises OverlayFailed where that is for notebooks, and the kernel has none.
    """
    use = command == "base" and words[:1] == ["use"]
    if command not in _OF_THE_NOTEBOOK and not use:
        return [command, *words]
    if not info.notebook:
        raise OverlayFailed({
            "error": "NotebookUnreadable",
            "what": f"%overlay {command} is for notebooks, and this kernel has none",
            "fix": "%overlay add works without one, until the kernel ends; or open a notebook",
        })  # fmt: skip
    if use:
        return ["base", "use", info.notebook, *words[1:]]
    named = [] if "--kernel" in words or command not in _ON_ITS_KERNEL else ["--kernel", info.kernel]
    return [command, info.notebook, *words, *named]


def completions(line: str, symbol: str, info: Info) -> list[str]:
    """What may stand at the end of ``line``, which begins with ``%overlay`` and ends with ``symbol``.

    Nothing is asked, and nothing of a package runs.
    """
    words = line.split()[1:]
    if words and not line[-1:].isspace():
        words = words[:-1]  # the one that is being completed
    return [word for word in _next(words, info) if word.startswith(symbol.lower())]


def _next(words: list[str], info: Info) -> Iterable[str]:
    """What may follow these words."""
    if not words:
        return COMMANDS
    if words[0] == "base":
        known = {1: _BASE, 2: _TAGS if words[-1] in ("create", "use") else ()}
        return known.get(len(words), ())
    if words[0] == "add":
        return sorted({*json.loads(NAMES.read_bytes()).values()})
    declared = {named_in(extra) for extra in info.extras}
    if words[0] == "remove":
        return sorted(declared)
    if words[0] in ("upgrade", "why"):
        return sorted(declared | {package.name for package in packages(info.path)}) if info.overlay else ()
    return ()
