"""What a resolution came to: a lock to install, kept for the next build of the same order."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..model.manifest import BaseManifest
from ..system.files import replace_text
from ..uv import client

_COPY = "pylock.known.toml"


class Solution(NamedTuple):
    """A lock to install, the versions of the packages that it names, and what it does to the base's.

    ``known``: from an earlier build. It names files and where they were; nothing says that they still are.
    """

    lock: Path
    versions: Mapping[str, str]
    replaced: Mapping[str, tuple[str, str]]  # name → base's version, overlay's version
    known: bool = False

    @property
    def packages(self) -> Sequence[Mapping[str, Any]]:
        """The packages of the lock, as PEP 751 has them."""
        return _packages_in(self.lock.read_text(encoding="utf-8"))

    def only(self, names: Collection[str]) -> Solution:
        """What it is to an overlay that has only these packages of its lock."""
        versions = {name: version for name, version in self.versions.items() if name in names}
        replaced = {name: pair for name, pair in self.replaced.items() if name in names}
        return self._replace(versions=versions, replaced=replaced)

    def keep(self, path: Path) -> None:
        """Let the next build of the same order know of it, in the file ``path``."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_text(path, self.lock.read_text(encoding="utf-8"), mode=0o600, durable=False)

    @classmethod
    def of(cls, lock: Path, changes: Iterable[client.Change]) -> Solution:
        """A new one: ``lock`` holds these changes to a base."""
        changes = list(changes)
        replaced = {change.name: (change.replaces, change.version) for change in changes if change.replaces}
        return cls(lock, {change.name: change.version for change in changes}, replaced)


def known_solution(
    kept: Path, base: BaseManifest, scratch: Path
) -> tuple[Solution, Sequence[Mapping[str, Any]]] | None:
    """What was kept in a file, and its packages; None where nothing was, or it is damaged.

    ``scratch`` is a directory for a copy of its lock.
    """
    try:
        text = kept.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    packages = _packages_in(text)
    if not packages:
        return None
    lock = scratch / _COPY
    lock.write_text(text, encoding="utf-8")
    versions = {package["name"]: str(package.get("version", "")) for package in packages}
    have = base.distributions
    replaced = {name: (have[name], version) for name, version in versions.items() if name in have}
    return Solution(lock, versions, replaced, known=True), packages


@functools.lru_cache(maxsize=1)
def _packages_in(text: str) -> Sequence[Mapping[str, Any]]:
    """As ``locked_packages``; read once, since 150 packages take 20 ms and a cell waits."""
    return client.locked_packages(text)


def without_wheel(packages: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those packages of a lock that have to be built from source."""
    return [
        package["name"]
        for package in packages
        if not package.get("wheels") and not _place_of(package.get("archive", {})).endswith(".whl")
    ]


def _place_of(file: Mapping[str, Any]) -> str:
    return urlsplit(file.get("url", "")).path or str(file.get("path", ""))


def bytes_to_fetch(packages: Iterable[Mapping[str, Any]]) -> int:
    """The least that a lock's files come to, as far as the indexes say how large they are."""
    total = 0
    for package in packages:
        files = package.get("wheels") or [package.get("sdist") or package.get("archive") or {}]
        total += min(int(file.get("size", 0)) for file in files)
    return total
