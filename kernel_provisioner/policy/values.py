"""How the values of rules are read and compared: spans of time, names and patterns, addresses; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from urllib.parse import unquote, urlsplit


def seconds_of(text: str) -> float:
    """A span such as ``7 days``, ``36 hours``, ``P7D`` or ``PT36H`` in seconds; empty is 0.

    Raises ValueError.
    """
    if not text:
        return 0.0
    units = {"w": 604800.0, "d": 86400.0, "h": 3600.0}
    words = re.fullmatch(r"(\d{1,6}) *(week|day|hour)s?", text.strip(), re.ASCII)
    if words:
        return int(words[1]) * units[words[2][0]]
    iso = re.fullmatch(r"P(?=\d|T\d)(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(\d{1,6})H)?", text.strip(), re.ASCII)
    if not iso:
        raise ValueError(f"{text!r} is not a time span; write it like '7 days', '36 hours' or 'P7D'")
    return sum(int(number or 0) * units[unit] for number, unit in zip(iso.groups(), "wdh", strict=True))


def pattern_of(text: str) -> str:
    """A package name, or a pattern with ``*``, ``?`` and ``[…]``, as names are compared."""
    return re.sub(r"(\[!?\]?[^\]]*\])|[-_.]+", lambda part: part[1] or "-", text.strip()).lower()


WRONG_NAMES: Mapping[str, Callable[[str, Sequence[str]], bool]] = {
    "denied": lambda name, patterns: any(fnmatchcase(name, pattern) for pattern in patterns),
    "allowed": lambda name, patterns: not any(fnmatchcase(name, pattern) for pattern in patterns),
}
"""Rule → whether its patterns refuse a name."""


def within(url: str, prefix: str) -> bool:
    """Whether ``url`` lies at or below ``prefix``: same scheme, user, host and port, path below."""
    ours, allowed = urlsplit(url), urlsplit(prefix)
    if (ours.scheme.lower(), ours.netloc.lower()) != (allowed.scheme.lower(), allowed.netloc.lower()):
        return False
    path = unquote(unquote(ours.path))
    if "\\" in path or ".." in path.split("/"):
        return False
    root = allowed.path.rstrip("/")
    return path == root or path.startswith(root + "/")
