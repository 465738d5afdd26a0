"""Installed files against what their distribution's RECORD says of them.

uv installs a wheel whose RECORD does not match its files, and calls a half-installed package
fine after a full disk or a kill; so every overlay is checked here before it is published.
The format: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .record_cache import Row, Seen, parse

_CHUNK = 1 << 16
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})  # the specification forbids weaker ones


class Fault(NamedTuple):
    """One file that is not what RECORD says: ``missing``, ``altered``, or an unreadable RECORD."""

    distribution: str
    path: str
    kind: str

    def __str__(self) -> str:
        return f"{self.path} is {self.kind} ({self.distribution})"


def dist_infos(site_dir: Path) -> list[Path]:
    """The ``*.dist-info`` directories of a site directory, sorted."""
    try:
        names = [entry.name for entry in os.scandir(site_dir) if entry.name.endswith(".dist-info")]
    except FileNotFoundError:
        return []
    return [Path(site_dir, name) for name in sorted(names)]


def rows(dist_info: Path) -> Iterator[Row]:
    """The rows of RECORD."""
    yield from parse(_text(dist_info))


def paths(dist_info: Path) -> Iterator[str]:
    """The paths that RECORD names, relative to the site directory; raises as ``rows``, and OSError."""
    text = _text(dist_info)
    if '"' in text:
        return (path for path, _, _ in parse(text))
    return (line.partition(",")[0] for line in text.splitlines())  # a line is a row, and read in a tenth


def plain(path: str) -> str:
    """A path that RECORD names, as it is found in a tree; nearly all of thousands are so already."""
    return os.path.normpath(path) if "./" in path or "//" in path else path


def unhashed(dist_info: Path) -> list[str]:
    """The paths that RECORD gives no hash of; raises as ``rows``, and OSError."""
    text = _text(dist_info)
    if '"' not in text:  # a line is a row, and few have none
        text = "\n".join(line for line in text.splitlines() if ",," in line)
    return [path for path, hashed, _ in parse(text) if not hashed]


def row_of(file: Path) -> tuple[str, str]:
    """What a RECORD says of a file: its hash and its size."""
    return f"sha256={_digest(file, 'sha256')}", str(file.stat().st_size)


def check(dist_info: Path, memory: Path | None = None) -> list[Fault]:
    """All faults of one distribution; compiled bytecode and rows without a hash are not looked at.

    ``memory`` is a directory in which files that were found right are remembered, see ``seen``.
    """
    name, folder = dist_info.name.removesuffix(".dist-info"), os.fspath(dist_info.parent)
    faults = []
    site = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)  # of thousands of paths, the short part
    try:
        seen = Seen(memory / f"{name}.json" if memory else None, _text(dist_info), site)
        for row in seen.unknown():
            path, hashed, _ = row
            if path.endswith(".pyc") or (not hashed and path.startswith(dist_info.name)):
                continue
            try:
                info = os.stat(f"./{path}", dir_fd=site)  # never from the root
            except FileNotFoundError:
                faults.append(Fault(name, path, "missing"))
                continue
            if kind := _fault(f"{folder}/{path}", row, info):
                faults.append(Fault(name, path, kind))
            else:
                seen.add(row, info)
        if faults:
            seen.forget()
        else:
            seen.save()
    except (OSError, ValueError, csv.Error) as error:  # not text, or a name with a NUL in it
        faults.append(Fault(name, f"{dist_info.name}/RECORD", f"unreadable: {error}"))
    finally:
        os.close(site)
    return faults


def cut_short(dist_info: Path) -> list[Fault]:
    """The files of one distribution that are missing, or not as large as RECORD says: nothing is read.

    That takes a twentieth of the time of ``check``.
    """
    name, faults = dist_info.name.removesuffix(".dist-info"), []
    try:
        text = _text(dist_info)
        found = parse(text) if '"' in text else (line.rsplit(",", 2) for line in text.splitlines())
        site = os.open(dist_info.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for path, _, size in found:
                if size and not path.endswith(".pyc"):
                    try:
                        right = os.stat(path, dir_fd=site).st_size == int(size)
                    except FileNotFoundError:
                        faults.append(Fault(name, path, "missing"))
                        continue
                    if not right:
                        faults.append(Fault(name, path, "altered"))
        finally:
            os.close(site)
    except (OSError, ValueError, csv.Error) as error:
        faults.append(Fault(name, f"{dist_info.name}/RECORD", f"unreadable: {error}"))
    return faults


def difference(file: Path, row: Row) -> str:
    """How a file differs from its row: ``missing``, ``altered`` …; empty where not. Raises OSError."""
    try:
        return _fault(file, row, file.stat())
    except FileNotFoundError:
        return "missing"


def _fault(file: str | Path, row: Row, info: os.stat_result) -> str:
    _, hashed, size = row
    if size.isdigit() and info.st_size != int(size):
        return "altered"
    algorithm, _, wanted = hashed.partition("=")
    if not wanted:
        return ""
    if not stat.S_ISREG(info.st_mode):  # a device may never end
        return "no file"
    if algorithm not in _ALGORITHMS:
        return f"hashed with {algorithm}, which proves nothing"
    return "" if _digest(file, algorithm) == wanted else "altered"


def _text(dist_info: Path) -> str:
    with (dist_info / "RECORD").open(encoding="utf-8", newline="") as file:
        return file.read()


def _digest(path: str | Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of them
        while block := file.read(_CHUNK):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
