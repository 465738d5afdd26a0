"""Which files of a distribution were read and found right, so that they do not have to be read again.

An overlay's files are hard links to uv's cache, so the next overlay with the same package has the
same inodes. What still has its inode, time and size is what it was.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import replace_text

Row = tuple[str, str, str]
"""A row of RECORD: path relative to the site directory, ``algorithm=digest``, size in bytes."""

_OUTSIDE = "../"  # a script: it names its environment's interpreter, so each environment has its own


class Seen:
    """What is remembered of one distribution in ``path``; without one, nothing.

    ``record`` is the text of its RECORD, and ``site`` an open descriptor of its site directory.
    """

    def __init__(self, path: Path | None, record: str, site: int) -> None:
        self._path, self._record, self._site = path, record, site
        self._scripts, self._others = _split(record)
        self._linked: list[tuple[str, os.stat_result]] = []
        self._own: list[Row] = []

    def unknown(self) -> list[Row]:
        """The rows whose files have to be looked at: all, unless those that were right are as they were."""
        if self._path is not None and '"' not in self._record:  # so that a line is a row
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                known = json.loads(self._path.read_bytes())
                if known["record"] == self._digest() and self._as_they_were(known):
                    own = [_row([*map(str, row)]) for row in known["own"]]
                    return [*own, *parse(self._scripts)]
        return list(parse(self._record))

    def add(self, row: Row, info: os.stat_result) -> None:
        """Take note of a file that is right; to be remembered if others may come that are the same file."""
        if row[0].startswith(_OUTSIDE):
            return
        if row[1] and info.st_nlink > 1:
            self._linked.append((row[0], info))
        else:
            self._own.append(row)

    def save(self) -> None:
        """Remember what was noted, once all is right; a disk that says no costs time, nothing else."""
        if self._path is None or not self._linked:
            return
        said: dict[str, Any] = {
            "record": self._digest(),
            "device": os.fstat(self._site).st_dev,
            "own": self._own,
            "paths": [path for path, _ in self._linked],
            "inodes": [info.st_ino for _, info in self._linked],
            "times": [info.st_mtime_ns for _, info in self._linked],
            "sizes": [info.st_size for _, info in self._linked],
        }
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_text(self._path, json.dumps(said), mode=0o600, durable=False)

    def forget(self) -> None:
        """Remember nothing, once something is wrong: the next time every file is looked at."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _as_they_were(self, known: dict[str, Any]) -> bool:
        """Whether every linked file has its inode, time and size. (Links do not leave a device.)"""
        site = self._site
        if os.fstat(site).st_dev != known["device"]:
            return False
        marks = zip(known["paths"], known["inodes"], known["times"], known["sizes"], strict=True)
        for path, inode, time, size in marks:
            info = os.stat(path, dir_fd=site)  # of thousands of paths, the short part
            if info.st_ino != inode or info.st_mtime_ns != time or info.st_size != size:
                return False
        return True

    def _digest(self) -> str:
        return hashlib.sha256(self._others.encode()).hexdigest()


def _split(record: str) -> tuple[str, str]:
    """The lines of scripts, and all others. Of thousands of lines few are the former; a cell waits."""
    first, *marked = f"\n{record}".split(f"\n{_OUTSIDE}")
    cut = [text.partition("\n") for text in marked]
    scripts = "".join(f"{_OUTSIDE}{line}\n" for line, _, _ in cut)
    return scripts, first + "".join(f"\n{rest}" for _, _, rest in cut)


def parse(record: str) -> Iterator[Row]:
    """The rows of RECORD, or of some lines of it; raises csv.Error."""
    return (_row(row) for row in csv.reader(io.StringIO(record, newline="")) if row)


def _row(row: list[str]) -> Row:
    path, hashed, size = (*row, "", "")[:3]
    return path, hashed, size
