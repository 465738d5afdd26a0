"""Packages of a notebook that come from a directory or a repository, on this machine.

The notebook names only the package. Where it comes from was said on the command line, for this one notebook,
and is written down here, with the wheel that was made of it then. No launch builds it again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..inkernel.shared.packages import named_in
from ..system.files import make_directory, replace_text

if TYPE_CHECKING:
    from ..model.request import Request

GIT = "git+"
"""What the address of a repository begins with."""

_SOURCES = "sources"  # beside the notebooks' directories: what a prune of overlays leaves alone
_FILE = "sources.json"
_SAY_AGAIN = "jupyter overlay add NOTEBOOK"


class Source(NamedTuple):
    """A package, the words that say where it comes from, and the wheel that was made of it.

    ``origin`` is as it is typed: ``-e /directory`` or ``git+https://…@rev``; ``commit`` is what a revision
    was then. ``seen`` are the files of a directory that say what the package needs: path → time and size.
    """

    name: str
    origin: str
    wheel: str
    commit: str = ""
    seen: Mapping[str, tuple[int, int]] = {}

    @property
    def directory(self) -> Path | None:
        """The directory that it is imported from; None for a repository."""
        return Path(self.origin.removeprefix("-e ")) if self.origin.startswith("-e ") else None

    @property
    def requirement(self) -> str:
        """What asks for exactly this wheel."""
        return f"{self.name} @ {Path(self.wheel).as_uri()}"

    @property
    def told(self) -> str:
        """Where it comes from, for people."""
        at = f" (commit {self.commit[:12]})" if self.commit else ""
        return f"{self.name} comes from {self.origin.removeprefix('-e ')}{at}"

    def notice(self) -> str:
        """What is wrong with it now; empty where nothing is."""
        if self.directory is None:
            return ""
        again = f"{_SAY_AGAIN} {self.origin}"
        if not self.directory.is_dir():
            return f"{self.told}, which is gone; from another directory: {_SAY_AGAIN} -e DIRECTORY"
        if self.seen != facts_of(self.directory):
            return f"{self.told}, whose pyproject.toml has changed since; to take that in: {again}"
        return ""


def place_of(directory: Path) -> Path:
    """Where the sources of the notebook are kept whose overlays lie in ``directory``."""
    return directory.parent / _SOURCES / directory.name


def sources_of(directory: Path, extras: Iterable[str] | None = None) -> list[Source]:
    """The sources of a notebook, of those that its ``extras`` name; none where they cannot be read."""
    names = None if extras is None else set(map(named_in, extras))
    try:
        rows = json.loads((place_of(directory) / _FILE).read_bytes())["sources"]
        found = [_read(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [source for source in found if names is None or source.name in names]


def with_sources(request: Request, directory: Path) -> Request:
    """``request`` with the wheels of those of its packages that have a source."""
    sources = sources_of(directory, request.extras)
    if not sources:
        return request
    return dataclasses.replace(request, local=tuple(source.requirement for source in sources))


def keep_source(directory: Path, source: Source) -> None:
    """Let a package come from this source from now on; raises OSError."""
    others = [other for other in sources_of(directory) if other.name != source.name]
    _write(directory, [*others, source])


def drop_sources(directory: Path, names: Iterable[str]) -> list[str]:
    """Let the packages of these names come from the indexes again; those that did not. Raises OSError."""
    gone = set(map(named_in, names))
    before = sources_of(directory)
    dropped = [source.name for source in before if source.name in gone]
    if dropped:
        _write(directory, [source for source in before if source.name not in gone])
    return dropped


def facts_of(directory: Path) -> dict[str, tuple[int, int]]:
    """The files of a project that say what it needs: name → time and size."""
    found = {}
    for name in ("pyproject.toml", "setup.cfg", "setup.py"):
        try:
            info = (directory / name).stat()
        except OSError:
            continue
        found[name] = (info.st_mtime_ns, info.st_size)
    return found


def _read(row: Mapping[str, object]) -> Source:
    seen = row.get("seen") or {}
    assert isinstance(seen, dict)
    return Source(
        named_in(str(row["name"])), str(row["origin"]), str(row["wheel"]), str(row.get("commit", "")),
        {str(name): (int(pair[0]), int(pair[1])) for name, pair in seen.items()},
    )  # fmt: skip


def _write(directory: Path, sources: Iterable[Source]) -> None:
    """Write them down, and remove the wheels that none of them is."""
    place = place_of(directory)
    make_directory(place)
    kept = sorted(sources)
    rows = [source._asdict() for source in kept]
    replace_text(place / _FILE, json.dumps({"sources": rows}, indent=1), mode=0o600)
    used = {Path(source.wheel).parent for source in kept}
    for old in place.iterdir():
        if old.is_dir() and old not in used:
            shutil.rmtree(old, ignore_errors=True)
