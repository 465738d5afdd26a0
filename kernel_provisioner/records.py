"""Installed files against what their distribution's RECORD says of them.

uv installs a wheel whose RECORD does not match its files, and calls a half-installed package
fine after a full disk or a kill; so every overlay is checked here before it is published.
The format: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

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


def check(dist_info: Path) -> list[Fault]:
    """All faults of one distribution; compiled bytecode and rows without a hash are not looked at."""
    name = dist_info.name.removesuffix(".dist-info")
    faults = []
    try:
        for path, hashed, size in rows(dist_info):
            if path.endswith(".pyc") or (not hashed and path.startswith(dist_info.name)):
                continue
            kind = _fault(dist_info.parent / path, hashed, size)
            if kind:
                faults.append(Fault(name, path, kind))
    except (OSError, ValueError, csv.Error) as error:  # not text, or a name with a NUL in it
        faults.append(Fault(name, f"{dist_info.name}/RECORD", f"unreadable: {error}"))
    return faults


def _fault(path: Path, hashed: str, size: str) -> str:
    try:
        info = path.stat()
        if size.isdigit() and info.st_size != int(size):
            return "altered"
        algorithm, _, wanted = hashed.partition("=")
        if not wanted:
            return ""
        if algorithm not in _ALGORITHMS:
            return f"hashed with {algorithm}, which proves nothing"
        return "" if _digest(path, algorithm) == wanted else "altered"
    except FileNotFoundError:
        return "missing"


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
