"""The register of bases: which there are, what a tag means now, and where each is kept.

A base is one directory ``torch-bases/<id>`` under a Jupyter data directory, user, environment
or system level, found as ``jupyter_core`` finds kernels. Its ``base.json`` is written last and
by one rename: without it there is no base. ``<tag>.alias`` holds the id that a tag means.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import BaseNotFound, CorruptState, LockTimeout
from ..model.manifest import BaseManifest
from ..system import locks
from ..system.files import replace_text
from ..system.jupyter_paths import data_path

DIRECTORY = "torch-bases"
MANIFEST = "base.json"
SKELETON = "skeleton.json"
CONSTRAINTS = "constraints.txt"
RECEIPTS = "receipts"
_ANNOUNCED = stat.S_IXUSR  # on a lock file while its base is being removed: no disk is too full for it
_POLL = 0.02  # seconds between looks at whether a removal has ended


class RegisteredBase(NamedTuple):
    """A base and the directory that registers it."""

    manifest: BaseManifest
    directory: Path

    @property
    def lock_path(self) -> Path:
        """The lock file that every kernel on this base holds shared."""
        return self.directory.parent / f"{self.manifest.id}.lock"

    @property
    def receipts(self) -> Path:
        """Wheels that stand for the base's distributions where an installer insists on one."""
        return self.directory / RECEIPTS

    @property
    def skeleton_path(self) -> Path:
        """What each overlay on this base starts with."""
        return self.directory / SKELETON


class Register(NamedTuple):
    """All bases that can be seen from here, in order of precedence, and what is wrong with others."""

    bases: tuple[RegisteredBase, ...]
    aliases: dict[str, str]
    damaged: tuple[CorruptState, ...] = ()
    leftovers: tuple[Path, ...] = ()  # what a removal or a creation has left that was killed, or runs now

    @property
    def manifests(self) -> list[BaseManifest]:
        """The usable bases' manifests."""
        return [base.manifest for base in self.bases]

    def leftover(self, name: str) -> Path | None:
        """What is left of the base with that id; None where nothing is, or the base is there."""
        found = (path for path in self.leftovers if path.name == name)
        return None if any(base.manifest.id == name for base in self.bases) else next(found, None)

    def get(self, name: str) -> RegisteredBase:
        """The base of an id, of a tag (its alias first), or of an unambiguous beginning of an id.

        An alias of a base that is not there counts for nothing.
        """
        ids = {base.manifest.id for base in self.bases}
        wanted = alias if (alias := self.aliases.get(name, "")) in ids else name
        for match in (
            [base for base in self.bases if base.manifest.id == wanted],
            [base for base in self.bases if base.manifest.tag == wanted],
            [base for base in self.bases if base.manifest.id.startswith(wanted)],
        ):
            if len(match) == 1 or (match and match[0].manifest.tag == wanted):
                return match[0]
            if match:
                several = ", ".join(base.manifest.id for base in match)
                raise BaseNotFound(f"{name!r} means several bases: {several}", fix="use one full ID")
        known = ", ".join(base.manifest.id for base in self.bases) or "none"
        raise BaseNotFound(
            f"no base {name!r} is registered",
            why=f"registered: {known}",
            fix="jupyter overlay base list  lists them; jupyter overlay base create TAG  creates one",
        )


def roots() -> list[Path]:
    """The directories that can hold bases: the user's first, as ``jupyter_path`` orders them."""
    return [directory / DIRECTORY for directory in data_path()]


def read_register(directories: Sequence[Path] | None = None) -> Register:
    """Read all bases; a damaged manifest is set aside in ``damaged`` with its reason."""
    bases: dict[str, RegisteredBase] = {}
    aliases: dict[str, str] = {}
    damaged: list[CorruptState] = []
    leftovers: list[Path] = []
    for root in roots() if directories is None else directories:
        for entry in _entries(root):
            if entry.suffix == ".alias":
                with contextlib.suppress(OSError):
                    aliases.setdefault(entry.stem, _text(entry))
            elif os.path.isfile(f"{entry}/{MANIFEST}"):  # noqa: PTH113 - at each launch
                try:
                    base = RegisteredBase(read_manifest(entry), entry)
                except CorruptState as error:
                    damaged.append(error)
                else:
                    bases.setdefault(base.manifest.id, base)
            elif is_leftover(entry):
                leftovers.append(entry)
    return Register(tuple(bases.values()), aliases, tuple(damaged), tuple(leftovers))


