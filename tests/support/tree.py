"""The content of a directory as one hash, to show that nothing in it changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def tree_hash(root: Path) -> str:
    """SHA-256 over every path, kind, mode, size and time below ``root``, and over small files' bytes.

    A file of over a megabyte counts by its size and modification time, which no write leaves alone.
    """
    digest = hashlib.sha256()
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(folder, name)
            info = path.lstat()
            digest.update(
                f"{path.relative_to(root)}\0{info.st_mode}\0{info.st_size}\0{info.st_mtime_ns}\0".encode()
            )
            if path.is_symlink():
                digest.update(os.fsencode(path.readlink()))
            elif path.is_file() and info.st_size < 1_000_000:
                digest.update(path.read_bytes())
    return digest.hexdigest()
