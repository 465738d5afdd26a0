"""The content of a directory as one hash, to show that nothing in it changed."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_known: dict[tuple[int, ...], bytes] = {}
"""Hashes of files by what the system sets again at every change: a base's thousands are read once."""


def tree_hash(root: Path) -> str:
    """SHA-256 over every path, kind, mode, size and time below ``root``, and over small files' bytes.

    A file of over a megabyte counts by its size and modification time, which no write leaves alone.
    """
    digest = hashlib.sha256()
    top = os.fspath(root)
    for folder, names, files in os.walk(top):
        names.sort()
        for name in sorted([*names, *files]):
            path = f"{folder}/{name}"
            info = os.lstat(path)
            about = f"{path[len(top) :]}\0{info.st_mode}\0{info.st_size}\0{info.st_mtime_ns}\0"
            digest.update(os.fsencode(about))
            if stat.S_ISLNK(info.st_mode):
                digest.update(os.fsencode(Path(path).readlink()))
            elif stat.S_ISREG(info.st_mode) and info.st_size < 1_000_000:
                digest.update(_content(path, info))
    return digest.hexdigest()


def _content(path: str, info: os.stat_result) -> bytes:
    key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    if key not in _known:
        _known[key] = hashlib.sha256(Path(path).read_bytes()).digest()
    return _known[key]
