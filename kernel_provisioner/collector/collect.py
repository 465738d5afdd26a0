"""Remove what is doomed, so that no launch ever sees half of an overlay.

Each notebook's directory is looked at again under the lock that its launches take, and what goes
is first renamed out of every launch's sight, then deleted. A sweep that is cut short leaves its
leavings there, where the next one finds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from ..base.publish import make_writable
from ..errors import LockTimeout, OverlayError
from ..inkernel.shared import layout
from ..inkernel.shared.disk import Usage, usage
from ..inkernel.shared.packages import by_hand
from ..overlay import store
from ..overlay.model import sweep_models
from ..overlay.skeleton import remove_tree
from ..store.fill import USE_LOCK, leavings
from ..system import locks
from ..system.pause_points import pause
from .decide import Policy, removable
from .scan import Found, Overlay, look_at, scan
from .trials import left_trials, taken
from .wheels import Wheel, unused

TRASH = ".trash"
LOCK_DAYS = 30.0
"""Days for which a lock that no overlay was installed from is kept, for the notebook that asks again."""


@dataclasses.dataclass(frozen=True)
class Removed:
    """An overlay that went, or in a dry run would. ``by_hand``: ``name version`` of what goes with it."""

    path: Path
    notebook: str
    reason: str
    usage: Usage
    by_hand: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Kept:
    """An overlay that stays although nobody uses it, for what was installed in it by hand."""

    path: Path
    notebook: str
    reason: str
    by_hand: tuple[str, ...]


@dataclasses.dataclass
class Collected:
    """What a sweep did. ``busy``: notebooks that were being launched just then, and left alone."""

    removed: list[Removed] = dataclasses.field(default_factory=list)
    kept: list[Kept] = dataclasses.field(default_factory=list)
    busy: list[Path] = dataclasses.field(default_factory=list)
    locks: list[Path] = dataclasses.field(default_factory=list)
    wheels: list[Wheel] = dataclasses.field(default_factory=list)


def collect(
    root: Path,
    policy: Policy,
    *,
    now: float,
    dry_run: bool = False,
    tell: Callable[[Removed], None] | None = None,
    take: Callable[[Path], locks.Lock] = locks.exclusive,
) -> Collected:
    """Collect under ``root``; ``tell`` hears of each overlay before it goes.

    Raises OverlayError where the file system does not keep locks apart, for nobody could say there
    who uses what; then nothing is removed.
    """
    collected = Collected()
    if not root.is_dir():
        return collected
    with contextlib.ExitStack() as stack:
        if not dry_run:
            store.Store(root).prepare()
            stack.enter_context(_sweeping(root, take))
            _empty(root / TRASH)
        for overlay in scan(root):
            if overlay.generations and not any(removable(overlay, policy, now=now)):
                continue
            if dry_run:
                _judge(overlay, policy, now, collected, tell)
                continue
            pause("marked")
            try:
                with take(overlay.directory / layout.LAUNCH_LOCK):
                    _collect(root, look_at(overlay.directory), policy, now, collected, tell)
            except (LockTimeout, FileNotFoundError):
                collected.busy.append(overlay.directory)
            _empty(root / TRASH)
        _sweep_trials(root, now, collected, tell, dry_run=dry_run)
        _sweep_locks(root, now, collected, dry_run=dry_run)
        if not dry_run:
            _sweep_rename_notes(root)
            _sweep_checked(root, now)
            sweep_models(root)
        sweep_wheels(root, collected, dry_run=dry_run)
    return collected


def forget(root: Path, directory: Path) -> bool:
    """Remove all of one notebook's overlays that nobody uses; False where one is in use."""
    with contextlib.suppress(LockTimeout, FileNotFoundError):
        with locks.exclusive(directory / layout.LAUNCH_LOCK) as lock:
            if not locks.keep_apart(lock) or any(found.in_use for found in look_at(directory).generations):
                return False
            _discard(root, directory)
        _empty(root / TRASH)
    return not directory.exists()


def _collect(
    root: Path,
    overlay: Overlay,
    policy: Policy,
    now: float,
    collected: Collected,
    tell: Callable[[Removed], None] | None,
) -> None:
    """Remove what is doomed of one notebook's overlays, whose launches wait meanwhile."""
    gone = _judge(overlay, policy, now, collected, tell)
    if len(gone) == len(overlay.generations) and (overlay.scratch or overlay.notebook_gone):
        _discard(root, overlay.directory)
        return
    for found in gone:
        _discard(root, found.path)


def _judge(
    overlay: Overlay, policy: Policy, now: float, collected: Collected, tell: Callable[[Removed], None] | None
) -> list[Found]:
    """Note what goes and what stays for its packages; the generations that go."""
    gone = []
    for found, reason in removable(overlay, policy, now=now):
        users = _by_hand(found)
        if users and not policy.everything:
            collected.kept.append(Kept(found.path, overlay.notebook, reason, users))
            continue
        removed = Removed(found.path, overlay.notebook, reason, usage([found.path]), users)
        if tell:
            tell(removed)
        collected.removed.append(removed)
        gone.append(found)
    return gone


