"""Shared and exclusive locks on files, for as long as any process holds them open.

``flock`` belongs to the open file, not to the process: a descriptor handed to a child keeps
the lock for the child's life, whatever its pid, and the kernel of the operating system lets
go when the last holder ends, however it ends. That is what a Jupyter kernel holds on its
overlay and base. Lock files are never unlinked while somebody could wait on them: two waiters
would end up with locks on different files of one name.

Where a file system keeps no locks (some mounts of NFS and Lustre), whoever asks is let through:
launches do not rest on them, because overlays are generations of their own, published by one
atomic rename. Who deletes asks ``keep_apart`` first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from ..errors import LockTimeout
from ..inkernel.shared import flock

_POLL = 0.02  # seconds between tries; flock has no wait with a deadline
_SEEN_HERE_ONLY = frozenset({"nolock", "local_lock=all", "local_lock=flock", "localflock"})  # nfs(5), Lustre


class Lock:
    """A held lock. ``fd`` may be handed to a child, which then holds the same lock."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def release(self) -> None:
        """Let go here; a child that was given ``fd`` goes on holding the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lock:  # noqa: PYI034 - typing.Self is Python 3.11's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def shared(path: Path, *, timeout: float = 0.0) -> Lock:
    """A shared lock on ``path``; raises LockTimeout after ``timeout`` seconds.

    Works on a file that belongs to another user and can only be read.
    """
    return _acquire(path, fcntl.LOCK_SH, timeout)


def exclusive(path: Path, *, timeout: float = 0.0) -> Lock:
    """An exclusive lock on ``path``, which is made if need be; raises LockTimeout."""
    return _acquire(path, fcntl.LOCK_EX, timeout)


def attempt(path: Path) -> Lock | None:
    """An exclusive lock on ``path`` without waiting; None where somebody else holds one."""
    return _try(path, fcntl.LOCK_EX)


def is_held(path: Path | str, *, exclusively: bool = False) -> bool:
    """Whether somebody holds a lock on ``path`` now; a missing file is not held.

    ``exclusively``: an exclusive lock. Two that ask so at once never take each other for a holder.
    """
    return flock.is_held(path, fcntl.LOCK_SH if exclusively else fcntl.LOCK_EX)


def keep_apart(held: Lock) -> bool:
    """Whether a second exclusive lock beside ``held``, an exclusive one, is refused, on every machine.

    Where it is not, nobody can say who uses what, and nothing may be deleted.
    """
    return is_held(held.path) and not of_this_machine(held.path)


def of_this_machine(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether locks on ``path`` are seen by this machine alone, though others may have that disk too.

    False where the system does not tell how it is mounted.
    """
    with contextlib.suppress(OSError):
        device = path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2] == number:
                return not _SEEN_HERE_ONLY.isdisjoint(",".join(after.split()[2:]).split(","))
    return False


def _acquire(path: Path, kind: int, timeout: float) -> Lock:
    deadline = time.monotonic() + timeout
    while (lock := _try(path, kind)) is None:
        if time.monotonic() >= deadline:
            pids = flock.holders(path)
            raise LockTimeout(
                f"{path} is locked by another process",
                why="pids " + ", ".join(map(str, pids)) if pids else "",
                fix="wait for it to end, then try again",
            )
        time.sleep(_POLL)
    return lock


def _try(path: Path, kind: int) -> Lock | None:
    """The lock, or None where somebody else's is in its way."""
    while True:
        fd = flock.open_file(path, create=True)
        try:
            taken = flock.take(fd, kind)
            if taken and _same_file(path, fd):
                return Lock(path, fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if not taken:
            return None


def _same_file(path: Path, fd: int) -> bool:
    try:
        there, here = path.stat(follow_symlinks=False), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
