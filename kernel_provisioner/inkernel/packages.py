"""Which packages an overlay holds, and who put them there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

RECEIPT = "torch-overlay"  # the INSTALLER of a base distribution's receipt
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
        # A receipt that uv or pip installed anew bears their name, and in WHEEL still ours.
        if _text(info / "INSTALLER").strip() == RECEIPT or f"Generator: {RECEIPT}\n" in _text(info / "WHEEL"):
            continue
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        name = canonical(name)
        found.append(Package(name, version, name in built))
    return sorted(found, key=lambda package: package.name)


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named_in(requirement: str) -> str:
    """The canonical name that a PEP 508 requirement starts with."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return canonical(match.group(1)) if match else ""


def _state(overlay: Path) -> dict[str, list[dict[str, str]]]:
    try:
        return dict(json.loads((overlay / "overlay.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
