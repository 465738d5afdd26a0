"""Remove from a shared store what nothing needs that it was filled with: out of use first, deleted later.

Kernels of other users run on links to what lies there, and hold no lock that an admin could see. So a package
is first taken out of use: it lies where it is, running kernels go on with it, and no new overlay is linked to
it; an overlay that was gets a package of its user's own at its next start. Only after days it is deleted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

from ..errors import OverlayError
from ..inkernel.shared.links import FACTS
from ..store import fill, lists
from ..store.entry import RETIRED
from ..system import locks
from .wheels import Wheel, retired_in, wheels_in

DAYS = 30.0
"""Days for which a package that is out of use stays for kernels that run."""


@dataclasses.dataclass
class Pruned:
    """What was taken out of use now, what was deleted, and what is out of use and waits for that."""

    retired: list[Wheel] = dataclasses.field(default_factory=list)
    removed: list[Wheel] = dataclasses.field(default_factory=list)
    waiting: list[Wheel] = dataclasses.field(default_factory=list)


def unneeded(store: Path) -> list[Wheel]:
    """What nothing needs that a shared store was filled with; nothing where nobody can say."""
    known = lists.read(store)
    if known is None:
        return []
    keys = lists.needed(known)
    return [wheel for wheel in wheels_in(store) if wheel.path.name not in keys]


def prune_shared(store: Path, *, now: float, days: float = DAYS, dry_run: bool = False) -> Pruned:
    """Prune a shared store; ``now`` is in seconds since the epoch, as the times of files.

    Raises OverlayError where nobody can say what is needed, or it is being filled.
    """
    known = lists.read(store)
    if known is None:
        raise OverlayError(
            f"nothing is removed from {store}",
            why="nothing there says which notebooks and requirements files it was filled with"
            if store.is_dir()
            else "there is no such directory",
            fix=f"jupyter overlay prebuild --store {store} PATH…  with all of them writes that down",
        )
    with contextlib.ExitStack() as stack:
        if not dry_run:
            lock = locks.attempt(store / fill.USE_LOCK)
            if lock is None:
                raise OverlayError(
                    f"nothing is removed from {store}",
                    why="it is being filled",
                    fix="run the command again when that has ended",
                )
            stack.enter_context(lock)
        pruned = Pruned(unneeded(store))
        for wheel in pruned.retired if not dry_run else ():
            _retire(wheel.path, now)
        out = [*retired_in(store), *((wheel, now) for wheel in pruned.retired if dry_run)]
        for wheel, since in out:
            (pruned.removed if now - since >= days * 86400 else pruned.waiting).append(wheel)
        going = {wheel.path for wheel in pruned.removed}
        pruned.retired = [wheel for wheel in pruned.retired if wheel.path not in going]
        if not dry_run:
            for wheel in pruned.removed:
                _delete(wheel.path)
            for left in fill.leavings(store):
                fill.remove(left)
            lists.drop_gone(known)
    return pruned


def _retire(path: Path, now: float) -> None:
    """Let an entry count no more; who has its files open, or is linked to them, keeps them."""
    path.chmod(0o755)
    try:
        with contextlib.suppress(FileNotFoundError):  # damaged: nobody is linked to it since then
            (path / FACTS).rename(path / RETIRED)
        (path / RETIRED).touch()
        os.utime(path / RETIRED, (now, now))
    finally:
        path.chmod(0o555)


def _delete(path: Path) -> None:
    """Out of sight by one rename first, so that nothing half is left under its name."""
    path.chmod(0o755)
    gone = path.with_name(f"{fill.NEW}{os.getpid()}-{path.name}")
    path.rename(gone)
    fill.remove(gone)
