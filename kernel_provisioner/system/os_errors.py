"""What to tell where the machine gives no more: a full disk, a limit, no permission to write.

Both our own OSErrors and what uv says of its (``… (os error 28)``) become one message that names
the path, what is left there and, where it is known, what is needed.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPEN = frozenset({errno.EMFILE, errno.ENFILE})
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# Patterns are compiled when they are wanted, which is rarely, and a cell waits for the builder to start.
_PATH = r"(?<![\w:/.])(/[^\s`'\":()]+)"
_ROOT = "set TORCH_OVERLAY_ROOT to a directory on another disk"
_CACHE = "set UV_CACHE_DIR to a directory on another disk"


class Lack(NamedTuple):
    """What the machine lacks: ``what``, ``why`` and ``fix`` of an error."""

    what: str
    why: str
    fix: str


def lack_of(error: OSError, near: Path) -> Lack | None:
    """The lack that an OSError of ours tells of; None for any other. ``near``: where it names no path."""
    path = Path(error.filename) if isinstance(error.filename, str) else near
    return _lack(error.errno or 0, _there(path), str(error))


def lack_in(said: str, numbers: frozenset[int]) -> Lack | None:
    """The lack that another program tells of, with the system's error ``numbers``; None for any other."""
    for number in sorted(numbers & (_FULL | _OPEN | _CLOSED | {errno.EFBIG})):
        paths = re.findall(_PATH, said)  # the last one: "failed to copy FROM to TO"
        return _lack(number, _there(Path(paths[-1])) if paths else "", said)
    return None


def needed(numbers: frozenset[int], packages: Iterable[Mapping[str, Any]]) -> str:
    """How much a lock's packages need, as a clause, where the ``numbers`` tell of a full disk; else nothing.

    That is the least to download, where their index says how large the files are.
    """
    if not _FULL & numbers:
        return ""
    sizes = ([wheel.get("size", 0) for wheel in package.get("wheels", ())] for package in packages)
    size = sum(min(known, default=0) for known in sizes)
    return f", and {_human(size)} or more needed" if size else ""


def _lack(number: int, path: str, said: str) -> Lack | None:
    at = f" at {path}" if path else ""
    if number in _FULL:
        other = _CACHE if _in_a_cache(Path(path)) else _ROOT
        return Lack(
            f"the disk is full{at}",
            "\n".join(filter(None, [said, _left(path)])),
            f"free space there (jupyter overlay prune  removes what no notebook uses), or {other};"
            " then restart the kernel",
        )
    if number == errno.EFBIG:
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = f"; this process may write files of {_human(limit)} (ulimit -f)" if limit >= 0 else ""
        return Lack(
            f"a file may not grow any larger{at}",
            said + most,
            "raise that limit (ulimit -f unlimited) where Jupyter is started, then restart Jupyter",
        )
    if number in _OPEN:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Lack(
            f"no more files can be opened{at}",
            f"{said}; this process may open {limit} (ulimit -n)",
            "raise that limit (ulimit -n 4096) where Jupyter is started, then restart Jupyter",
        )
    if number in _CLOSED:
        return Lack(
            f"nothing can be written{at}",
            said,
            f"let your user write there, or {_ROOT.replace(' on another disk', ' of yours')};"
            " then restart the kernel",
        )
    return None


def _there(path: Path) -> str:
    """The part of ``path`` that is there: what was being written may be gone again."""
    return os.fspath(next((place for place in (path, *path.parents) if place.exists()), path))


def _in_a_cache(path: Path) -> bool:
    """Whether it lies in a cache such as uv's, by the mark that caches bear (bford.info/cachedir)."""
    return any((place / "CACHEDIR.TAG").exists() for place in (path, *path.parents))


def _left(path: str) -> str:
    """What the disk of ``path`` has left now: bytes, or names for files where those have run out."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return ""
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    names = f" and {disk.f_favail} of {disk.f_files} files (df -i)" if disk.f_files > 0 else ""
    left = f"{_human(free)} of {_human(whole)}{names} left"
    return f"that disk has {left}, now that half-written files are gone"


def _human(size: int) -> str:
    from ..inkernel.shared.disk import human  # nearly never wanted, and a cell waits for the builder to start

    return human(size)