def is_leftover(directory: Path) -> bool:
    """Whether a directory in a register is what is left of a base: named as one, and without a manifest."""
    return (
        re.search(r"-torch[^/]*-py\d+-[0-9a-f]{8}$", directory.name) is not None
        and directory.is_dir()
        and not directory.is_symlink()
        and not (directory / MANIFEST).exists()
    )


_parsed: dict[Path, tuple[tuple[int, int, int], BaseManifest]] = {}


def read_manifest(directory: Path) -> BaseManifest:
    """The manifest in a base's directory, parsed again only when it changed; raises CorruptState."""
    path = directory / MANIFEST
    try:
        info = path.stat()
        mark = (info.st_ino, info.st_mtime_ns, info.st_size)
        if (known := _parsed.get(path)) and known[0] == mark:
            return known[1]
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptState(
            f"{path} cannot be read",
            why=str(error),
            fix=f"remove {directory} and create the base again with jupyter overlay base create or adopt",
        ) from error
    manifest = BaseManifest.from_dict(data, where=str(path))
    _parsed[path] = (mark, manifest)  # where it was replaced in between, the mark is the old one's
    return manifest


def set_alias(root: Path, tag: str, base: str) -> None:
    """Let ``tag`` mean the base with that id; kernels started from now on follow it."""
    replace_text(root / f"{tag}.alias", base + "\n")


def remove_alias(root: Path, base: str) -> list[str]:
    """Remove the aliases under ``root`` that mean ``base``, and return their tags."""
    removed = []
    for entry in _entries(root):
        if entry.suffix == ".alias" and _text(entry) == base:
            entry.unlink(missing_ok=True)  # another process may remove another base
            removed.append(entry.stem)
    return removed


def is_registered(base: RegisteredBase) -> bool:
    """Whether the base is (still) there; nobody removes it while it is held."""
    return (base.directory / MANIFEST).exists()


def make_shared(directory: Path) -> None:
    """Make ``directory`` and its parent, for all who can look there, whatever the umask."""
    for path in (directory.parent, directory):
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)


def hold(base: RegisteredBase, *, patience: float = 5.0, counts: float = 60.0) -> locks.Lock | None:
    """A shared lock on the base for a kernel's life; None where there is none to be had.

    That is where its directory takes no lock file, where the base was removed meanwhile (ask
    ``is_registered``), and where somebody locks it for another reason, which every user of the base
    can. Only a removal that its owner announces is waited for, at most ``patience`` seconds. An announcement
    that is older than ``counts`` seconds is what a removal has left that was killed.
    """
    deadline = time.monotonic() + patience
    announced = True  # once more where the removal that was in the way has just been given up
    while True:
        try:
            return locks.shared(base.lock_path)
        except LockTimeout:
            if not (announced and is_registered(base)) or time.monotonic() >= deadline:
                return None
            announced = _is_announced(base, counts)
        except OSError:
            return None  # a system base whose admin left no lock file: nobody could see us anyway
        if announced:
            time.sleep(_POLL)


@contextlib.contextmanager
def announced_removal(base: RegisteredBase) -> Iterator[None]:
    """Let launches wait for the end of a removal, by what only the owner of the lock file can set."""
    base.lock_path.touch()
    mode = stat.S_IMODE(base.lock_path.stat().st_mode) & ~_ANNOUNCED
    base.lock_path.chmod(mode | _ANNOUNCED)
    try:
        yield
    finally:
        base.lock_path.chmod(mode)


def _is_announced(base: RegisteredBase, counts: float) -> bool:
    """Asked just after the file was opened, which is when NFS asks its server how the file is now."""
    with contextlib.suppress(OSError):
        status = base.lock_path.stat()
        return bool(status.st_mode & _ANNOUNCED) and abs(time.time() - status.st_ctime) < counts
    return False


def _text(alias: Path) -> str:
    """What an alias says; text that is none names no base."""
    return alias.read_text(encoding="utf-8", errors="replace").strip()


def _entries(root: Path) -> Iterable[Path]:
    try:
        return [root / name for name in sorted(os.listdir(root))]  # noqa: PTH208 - at each launch
    except OSError:
        return []
