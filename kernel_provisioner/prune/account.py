"""What all environments of this user share and own on disk, each byte counted once."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..base.registry import RegisteredBase
from ..inkernel.disk import Usage, usage
from ..overlay.store import State
from ..venv.notes import known
from .survey import survey

# There cp and uv may share blocks between files, which neither stat nor du tells.
_REFLINKS = frozenset({"apfs", "bcachefs", "btrfs", "ocfs2", "xfs", "zfs"})


@dataclasses.dataclass(frozen=True)
class Shared:
    """A base: what it takes, hard links included, and how many environments stand on it."""

    base: RegisteredBase
    usage: Usage
    environments: int

    @property
    def bytes(self) -> int:
        """All that it occupies."""
        return self.usage.own_bytes + self.usage.linked_bytes


@dataclasses.dataclass(frozen=True)
class Environment:
    """A notebook's overlay or a project's environment. ``name`` is the notebook or the directory.

    ``counts``: it is in use or could be, where the others are leavings (old, failed).
    """

    kind: str
    name: str
    path: Path
    base: str
    state: str
    counts: bool
    usage: Usage


@dataclasses.dataclass(frozen=True)
class Account:
    """All of them. ``together`` is what the environments take, a file that several have counted once."""

    bases: tuple[Shared, ...]
    environments: tuple[Environment, ...]
    together: Usage
    notes: tuple[str, ...]

    @property
    def shared_bytes(self) -> int:
        """What lies on disk: each base once, and what each environment adds."""
        return sum(shared.bytes for shared in self.bases) + self.added_bytes

    @property
    def private_bytes(self) -> int:
        """What would lie there if every environment held a copy of what its base holds."""
        return sum(shared.bytes * shared.environments for shared in self.bases) + self.added_bytes

    @property
    def added_bytes(self) -> int:
        """What the environments add to their bases, the files that are hard links included."""
        return self.together.own_bytes + self.together.linked_bytes


def account(root: Path, bases: Sequence[RegisteredBase]) -> Account:
    """Measure the bases and every environment below ``root`` or noted there; reads every directory."""
    found = list(_environments(root))
    count = Counter(entry.base for entry in found if entry.counts)
    return Account(
        bases=tuple(Shared(base, usage(_places(base)), count[base.manifest.id]) for base in bases),
        environments=tuple(found),
        together=usage([entry.path for entry in found]),
        notes=tuple(_notes(root, bases, found)),
    )


def _environments(root: Path) -> Iterable[Environment]:
    for overlay in survey(root):
        newest = next((found.path for found in overlay.generations if found.state is State.READY), None)
        for found in overlay.generations:
            yield Environment(
                "notebook",
                overlay.notebook,
                found.path,
                found.base,
                found.state.value,
                found.in_use or (found.path == newest and not overlay.notebook_gone),
                usage([found.path]),
            )
    for venv in known(root):
        state = "unseen" if venv.unseen else "ready" if venv.ready else "unfinished"
        yield Environment("venv", str(venv.path), venv.path, venv.base, state, venv.ready, usage([venv.path]))


def _places(base: RegisteredBase) -> list[str]:
    """A base of our own is its directory; of an adopted one only the packages are counted, not a system."""
    if not base.manifest.adopted:
        return [str(base.directory)]
    real = {os.path.realpath(place) for place in base.manifest.site_dirs}
    return sorted(place for place in real if not any(place.startswith(f"{other}/") for other in real))


def _notes(root: Path, bases: Sequence[RegisteredBase], found: Sequence[Environment]) -> Iterable[str]:
    there = {base.manifest.id for base in bases}
    if gone := sorted({entry.base for entry in found if entry.base and entry.base not in there}):
        yield f"their base is not registered here, and not counted: {', '.join(gone)}"
    places = {_file_system(place) for place in (root, *(base.directory for base in bases))}
    if shared := sorted(places & _REFLINKS):
        yield f"copies that share their blocks (reflinks, on {', '.join(shared)}) are counted as own"


def _file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system that a path lies on, as far as this machine says."""
    if sys.platform == "darwin":
        return "apfs"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind
