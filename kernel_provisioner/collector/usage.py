"""What all environments of this user share and own on disk, each byte counted once."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..base.registry import RegisteredBase
from ..inkernel.shared.disk import Usage, usage
from ..overlay.store import State
from ..project.notes import known
from .scan import scan
from .wheels import linked_to, wheels

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

    ``counts``: it is in use or could be, where the others are leavings (old, failed). ``store_bytes`` are
    those of the wheel store that it is linked to.
    """

    kind: str
    name: str
    path: Path
    base: str
    state: str
    counts: bool
    usage: Usage
    store_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Account:
    """All of them. ``together`` is what the environments take, a file that several have counted once.

    ``of_bases`` is what the bases take: one that was adopted may look into another's directories.
    ``wheels`` is what each entry of the wheel store takes, by its path, and ``shared`` what each takes that
    lies in a shared store.
    """

    bases: tuple[Shared, ...]
    of_bases: Usage
    environments: tuple[Environment, ...]
    together: Usage
    notes: tuple[str, ...]
    wheels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def _base_bytes(self) -> int:
        return self.of_bases.own_bytes + self.of_bases.linked_bytes

    @property
    def store_bytes(self) -> int:
        """What the wheel store takes, and what overlays are linked to in shared ones."""
        return sum(self.wheels.values()) + sum(self.shared.values())

    @property
    def package_bytes(self) -> int:
        """What the packages of the wheel store would take, were they in each environment that has them."""
        return sum(entry.store_bytes for entry in self.environments if entry.counts)

    @property
    def shared_bytes(self) -> int:
        """What lies on disk: each base and each package once, and what each environment adds."""
        return self._base_bytes + self.store_bytes + self.added_bytes

    @property
    def private_bytes(self) -> int:
        """What would lie there if every environment held a copy of what its base and the store hold."""
        bases = sum(shared.bytes * shared.environments for shared in self.bases)
        return bases + self.package_bytes + self.added_bytes

    @property
    def added_bytes(self) -> int:
        """What the environments add to their bases, the files that are hard links included."""
        return self.together.own_bytes + self.together.linked_bytes


def account(root: Path, bases: Sequence[RegisteredBase]) -> Account:
    """Measure the bases and every environment below ``root`` or noted there; reads every directory."""
    own, shared = (_taken(root, shared=kind) for kind in (False, True))
    found = list(_environments(root, {**own, **shared}))
    count = Counter(entry.base for entry in found if entry.counts)
    return Account(
        bases=tuple(Shared(base, usage(_places(base)), count[base.manifest.id]) for base in bases),
        of_bases=usage(_outermost(place for base in bases for place in _places(base))),
        environments=tuple(found),
        together=usage([entry.path for entry in found]),
        notes=tuple(_notes(root, bases, found)),
        wheels=own,
        shared=shared,
    )


def _taken(root: Path, *, shared: bool) -> dict[str, int]:
    """What each entry of the wheel store takes, by its real path: its own, or those of shared stores."""
    places = [os.path.realpath(wheel.path) for wheel in wheels(root) if wheel.shared is shared]
    return {path: _all(usage([path])) for path in places}


def _all(used: Usage) -> int:
    return used.own_bytes + used.linked_bytes


def _linked(path: Path, taken: Mapping[str, int]) -> int:
    return sum(taken.get(os.path.realpath(entry), 0) for entry in linked_to(path) or ())


def _environments(root: Path, taken: Mapping[str, int]) -> Iterable[Environment]:
    for overlay in scan(root):
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
                _linked(found.path, taken),
            )
    for venv in known(root):
        state = "unseen" if venv.unseen else "ready" if venv.ready else "unfinished"
        yield Environment(
            "venv",
            str(venv.path),
            venv.path,
            venv.base,
            state,
            venv.ready,
            usage([venv.path]),
            _linked(venv.path, taken),
        )


def _places(base: RegisteredBase) -> list[str]:
    """A base is its directory; of an adopted one the packages are counted too, but not a whole system."""
    return _outermost([str(base.directory), *(base.manifest.site_dirs if base.manifest.adopted else ())])


def _outermost(places: Iterable[str]) -> list[str]:
    """The real directories among ``places`` that lie in no other of them."""
    real = {os.path.realpath(place) for place in places}
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
