"""Paths that modules have kept from the moment when they were imported.

A module that is imported asks where Python's prefix or the working directory is, and keeps the
answer (``jupyter_core.paths``, ``sysconfig``, ``multiprocessing``). In a fork these answers are the
fork server's. Where they are is searched for once, before any fork; each fork puts in its own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_DEPTH = 4  # of collections within collections in a module's names
_NOT_THEIRS = ("__main__", "os", "posix", "sys")  # what these hold is the process's own, and set apart


@dataclasses.dataclass(frozen=True)
class Place:
    """An entry of a collection (or of a module's names) that says where something was."""

    collection: Any
    key: Any
    value: Any


def kept(paths: tuple[str, ...]) -> list[Place]:
    """All places in imported modules that hold one of ``paths``, or something beneath it."""
    found: list[Place] = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _NOT_THEIRS:  # None, and objects without names, stand there too
            found += _within(getattr(module, "__dict__", {}), paths, _DEPTH)
    return found


def relocate(places: list[Place], moved: Mapping[str, str]) -> None:
    """Let each place tell of where things are now: ``moved`` is from old path to new, the longest first."""
    for place in places:
        place.collection[place.key] = _put(place.value, moved)


def _within(collection: Any, paths: tuple[str, ...], depth: int) -> Iterator[Place]:
    entries = collection.items() if isinstance(collection, dict) else enumerate(collection)
    for key, value in list(entries):
        if isinstance(value, str | bytes | tuple):
            if _tells(value, paths, depth):
                yield Place(collection, key, value)
        elif depth and type(value) in (dict, list):
            yield from _within(value, paths, depth - 1)


def _tells(value: Any, paths: tuple[str, ...], depth: int) -> bool:
    if isinstance(value, bytes):
        return any(path.encode() in value for path in paths)
    if isinstance(value, str):
        return any(path in value for path in paths)
    return depth > 0 and type(value) is tuple and any(_tells(one, paths, depth - 1) for one in value)


def _put(value: Any, moved: Mapping[str, str]) -> Any:
    if type(value) is tuple:
        return tuple(_put(one, moved) for one in value)
    for old, new in moved.items():
        if isinstance(value, bytes):
            value = value.replace(old.encode(), new.encode(errors="surrogateescape"))
        elif isinstance(value, str):
            value = value.replace(old, new)
    return value
