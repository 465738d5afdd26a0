"""What an overlay holds: versions, sizes, who put it there, and what needs what."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.links import entry_of
from ..inkernel.shared.packages import canonical, named_in, packages
from ..overlay import store
from ..store.entry import bytes_of
from ..system import records

_OF_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")  # in a marker
_WITH_EXTRAS = re.compile(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*\s*\[([^\]]+)\]")


@dataclasses.dataclass(frozen=True)
class Content:
    """The packages of an overlay, name → what is known of it.

    ``bytes`` are as RECORD says, ``needed_by`` names the packages that require one, be it for an extra that
    is asked for, ``offers`` the extras that one has, ``replaced`` the base's version and the overlay's.
    """

    versions: Mapping[str, str]
    by_hand: frozenset[str] = frozenset()
    bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    needed_by: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    offers: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    replaced: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

    def entry(self, name: str) -> dict[str, Any]:
        """One package as JSON."""
        return {
            "name": name,
            "version": self.versions[name],
            "bytes": self.bytes.get(name, 0),
            "needed_by": list(self.needed_by.get(name, ())),
        }


def content_of(generation: store.Generation | None, declared: Iterable[str] = ()) -> Content:
    """What an overlay holds, moved in or not yet; nothing where there is none. Runs no code of a package.

    ``declared`` are requirements whose extras are asked for, as those are that packages name.
    """
    if generation is None:
        return Content({})
    state: dict[str, Any] = {}
    with contextlib.suppress(CorruptState):
        state = generation.read(layout.OVERLAY)
    built = {str(entry["name"]): str(entry["version"]) for entry in state.get("installed", ())}
    here = {package.name: package for package in packages(generation.path)}
    versions = dict(sorted({**built, **{name: package.version for name, package in here.items()}}.items()))
    if generation.entered:  # what was uninstalled since then is gone
        versions = {name: version for name, version in versions.items() if name in here}
    sizes, asked, offers = _described(generation.path, versions, declared)
    return Content(
        versions,
        frozenset(name for name, package in here.items() if not package.declared),
        sizes,
        asked,
        offers,
        state.get("replaced", {}),
    )


def _described(
    overlay: Path, versions: Mapping[str, str], declared: Iterable[str]
) -> tuple[dict[str, int], dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Sizes, askers and extras, from the metadata of those packages wherever in the overlay they lie."""
    sizes: dict[str, int] = {}
    needs: list[tuple[str, str]] = []
    offers: dict[str, tuple[str, ...]] = {}
    sites = "lib/python*/site-packages"
    for site in (*sorted(overlay.glob(sites)), *sorted((overlay / layout.STAGING).glob(sites))):
        for dist_info in records.dist_infos(site):
            name = canonical(dist_info.name.partition("-")[0])
            if name not in versions or name in sizes:
                continue
            sizes[name] = _size(dist_info)
            metadata = _metadata(dist_info)
            offers[name] = tuple(sorted(metadata.get_all("Provides-Extra", [])))
            needs += [(name, line) for line in metadata.get_all("Requires-Dist", [])]
    extras = {found for text in (*declared, *(line for _, line in needs)) for found in _extras(text)}
    asked: dict[str, set[str]] = {}
    for name, line in needs:
        own = _OF_EXTRA.search(line)
        if own is None or (name, canonical(own[1])) in extras:
            asked.setdefault(named_in(line), set()).add(name)
    return sizes, {name: tuple(sorted(who)) for name, who in asked.items()}, offers


def _extras(requirement: str) -> Iterator[tuple[str, str]]:
    """The extras that a requirement asks for, each with the name of the package."""
    if found := _WITH_EXTRAS.match(requirement):
        for extra in found[1].split(","):
            yield named_in(requirement), canonical(extra.strip())


def _size(dist_info: Path) -> int:
    if entry := entry_of(dist_info):
        return bytes_of(entry)
    with contextlib.suppress(OSError, ValueError):
        return sum(int(size) for _, _, size in records.rows(dist_info) if size)
    return 0


def _metadata(dist_info: Path) -> Message:
    """The headers of a package's metadata; none where there are none."""
    text = ""
    with contextlib.suppress(OSError):
        text = (dist_info / "METADATA").read_text(encoding="utf-8", errors="replace")
    return HeaderParser().parsestr(text, headersonly=True)
