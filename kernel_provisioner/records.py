"""Installed files against what their distribution's RECORD says of them.

uv installs a wheel whose RECORD does not match its files, and calls a half-installed package
fine after a full disk or a kill; so every overlay is checked here before it is published.
The format: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import contextlib
import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import replace_text

_CHUNK = 1 << 20
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})  # the specification forbids weaker ones


@dataclasses.dataclass(frozen=True)
class Fault:
    """One file that is not what RECORD says: ``missing``, ``altered``, or an unreadable RECORD."""

    distribution: str
    path: str
    kind: str

    def __str__(self) -> str:
        return f"{self.path} is {self.kind} ({self.distribution})"


def dist_infos(site_dir: Path) -> list[Path]:
    """The ``*.dist-info`` directories of a site directory, sorted."""
    try:
        return sorted(Path(entry) for entry in os.scandir(site_dir) if entry.name.endswith(".dist-info"))
    except FileNotFoundError:
        return []


def rows(dist_info: Path) -> Iterator[tuple[str, str, str]]:
    """The rows of RECORD: path relative to the site directory, ``algorithm=digest``, size in bytes."""
    with (dist_info / "RECORD").open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            if row:
                path, hashed, size = (*row, "", "")[:3]
                yield path, hashed, size


def row_of(file: Path) -> tuple[str, str]:
    """What a RECORD says of a file: its hash and its size."""
    return f"sha256={_digest(file, 'sha256')}", str(file.stat().st_size)


class Seen:
    """Files of one distribution that were read and found right, remembered in ``path``; without one, none.

    An overlay's files are hard links to uv's cache, so the next overlay with the same package has
    the same inodes. What still has its inode, time and size need not be read again: that is most of
    the work of a check.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._marks: dict[str, list[Any]] = {}
        self._new = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._marks = dict(json.loads(path.read_bytes()))

    def knows(self, row: str, hashed: str, info: os.stat_result) -> bool:
        """Whether a file of a RECORD's row is one that was right."""
        return self._marks.get(row) == self._mark(hashed, info)

    def add(self, row: str, hashed: str, info: os.stat_result) -> None:
        """Remember a file that is right, if others may come that are the same file."""
        if info.st_nlink > 1:
            self._marks[row] = self._mark(hashed, info)
            self._new = True

    def save(self) -> None:
        """Write down what was added; a disk that says no costs time, nothing else."""
        if self._new and self._path is not None:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                replace_text(self._path, json.dumps(self._marks), mode=0o600, durable=False)

    @staticmethod
    def _mark(hashed: str, info: os.stat_result) -> list[Any]:
        return [info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size, hashed]


def check(dist_info: Path, memory: Path | None = None) -> list[Fault]:
    """All faults of one distribution; compiled bytecode and rows without a hash are not looked at.

    ``memory`` is a directory in which files that were found right are remembered, see ``Seen``.
    """
    name = dist_info.name.removesuffix(".dist-info")
    site = os.fspath(dist_info.parent)
    known = Seen(memory / f"{name}.json" if memory else None)
    faults = []
    try:
        for path, hashed, size in rows(dist_info):
            if path.endswith(".pyc") or (not hashed and path.startswith(dist_info.name)):
                continue
            kind = _fault(f"{site}/{path}", path, hashed, size, known)
            if kind:
                faults.append(Fault(name, path, kind))
    except (OSError, ValueError, csv.Error) as error:  # not text, or a name with a NUL in it
        faults.append(Fault(name, f"{dist_info.name}/RECORD", f"unreadable: {error}"))
    known.save()
    return faults


def _fault(file: str, row: str, hashed: str, size: str, seen: Seen) -> str:
    try:
        info = os.stat(file)  # noqa: PTH116 - thousands of them
    except FileNotFoundError:
        return "missing"
    if size.isdigit() and info.st_size != int(size):
        return "altered"
    algorithm, _, wanted = hashed.partition("=")
    if not wanted or seen.knows(row, hashed, info):
        return ""
    if algorithm not in _ALGORITHMS:
        return f"hashed with {algorithm}, which proves nothing"
    if _digest(Path(file), algorithm) != wanted:
        return "altered"
    seen.add(row, hashed, info)
    return ""


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
