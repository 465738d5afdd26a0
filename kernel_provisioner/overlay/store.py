"""Where overlays live, and what state each is in.

``<overlay root>/<notebook key>/<generation>/``. A generation is built once and never repaired:
where anything about it is wrong, or the notebook asks for something else, a new one is started
beside it. Its ``overlay.json`` is written last and by one rename: no file, no overlay.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import itertools
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BuildFailed, CorruptState, PackageDamaged, without_credentials
from ..inkernel.shared import layout
from ..store.entry import are_there
from ..system import locks, permissions
from ..system.files import read_bytes, replace_text
from .skeleton import is_intact

if TYPE_CHECKING:  # the builder, whom a cell waits for, starts without what these bring along
    from ..model.manifest import BaseManifest
    from ..model.request import Request
    from ..settings import Settings

SCHEMA = 1
SCRATCH = "scratch"
CHECKED = ".checked"  # which files of uv's cache were found right, see record_cache
UV_FACTS = ".uv.json"  # see uv_facts
WHEELS = ".store"  # the wheel store, see the room ``store``
WARM = "warm"  # after it: a fork server's
_ELSEWHERE = "set TORCH_OVERLAY_ROOT to a directory that you and root alone can change"
_UNFIT_FOR = 24 * 3600.0  # seconds; by then the index may hold a version that fits


class State(enum.Enum):
    """What a generation is good for."""

    READY = "ready"
    BUILDING = "building"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Generation(NamedTuple):
    """One overlay directory, whatever its state."""

    path: Path

    @property
    def python(self) -> Path:
        """The overlay's interpreter."""
        return self.path / "bin" / "python"

    @property
    def entered(self) -> bool:
        """Whether a user has run a cell here, so that its packages may run code."""
        return (self.path / layout.ENTERED).exists()

    def state(self) -> State:
        """Ready, building (somebody holds the builder's lock), failed, or given up half-way."""
        if outcome := self._outcome():
            return outcome
        if locks.is_held(self.path / layout.BUILDER_LOCK, exclusively=True):
            return State.BUILDING
        return self._outcome() or State.ABANDONED  # it may have been published, and let go, in between

    def _outcome(self) -> State | None:
        """How its build ended; None where it has not."""
        if os.path.exists(f"{self.path}/{layout.OVERLAY}"):  # noqa: PTH110 - at each launch, and of thousands
            return State.READY
        return State.FAILED if (self.path / layout.FAILED).exists() else None

    def read(self, name: str) -> dict[str, Any]:
        """One of its JSON files; raises CorruptState where it is missing, torn or foreign."""
        path = f"{self.path}/{name}"
        try:
            data = json.loads(read_bytes(path))
        except (OSError, ValueError, RecursionError) as error:
            raise CorruptState(f"{path} cannot be read", why=str(error)) from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise CorruptState(f"{path} was written by another version of kernel-provisioner")
        return data

    @property
    def is_provisional(self) -> bool:
        """Whether it holds packages as files until the next generation is built: see ``builder.behind``."""
        return os.path.exists(f"{self.path}/{layout.PROVISIONAL}")  # noqa: PTH110 - at each launch

    @property
    def behind(self) -> Generation | None:
        """The provisional one beside whose kernel this one is, or was, built; None for any other."""
        with contextlib.suppress(CorruptState):
            name = self.read(layout.SPEC).get(layout.BEHIND)
            return Generation(self.path.with_name(name)) if name else None
        return None

    @property
    def found_damage(self) -> bool:
        """Whether it was built behind another, and a file of a package was not what it should be."""
        with contextlib.suppress(CorruptState, LookupError, TypeError):
            said = self.read(layout.FAILED)["failure"]["error"]
            return self.behind is not None and said == PackageDamaged.__name__
        return False

    @property
    def entries(self) -> list[str]:
        """The entries of the wheel store that it is linked to; raises as ``read``."""
        return [str(path) for path in self.read(layout.OVERLAY).get(layout.ENTRIES, ())]

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write one of its JSON files whole, by one rename, for this user's eyes only."""
        replace_text(self.path / name, json.dumps({"schema": SCHEMA, **data}, indent=1), mode=0o600)

    def publish_empty(self, base: str) -> None:
        """Call an overlay without extras ready: its skeleton is all there is to it."""
        self.write(layout.OVERLAY, {"base": base, "extras": [], "installed": [], "replaced": {}})
        (self.path / layout.ENTERED).touch(mode=0o600)


