"""What commands have left that tried out an order and were killed (``builder/trial.py``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..builder.trial import LOCK, PREFIX
from ..inkernel.shared import layout
from ..system import locks

_UNMARKED = 86400.0  # seconds; those of earlier versions have no lock file that tells whether they are in use


def left_trials(root: Path, now: float) -> list[Path]:
    """The directories of trials in ``root`` that nobody holds; ``now`` is in seconds since the epoch."""
    return sorted(path for path in root.glob(f"{PREFIX}*") if _is_left(path, now))


@contextlib.contextmanager
def taken(trial: Path) -> Iterator[bool]:
    """Whether nobody holds a trial; nobody else takes it meanwhile."""
    lock = None
    with contextlib.suppress(OSError):  # it has gone by itself
        lock = locks.attempt(trial / LOCK)
    if lock is None:
        yield False
        return
    with lock:
        yield True


def _is_left(path: Path, now: float) -> bool:
    with contextlib.suppress(OSError):
        if path.is_symlink():
            return False
        if (path / LOCK).exists():
            return not locks.is_held(path / LOCK)
        earlier = (path / "overlay" / layout.SPEC).exists()  # or it is somebody's own
        return earlier and now - path.stat().st_mtime > _UNMARKED
    return False
