"""An entry of a store: one wheel, unpacked, which is published whole, never changed, and never repaired.

In a user's own store an entry may be a link to that of a shared store, see ``shared``.

``entry.json`` says what it is; without that file it counts no more. ``site`` is what lies in site-packages,
laid out as in the wheel and with its bytecode, ``info`` its dist-info, ``prefix`` its commands, headers and
data. Two empty files say that all of its bytecode is there (``compiled``), and that its files have reached
the disk (``proven``).
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import posixpath
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..inkernel.shared.links import FACTS, INFO, PREFIX, SITE, time_of
from ..system import records
from ..system.files import read_bytes
from ..system.permissions import Danger, danger_at, owners_of_this_program
from .keys import Material, key_of

SCHEMA = 1
COMPILED, PROVEN = "compiled", "proven"
RETIRED = "retired.json"
"""What ``entry.json`` is called where an entry of a shared store is out of use; its time says since when."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Entry(NamedTuple):
    """Where it lies, and what ``entry.json`` says: see ``fill``."""

    path: Path
    facts: Mapping[str, Any]

    @property
    def site(self) -> str:
        """Where what lies in site-packages is."""
        return f"{self.path}/{SITE}"

    @property
    def prefix(self) -> str:
        """Where what lies elsewhere in an environment is."""
        return f"{self.path}/{PREFIX}"

    @property
    def info(self) -> str:
        """Where the dist-info is."""
        return f"{self.path}/{INFO}"

    @property
    def compiled(self) -> bool:
        """Whether all of its bytecode is there."""
        return os.path.exists(f"{self.path}/{COMPILED}")


def find(store: Path, material: Material, passed: set[str] | None = None) -> Entry | None:
    """The entry that is made from this; None where there is none, or it is not what it was.

    Looks at each of its directories: where a file came, went or was replaced, the time has changed. One that
    is a link to somewhere that others can change does not count; ``passed`` is as for ``danger_at``.
    """
    key = key_of(material)
    path = store / key
    if not is_trusted(path, passed):
        return None
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, csv.Error):
        facts = json.loads(read_bytes(f"{path}/{FACTS}"))
        if facts["schema"] == SCHEMA and facts["material"] == material:
            entry = Entry(path, facts)
            if _as_it_was(entry, time_of(key) * 10**9) and _on_disk(entry):
                return entry
    return None


def intact(path: Path) -> bool:
    """Whether an entry is what it was; reads all of its files."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, csv.Error):
        entry = find(path.parent, json.loads(read_bytes(f"{path}/{FACTS}"))["material"])
        return entry is not None and entry.path == path and not faults(entry)
    return False


def boot() -> str:
    """Which start of the machine this is; the same for ever where the system does not tell."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""


def are_there(paths: Sequence[str]) -> bool:
    """Whether these entries count: two looks at each, for a launch.

    Of a shared store it asks whether others can change that; a build asks the same of each entry there.
    """
    with contextlib.suppress(OSError):  # one was removed at this moment
        shared = {os.path.dirname(os.readlink(path)) for path in paths if os.path.islink(path)}
        return all(os.path.exists(f"{path}/{FACTS}") for path in paths) and not any(
            danger(Path(store)) for store in shared
        )
    return False


def is_trusted(path: Path | str, passed: set[str] | None = None) -> bool:
    """Whether an entry, if it is a link to a shared store, leads to what nobody else can change.

    Trusted are root, this user, and whoever owns this installation: their code runs already.
    """
    return not os.path.islink(path) or danger(Path(path), passed) is None


def danger(path: Path, passed: set[str] | None = None) -> Danger | None:
    """How others can change what lies at a path, if they can; of what cannot be looked at, that."""
    try:
        return danger_at(path, owners_of_this_program(), passed)
    except OSError as error:
        return Danger(error.filename or str(path), error.strerror or str(error))


def uncompiled(paths: Iterable[str]) -> list[str]:
    """Those of these entries that are this store's own, and whose bytecode is not all there."""
    return [path for path in paths if not (os.path.islink(path) or os.path.exists(f"{path}/{COMPILED}"))]


def bytes_of(path: str) -> int:
    """What the wheel of an entry is, unpacked; nothing where that cannot be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return int(json.loads(read_bytes(f"{path}/{FACTS}"))["bytes"])
    return 0


def facts_of(path: str) -> Mapping[str, Any]:
    """What is known of the entry at ``path``; nothing where that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(read_bytes(f"{path}/{FACTS}"))
        return facts if isinstance(facts, dict) else {}
    return {}


def faults(entry: Entry) -> list[records.Fault]:
    """Which of an entry's files are not what its wheel's RECORD says; reads all of them."""
    name, scripts = entry.facts["info"], {f"{PREFIX}/bin/{script}" for script in entry.facts["scripts"]}
    found = []
    for row in records.rows(Path(entry.info)):
        place = place_of_row(row[0], name, entry.facts["inside"])
        if place and row[1] and not place.endswith(".pyc") and place not in scripts:
            kind = records.difference(entry.path / place, row)
            found += [records.Fault(name.removesuffix(".dist-info"), row[0], kind)] if kind else []
    return found


def place_of_row(row: str, info: str, inside: str) -> str:
    """Where in an entry the file lies that a RECORD names ``row``; empty where that leads out of it.

    ``info`` is the name of its dist-info, and ``inside`` where site-packages is in an environment.
    """
    path = posixpath.normpath(f"{inside}/{row}")
    if row.startswith("/") or path.startswith("../"):
        return ""
    below = path.removeprefix(f"{inside}/")
    if below == path:
        return f"{PREFIX}/{path}"
    return f"{INFO}/{below.removeprefix(f'{info}/')}" if below.startswith(f"{info}/") else f"{SITE}/{below}"


def _as_it_was(entry: Entry, time: int) -> bool:
    folders = [entry.info, entry.site, *(f"{entry.path}/{folder}" for folder in entry.facts["folders"])]
    for folder in folders:
        info = os.stat(folder)
        if info.st_mtime_ns != time or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True


def _on_disk(entry: Entry) -> bool:
    """Whether its files have reached the disk: those written before a power cut may be empty."""
    if entry.facts["boot"] == boot() or os.path.exists(f"{entry.path}/{PROVEN}"):
        return True
    if faults(entry):
        return False
    with contextlib.suppress(OSError):  # somebody else's, on a disk that is read-only: it is looked at again
        mark(entry.path, PROVEN)
    return True


def mark(path: Path, name: str) -> None:
    """Say something of an entry: an empty file beside its directories. Raises OSError."""
    path.chmod(0o755)
    try:
        (path / name).touch(mode=0o644)
    finally:
        path.chmod(0o555)