def spec_of(request: Request, base: BaseManifest, settings: Settings) -> dict[str, Any]:
    """What a generation is built from, as JSON: two equal orders give equal overlays."""
    return {
        "base": base.id,
        "fingerprint": base.fingerprint,
        "extras": list(request.extras),
        "exclude_newer": request.exclude_newer,
        "lock": request.lock.digest() if request.lock else "",
        "stale": request.stale,
        "preferred": list(request.preferred),
        # A token that is renewed makes no other overlay.
        "index_template": without_credentials(settings.index_template),
        **({"local": list(request.local)} if request.local else {}),
        # A changed policy makes every overlay a new one, which is judged by it.
        "policy": settings.policy.spec(),
    }


def spec_key(spec: Mapping[str, Any]) -> str:
    """A name for an order: what a resolution of it came to is kept under it."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """The overlays of this user, under one private directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the root, private; raises BuildFailed where it is not ours or other users can change it."""
        cannot = f"overlays cannot be kept in {self.root}"
        try:
            permissions.refuse_strangers(self.root, what=cannot, fix=_ELSEWHERE)
            if not self.root.exists():
                permissions.make_private(self.root)
                permissions.refuse_strangers(self.root, what=cannot, fix=_ELSEWHERE)  # who was quicker?
            info = self.root.stat()
            ours = info.st_uid == os.geteuid()
            if ours and stat.S_IMODE(info.st_mode) & 0o077:
                self.root.chmod(0o700)
        except OSError as error:
            raise BuildFailed(cannot, why=str(error), fix=_ELSEWHERE) from error
        if not ours:
            raise BuildFailed(f"{self.root} belongs to another user (uid {info.st_uid})", fix=_ELSEWHERE)

    def noexec(self) -> str:
        """What the root's disk keeps from running, where it is mounted ``noexec``; else nothing."""
        with contextlib.suppress(OSError):
            if os.statvfs(self.root).f_flag & getattr(os, "ST_NOEXEC", 0):  # macOS has none
                return (
                    f"{self.root} is on a disk that is mounted noexec: packages with compiled parts and"
                    f" commands of packages cannot run there; {_ELSEWHERE}"
                )
        return ""

    def notebook_dir(self, notebook: Path) -> Path:
        """The directory that keeps a notebook's generations: by its real path, readable by people.

        A renamed notebook keeps the directory that it had (``carry_over``), so a directory's name
        is a proposal only, and what stands in it says whose it is.
        """
        real = os.path.realpath(notebook)
        renamed = self._renamed(real)
        if renamed is not None and owner(renamed) == real:
            return renamed
        return next(place for place in self._proposals(real) if owner(place) in ("", real))

    def carry_over(self, directory: Path, notebook: Path, seen: Identity | None = None) -> None:
        """Let ``notebook`` have the overlays in ``directory``, whose own notebook was renamed to it.

        ``seen`` is the identity that the notebook had before. The directory stays where it is:
        environments cannot be moved, and a kernel may run in one. Nothing happens where the
        notebook is still there under its old name, for then this is a copy of it.
        """
        before, real = owner(directory), os.path.realpath(notebook)
        if not before or before == real:
            return
        followed = seen is not None and identity(notebook) == seen != identity(Path(before))
        if os.path.lexists(before) and not followed:
            return
        replace_text(self._rename_note(real), f"{directory.name}\n", mode=0o600)
        claim(directory, notebook)

    def scratch_dir(self, name: str) -> Path:
        """The directory of an overlay that lives no longer than its kernel; ``name`` is no other kernel's."""
        return self.root / f"{SCRATCH}-{name}"

    def generations(self, directory: Path) -> list[Generation]:
        """A notebook's generations, newest first."""
        with contextlib.suppress(OSError):
            names = [entry.name for entry in os.scandir(directory) if re.fullmatch(r"\d{4,}", entry.name)]
            return [Generation(directory / name) for name in sorted(names, key=int, reverse=True)]
        return []

    def fitting(self, directory: Path, spec: Mapping[str, Any], base: BaseManifest) -> Generation | None:
        """The newest generation built, or being built, from exactly this order, on ``base``.

        One that is torn never fits, nor one in which no kernel could start. A provisional one serves until
        the next is built, unless damage was found meanwhile.
        """
        damaged = False
        for generation in self.generations(directory):
            state = generation.state()
            if state is State.ABANDONED:
                continue
            with contextlib.suppress(CorruptState):
                said = generation.read(layout.SPEC)
                if said["order"] != spec:
                    continue
                if state is State.FAILED:
                    damaged |= generation.found_damage
                    continue
                if state is State.BUILDING and layout.BEHIND in said:
                    continue
                if damaged and generation.is_provisional:
                    continue
                if state is State.READY and not are_there(generation.entries):
                    continue
                if is_intact(generation.path, base):
                    return generation
        return None

    def begin(self, directory: Path) -> Generation:
        """A new, empty generation; private to this user."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = max((int(known.path.name) for known in self.generations(directory)), default=0) + 1
        while True:
            path = directory / f"{number:04d}"
            try:
                path.mkdir(mode=0o700)
                return Generation(path)
            except FileExistsError:
                number += 1

    def note_unfit(self, key: str, sources: str, why: str) -> None:
        """Remember for a day that an order's base cannot hold its extras, and another can."""
        note = self.lock_path(key, sources).with_suffix(".unfit")
        note.parent.mkdir(mode=0o700, exist_ok=True)
        replace_text(note, why + "\n", mode=0o600)

    def unfit(self, key: str, sources: str) -> str:
        """Why an order's base was found unable to hold its extras; empty where it was not, lately."""
        note = self.lock_path(key, sources).with_suffix(".unfit")
        with contextlib.suppress(OSError):
            if abs(time.time() - note.stat().st_mtime) < _UNFIT_FOR:
                return note.read_text(encoding="utf-8", errors="replace").strip()
        return ""

    def lock_path(self, key: str, sources: str) -> Path:
        """Where the lock (exact versions and hashes) of an order is kept.

        ``sources`` (``uv.discovery``) stands for the index settings: another index may hold other files.
        """
        return self.root / "locks" / f"pylock.{key}.{sources}.toml"

    def _proposals(self, real: str) -> Iterator[Path]:
        """Names for a notebook's directory; all but the first for when a renamed one took it along."""
        name = _readable(real)
        yield self.root / name
        yield from (self.root / f"{name}-{number}" for number in itertools.count(2))

    def _renamed(self, real: str) -> Path | None:
        """The directory that was carried over to this name, whoever it belongs to now."""
        with contextlib.suppress(OSError):
            return self.root / self._rename_note(real).read_text(encoding="utf-8", errors="replace").strip()
        return None

    def _rename_note(self, real: str) -> Path:
        return self.root / f"{_readable(real)}.renamed"


Identity = tuple[int, int]
"""What a file keeps when it is renamed: its device and its inode."""


def identity(path: Path) -> Identity | None:
    """The identity of a file; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        info = path.stat()
        return info.st_dev, info.st_ino
    return None


def owner(directory: Path) -> str:
    """The real path of the notebook that ``directory`` belongs to; empty where it is nobody's yet."""
    try:
        return os.fsdecode(read_bytes(f"{directory}/{layout.NOTEBOOK}")).removesuffix("\n")
    except OSError:
        return ""


def claim(directory: Path, notebook: Path) -> None:
    """Write down that ``directory`` belongs to ``notebook``; raises OSError."""
    real = os.path.realpath(notebook)
    if owner(directory) != real:
        replace_text(directory / layout.NOTEBOOK, f"{real}\n", mode=0o600)


def _readable(real: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(real).stem).strip("-.")[:40] or "notebook"
    return f"{slug}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:12]}"
