"""From a provisional overlay to the one that was built behind it: what its user did there counts on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.packages import is_receipt, packages
from ..inkernel.shared.settle import settle
from ..system import locks, records
from .skeleton import site_packages
from .store import Generation, State, Store

_TRIES_AGAIN = 24 * 3600.0  # seconds after which the store is filled again behind what could not be


def taken_over(last: Generation | None, newest: Generation, order: dict[str, Any]) -> Generation:
    """The overlay to start in: ``newest``, or ``last``, where that is provisional and its user needs it.

    That is where another kernel of the notebook runs in it, or it was changed by hand. ``last`` was used
    last, ``newest`` fits the ``order``. Where a cell has run in ``last``, it counts as one for ``newest``: it
    holds the same files.
    """
    if last is None or last == newest or not last.is_provisional:
        return newest
    with contextlib.suppress(CorruptState, OSError):
        if last.read(layout.SPEC)["order"] != order:
            return newest
        if locks.is_held(last.path / layout.USE_LOCK):
            return last
        if not last.entered:
            return newest
        if changed(last):
            return last
        made = newest.read(layout.OVERLAY)
        if made["installed"] == last.read(layout.OVERLAY)["installed"]:
            settle(newest.path, made)
    return newest


def is_followed(root: Store, provisional: Generation) -> bool:
    """Whether the next generation is being built behind this one, is about to, or could not be lately."""
    if locks.is_held(provisional.path / layout.BUILDER_LOCK, exclusively=True):
        return True
    later = (one for one in root.generations(provisional.path.parent) if one.behind == provisional)
    return any(one.state() is State.BUILDING or _failed_lately(one) for one in later)


def _failed_lately(generation: Generation) -> bool:
    with contextlib.suppress(OSError):
        failed = (generation.path / layout.FAILED).stat().st_mtime
        return abs(time.time() - failed) < _TRIES_AGAIN
    return False


def changed(generation: Generation) -> bool:
    """Whether packages came, went or were replaced since it was built, or a file of one was written to.

    ``%overlay add`` does not count: what it adds comes to each overlay of the notebook. Reads the names and
    times of all files. Raises CorruptState and OSError.
    """
    made = generation.read(layout.OVERLAY)
    added = set(made.get("added", ()))
    built = {(package["name"], package["version"]) for package in made["installed"]}
    there = {(package.name, package.version) for package in packages(generation.path)}
    if {name for name, _ in built ^ there} - added:
        return True
    since = (generation.path / layout.OVERLAY).stat().st_mtime_ns
    site = site_packages(generation.path)
    return any(_written(info, since) for info in records.dist_infos(site) if not is_receipt(info))


def _written(info: Path, since: int) -> bool:
    folder = os.fspath(info.parent)
    for path in records.paths(info):
        with contextlib.suppress(FileNotFoundError):  # bytecode that nobody wrote
            if os.lstat(f"{folder}/{path}").st_mtime_ns > since and not path.endswith(".pyc"):
                return True
    return False
