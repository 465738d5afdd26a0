"""``flock`` with what the systems that lack it say, and who has a file open.

Where a file system keeps no locks (some mounts of NFS and Lustre), whoever asks is let through.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# NFS without its lock daemon; Lustre mounted without -o flock; others; the kernel's own ENOTSUPP; and EBADF
# for an exclusive lock on NFS, where a descriptor that can only be read has none: flock(2), "NFS details".
_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, 524})


def take(fd: int, kind: int) -> bool:
    """Lock an open file without waiting; False where another's lock is in the way, True where none are kept.

    ``kind`` is ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``. Raises OSError for anything else.
    """
    return _flock(fd, kind | fcntl.LOCK_NB)


def is_held(path: Path | str, kind: int) -> bool:
    """Whether another's lock stands in the way of one of ``kind``; a missing file is not held.

    Works on a file that belongs to another user and can only be read.
    """
    try:
        fd = open_file(path, create=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not take(fd, kind)
    finally:
        os.close(fd)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, which is made if need be, once nobody else does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def open_file(path: Path | str, *, create: bool) -> int:
    """A descriptor to lock; one that can only be read will do for either kind of lock. Raises OSError.

    A file that is made here is for its owner alone: who can read a file can lock it.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, flags | os.O_RDONLY)


def holders(path: Path) -> list[int]:
    """The pids that have ``path`` open, as far as this user may see, sorted; empty without ``/proc``.

    So a builder has its lock open also where locks mean nothing.
    """
    wanted = os.path.realpath(path)
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if any(_target(link) == wanted for link in (entry / "fd").iterdir()):
                pids.append(int(entry.name))
    return sorted(pids)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _target(link: Path) -> str:
    with contextlib.suppress(OSError):  # closed meanwhile
        return str(link.readlink())
    return ""