def _by_hand(found: Found) -> tuple[str, ...]:
    """What a user has installed; only an overlay that was entered can hold any."""
    if not store.Generation(found.path).entered:
        return ()
    return tuple(f"{package.name} {package.version}" for package in by_hand(found.path))


def sweep_wheels(root: Path, collected: Collected, *, dry_run: bool) -> None:
    """Remove from the wheel store what no environment names; not while a build is under way.

    Of a shared store's packages the links alone go, which is not worth telling.
    """
    gone = {removed.path for removed in collected.removed}
    if not (wheels := unused(root, gone)) and not leavings(root / store.WHEELS):
        return
    with contextlib.ExitStack() as stack:
        if not dry_run:
            lock = locks.attempt(root / store.WHEELS / USE_LOCK)
            if lock is None:
                return
            stack.enter_context(lock)
            wheels = unused(root, gone)  # a build may have ended meanwhile
            for path in (*(wheel.path for wheel in wheels), *leavings(root / store.WHEELS)):
                if path.is_symlink():
                    path.unlink()
                else:
                    path.chmod(0o755)
                    _discard(root, path)
            _empty(root / TRASH)
        collected.wheels += [wheel for wheel in wheels if not wheel.shared]


def _discard(root: Path, path: Path) -> None:
    """Out of sight by one rename; the deletion comes later, and may be cut short."""
    trash = root / TRASH
    trash.mkdir(mode=0o700, exist_ok=True)
    path.rename(trash / f"{path.parent.name}-{path.name}-{secrets.token_hex(4)}")


def _empty(trash: Path) -> None:
    """Delete what is in the trash; the directory stays, for another process may be filling it."""
    with contextlib.suppress(OSError):
        for entry in list(trash.iterdir()):
            remove_tree(entry)
            if entry.exists():  # what was installed by hand may have taken its own write permission
                with contextlib.suppress(OSError):
                    make_writable(entry)
                remove_tree(entry)


def _sweep_trials(
    root: Path, now: float, collected: Collected, tell: Callable[[Removed], None] | None, *, dry_run: bool
) -> None:
    """Remove what commands have left that were killed while they tried out an order."""
    for trial in left_trials(root, now):
        removed = Removed(trial / "overlay", "", "the command that made it was killed", usage([trial]))
        with contextlib.nullcontext(True) if dry_run else taken(trial) as free:
            if not free:
                continue
            if tell:
                tell(removed)
            collected.removed.append(removed)
            if not dry_run:
                _discard(root, trial)
    if not dry_run:
        _empty(root / TRASH)


def _sweep_locks(root: Path, now: float, collected: Collected, *, dry_run: bool) -> None:
    """Remove the locks that no overlay was installed from, once they are old."""
    if not (old := sorted(_older(root / "locks", now - LOCK_DAYS * 86400))):
        return
    gone = {removed.path for removed in collected.removed}
    left = (found for overlay in scan(root) for found in overlay.generations if found.path not in gone)
    wanted = {found.key for found in left}
    for path in old:
        if wanted.isdisjoint(path.name.split(".")):
            collected.locks.append(path)
            if not dry_run:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _older(directory: Path, then: float) -> Iterator[Path]:
    """The files in a directory that were last written to before ``then``, in seconds since the epoch."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime < then and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _sweep_rename_notes(root: Path) -> None:
    """Remove the notes that lead renamed notebooks to directories that are gone."""
    for note in root.glob("*.renamed"):
        with contextlib.suppress(OSError):
            if not (root / note.read_text(encoding="utf-8", errors="replace").strip()).is_dir():
                note.unlink()


def _sweep_checked(root: Path, now: float) -> None:
    """Forget which files were found right, of packages that no overlay has got for long."""
    for note in (root / store.CHECKED).glob("*.json"):
        with contextlib.suppress(OSError):
            if (now - note.stat().st_mtime) / 86400 > LOCK_DAYS:
                note.unlink()


def _sweeping(root: Path, take: Callable[[Path], locks.Lock]) -> locks.Lock:
    """The lock that lets one sweep run at a time.

    Raises LockTimeout where another runs, and OverlayError where two can hold one exclusive lock:
    some network disks keep none, or each machine its own.
    """
    path = root / ".prune.lock"
    lock = take(path)
    try:
        take(path).release()
    except LockTimeout:
        if not locks.of_this_machine(path):
            return lock
    lock.release()
    raise OverlayError(
        f"unused overlays in {root} cannot be removed",
        why="two processes or machines can lock one file there, so it is unknown which overlays are in use",
        fix="stop all kernels and remove that directory by hand, or set TORCH_OVERLAY_ROOT to a local disk",
    )
