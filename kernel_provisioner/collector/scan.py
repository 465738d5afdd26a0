"""Which overlays there are, and who uses them: a few file system calls for each, no walk through trees."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..base.registry import MANIFEST
from ..inkernel.shared import layout
from ..overlay import store
from ..system import locks
from ..system.files import read_bytes

_GENERATION = re.compile(r"\d{4,}")


@dataclasses.dataclass(frozen=True)
class Found:
    """One generation. ``used`` is when a kernel last started in it, in seconds since the epoch.

    ``order`` is what it was, or is to be, built from; empty where that cannot be read.
    """

    path: Path
    state: store.State
    in_use: bool
    used: float
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    base_gone: bool = False

    @property
    def base(self) -> str:
        """The id of the base that it stands on."""
        base: str = self.spec.get("base", "")
        return base

    @property
    def key(self) -> str:
        """Which lock it was, or is to be, installed from; empty where nobody can say."""
        return store.spec_key(self.spec) if self.spec else ""


@dataclasses.dataclass(frozen=True)
class Overlay:
    """One notebook's generations, the newest first. ``scratch``: of a kernel that had no notebook."""

    directory: Path
    notebook: str
    notebook_gone: bool
    generations: tuple[Found, ...]

    @property
    def scratch(self) -> bool:
        """Whether it was made to live no longer than one kernel."""
        return self.directory.name.startswith(f"{store.SCRATCH}-")

    @property
    def warm(self) -> bool:
        """Whether a fork server runs in it, not a kernel."""
        return self.directory.name.startswith(f"{store.SCRATCH}-{store.WARM}-")


def scan(root: Path) -> Iterator[Overlay]:
    """Every notebook's overlays under ``root``, by name; none where there is no such directory."""
    known: dict[str, bool] = {}
    for name in sorted(_directories(root)):
        if name != "locks" and not name.startswith("."):
            overlay = look_at(root / name, known)
            if overlay.notebook or (root / name / layout.LAUNCH_LOCK).exists():  # else it is not one of ours
                yield overlay


def look_at(directory: Path, known: dict[str, bool] | None = None) -> Overlay:
    """One notebook's overlays as they are now. ``known``: which base directories are gone, remembered."""
    notebook = store.owner(directory)
    numbers = [name for name in _directories(directory) if _GENERATION.fullmatch(name)]
    found = [
        _found(store.Generation(directory / name), {} if known is None else known)
        for name in sorted(numbers, key=int, reverse=True)
    ]
    return Overlay(directory, notebook, bool(notebook) and _is_gone(notebook), tuple(found))


def _found(generation: store.Generation, known: dict[str, bool]) -> Found:
    path = generation.path
    lock = f"{path}/{layout.USE_LOCK}"
    try:
        used = os.stat(lock).st_mtime  # noqa: PTH116 - thousands of them
        in_use = locks.is_held(lock)
    except FileNotFoundError:  # never started in
        used, in_use = _time_of(path), False
    state = generation.state()
    data = _built_from(f"{path}/{layout.SPEC}")
    directory = data.get("base_directory", "")
    if directory and directory not in known:
        known[directory] = _is_gone(f"{directory}/{MANIFEST}")
    return Found(
        path,
        state,
        in_use or state is store.State.BUILDING,
        used,
        data.get("order", {}),
        known.get(directory, False),
    )


def _built_from(path: str) -> dict[str, Any]:
    """What it was built from; nothing where that cannot be read."""
    try:
        data = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("order"), dict) else {}


def _is_gone(path: str) -> bool:
    """Whether nothing is there. What cannot be looked at (permissions, a network disk) is not gone."""
    try:
        os.stat(path)  # noqa: PTH116 - thousands of them
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _directories(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
