"""What lies in the wheel store, and which environments are linked to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..inkernel.shared import layout
from ..inkernel.shared.links import FACTS, INFO
from ..overlay import store
from ..project.notes import known
from ..store.entry import RETIRED
from ..system.files import read_bytes
from .scan import scan


@dataclasses.dataclass(frozen=True)
class Wheel:
    """An unpacked wheel. ``bytes`` is what its files come to, its bytecode left out.

    ``shared``: it lies in a shared store, and ``path`` is a link to it.
    """

    path: Path
    name: str
    bytes: int = 0
    shared: bool = False


def wheels(root: Path) -> Iterator[Wheel]:
    """What is in the store among the overlays in ``root``, by name; what is damaged under its key."""
    return wheels_in(root / store.WHEELS)


def wheels_in(directory: Path) -> Iterator[Wheel]:
    """What is in a wheel store and in use, as ``wheels``; nothing where there is none."""
    found = [
        _described(path, FACTS)
        for path in (directory.iterdir() if directory.is_dir() else ())
        if _is_entry(path) and (path.is_symlink() or not os.path.lexists(path / RETIRED))
    ]
    yield from sorted(found, key=lambda wheel: (wheel.name, wheel.path))


def retired_in(directory: Path) -> Iterator[tuple[Wheel, float]]:
    """What is out of use in a shared store, and since when, in seconds since the epoch."""
    for path in sorted(directory.iterdir()):
        if _is_entry(path) and not path.is_symlink() and os.path.lexists(note := path / RETIRED):
            yield _described(path, RETIRED), note.stat().st_mtime


def _is_entry(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_symlink() or path.is_dir())


def _described(path: Path, facts_in: str) -> Wheel:
    shared = path.is_symlink()
    try:
        facts = json.loads(read_bytes(f"{path}/{facts_in}"))
        name = str(facts[INFO]).removesuffix(".dist-info").replace("-", " ")
        return Wheel(path, name, int(facts["bytes"]), shared)
    except (OSError, ValueError, LookupError, TypeError):
        return Wheel(path, path.name, shared=shared)


def shared_places(entries: Iterable[str]) -> dict[str, list[str]]:
    """Shared store → those of these entries of a user's own store that are links to it."""
    found: dict[str, list[str]] = {}
    for path in entries:
        with contextlib.suppress(OSError):  # an entry of one's own
            found.setdefault(str(Path(path).readlink().parent), []).append(path)
    return dict(sorted(found.items()))


def linked_to(overlay: Path) -> list[str] | None:
    """The entries that an environment is linked to, or will be; None where nobody can say."""
    found: list[str] = []
    for name in (layout.OVERLAY, layout.ADDING):
        try:
            data = json.loads(read_bytes(f"{overlay}/{name}"))
            state = data["state"] if name == layout.ADDING else data
            found += map(str, state.get(layout.ENTRIES, ()))
        except FileNotFoundError:  # noqa: PERF203 - two files
            continue
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
    return found


def unused(root: Path, gone: Collection[Path] = ()) -> list[Wheel]:
    """The wheels that no environment is linked to, those in ``gone`` left out.

    None at all where an environment cannot be looked at: it may be linked to any.
    """
    there = list(wheels(root))
    if not there:
        return []
    places = [found.path for overlay in scan(root) for found in overlay.generations if found.path not in gone]
    named: set[str] = set()
    for venv in known(root):
        if venv.unseen:
            return []
        places.append(venv.path)
    for place in places:
        linked = linked_to(place)
        if linked is None:
            return []
        named.update(os.path.realpath(path) for path in linked)
    return [wheel for wheel in there if os.path.realpath(wheel.path) not in named]
