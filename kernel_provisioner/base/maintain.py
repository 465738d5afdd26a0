"""Verify a base, and remove one that nobody runs on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import BaseInUse, BaseNotFound, LockTimeout
from ..inkernel.shared import flock
from ..model.accelerators import BESIDE_TORCH
from ..system import locks, records
from .current import is_current
from .publish import remove_tree, told_disk_errors, withdraw
from .registry import RegisteredBase, announced_removal, is_leftover, is_registered, remove_alias
from .snapshot import own_python, probe
from .trust import unsafe

_MOMENT = 1.0  # seconds; an adoption that was begun just now takes about that


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What ``verify`` found: faults of files, and what ``import torch`` said."""

    distributions: int
    faults: tuple[str, ...]
    torch: str

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify_base(base: RegisteredBase) -> Verdict:
    """Check every file of a base against RECORD and import its torch; changes nothing."""
    if error := unsafe(base):  # nothing of it is run
        return Verdict(0, (str(error),), "")
    faults: list[str] = []
    count = 0
    for site_dir in base.manifest.site_dirs:
        for dist_info in records.dist_infos(Path(site_dir)):
            count += 1
            if base.manifest.adopted and not (dist_info / "RECORD").exists():
                continue  # Debian's packages have none: dpkg knows their files
            faults += map(str, records.check(dist_info))
    torch = ""
    try:
        facts = probe(own_python(base.manifest), torch=True, beside=BESIDE_TORCH)
        said = facts["torch"]
        torch = said.get("version", "")
        broken = {"torch": said["error"]} if "error" in said else facts["broken"]
        faults += [f"import {module}: {error}" for module, error in broken.items()]
    except BaseNotFound as error:
        faults.append(str(error))
    if not is_current(base):
        faults.append(
            f"{base.manifest.prefix} changed since it was adopted; "
            f"jupyter overlay base adopt {base.manifest.prefix}  takes it as it is now"
        )
    return Verdict(count, tuple(faults), torch)


def remove_base(
    base: RegisteredBase, *, data_dir: Path, standing: Callable[[], Sequence[Path]] = tuple
) -> list[str]:
    """Remove a base, its aliases and its kernel; an adopted environment itself stays.

    ``standing`` tells which projects' environments stand on it. Returns what was removed, a line
    each. Raises BaseInUse, naming the kernels that run or the environments, or BaseNotFound.
    """
    with (
        told_disk_errors(data_dir),
        _nobody_makes(base.directory.parent, base.manifest.id) as making,
        announced_removal(base),
        _nobody_uses(base.directory.parent, base.manifest.id),
    ):
        if not is_registered(base):
            raise BaseNotFound(f"{base.manifest.id} no longer exists", why="it was removed")
        _refuse_standing(base.manifest.id, standing())
        done = withdraw(base, data_dir)
        making.path.unlink(missing_ok=True)  # ours: whoever waits for it sees that, and makes another
    return done


def remove_leftover(directory: Path, *, standing: Callable[[], Sequence[Path]] = tuple) -> list[str]:
    """Remove what is left of a base: what a removal or a creation has left that was killed.

    Returns what was removed, a line each. Raises BaseInUse where somebody makes or removes it right now, or
    something still stands on it, as ``remove_base`` does, and BaseNotFound where it is none.
    """
    name, root = directory.name, directory.parent
    with told_disk_errors(root.parent), _nobody_makes(root, name) as making, _nobody_uses(root, name):
        if not is_leftover(directory):
            raise BaseNotFound(f"{name} no longer exists", why="it was removed, or created again")
        _refuse_standing(name, standing())
        tags = remove_alias(root, name)
        remove_tree(directory)
        making.path.unlink(missing_ok=True)  # as after a removal
    return [f"what was left of {name}", *(f"alias {tag}" for tag in tags)]


def describe_holders(base: RegisteredBase) -> list[str]:
    """A line for each process that holds the base: its pid and its command, as far as we may see."""
    return _holders(base.lock_path)


def _refuse_standing(name: str, places: Sequence[Path]) -> None:
    """Raise BaseInUse where environments of projects stand on a base, at ``places``."""
    if places:
        raise BaseInUse(
            f"{name} is in use",
            why="these environments of projects stand on it:\n" + "\n".join(map(str, places)),
            fix="remove those directories (rm -r), or let each stand on another base:\n"
            "jupyter overlay venv DIR --base OTHER … --recreate;  then try again",
        )


def _holders(lock_path: Path) -> list[str]:
    lines = []
    for pid in flock.holders(lock_path):
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            notebook = _notebook_of(words[0])
            said = f"kernel of {notebook}" if notebook else " ".join(words).strip()
            lines.append(f"pid {pid}: {said or 'ending'}")
    return lines


def _nobody_makes(root: Path, name: str) -> locks.Lock:
    """The lock under which the base ``name`` in ``root`` is made or adopted; raises BaseInUse."""
    try:
        return locks.exclusive(root / f"{name}.new.lock", timeout=_MOMENT)
    except LockTimeout as error:
        raise BaseInUse(
            f"{name} is being created, adopted or removed right now",
            why=error.why,
            fix="wait for that process to end, then try again",
        ) from error


def _nobody_uses(root: Path, name: str) -> locks.Lock:
    """The lock that every kernel on the base ``name`` holds shared; raises BaseInUse, naming them.

    Also where the disk keeps no locks, so that nobody can say who runs on it.
    """
    path = root / f"{name}.lock"
    try:
        lock = locks.exclusive(path)
    except LockTimeout as error:
        raise BaseInUse(
            f"{name} is in use",
            why="\n".join(_holders(path)) or "a kernel of another user runs on it",
            fix="shut these kernels down, then try again; new kernels of the tag follow another base "
            "after  jupyter overlay base default TAG ID",
        ) from error
    if not locks.keep_apart(lock):
        lock.release()
        directory = shlex.quote(str(root / name))
        raise BaseInUse(
            f"{name} may be in use",
            why=f"the disk of {path} keeps no locks, so it is unknown which kernels run on it",
            fix=f"shut all kernels down, then remove it by hand: chmod -R u+w {directory}; rm -r {directory}",
        )
    return lock


def _notebook_of(python: str) -> str:
    """The notebook whose overlay an interpreter path lies in, or nothing."""
    with contextlib.suppress(OSError, IndexError):
        return (Path(python).parents[2] / "notebook.txt").read_text(encoding="utf-8").strip()
    return ""
