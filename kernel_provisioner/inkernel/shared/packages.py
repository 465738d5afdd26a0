"""Which packages an overlay holds, and who put them there."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

RECEIPT = "torch-overlay"  # what the WHEEL of a base distribution's receipt names as its generator
LENT = "uv"  # the module that lends the server's uv, no distribution


class Package(NamedTuple):
    """One distribution in an overlay's own site-packages; ``declared``: built in, not put there by hand."""

    name: str
    version: str
    declared: bool


def packages(overlay: Path) -> list[Package]:
    """The distributions that an overlay adds to its base, sorted by name."""
    built = {entry["name"] for entry in _state(overlay).get("installed", ())}
    found = []
    for info in overlay.glob("lib/python*/site-packages/*.dist-info"):
        if is_receipt(info):
            continue
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        name = canonical(name)
        found.append(Package(name, version, name in built))
    return sorted(found, key=lambda package: package.name)


def is_receipt(info: Path) -> bool:
    """Whether a ``dist-info`` stands for a distribution of the base, and owns nothing but itself."""
    # Bases made earlier have the mark in INSTALLER alone.
    return f"Generator: {RECEIPT}\n" in _text(info / "WHEEL") or _text(info / "INSTALLER").strip() == RECEIPT


def by_hand(overlay: Path) -> list[Package]:
    """What a person installed that no other overlay of the notebook would have; not what came along with it.

    It is neither built in, nor from ``%overlay add``. Sorted by name.
    """
    added = set(_state(overlay).get("added", ()))
    found = {
        package.name: package
        for package in packages(overlay)
        if not package.declared and package.name not in added
    }
    came = set(_needs(overlay, found))
    # Where they all need each other, all are told.
    return [package for name, package in found.items() if name not in came] or list(found.values())


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named_in(requirement: str) -> str:
    """The canonical name that a PEP 508 requirement starts with."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return canonical(match.group(1)) if match else ""


def plain(requirement: str) -> str:
    """A requirement with its name as in an index, and without blanks: nearly what a launch makes of it."""
    name = re.match(r"\s*[A-Za-z0-9._-]+", requirement)
    return named_in(requirement) + re.sub(r"\s+", "", requirement[name.end() :] if name else requirement)


def _needs(overlay: Path, names: Collection[str]) -> Iterator[str]:
    """What the packages of these names need besides themselves; what their extras need is left out."""
    for info in overlay.glob("lib/python*/site-packages/*.dist-info"):
        name = canonical(info.name.partition("-")[0])
        headers = _text(info / "METADATA").partition("\n\n")[0] if name in names else ""
        for line in headers.splitlines():
            key, _, value = line.partition(":")
            if key == "Requires-Dist" and "extra ==" not in value and named_in(value) != name:
                yield named_in(value)


def _state(overlay: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((overlay / "overlay.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
