"""Under which name a package of a lock lies in the store; pure.

Two notebooks share what comes from the same file for the same Python. The hash in the lock says which
file that is; uv checks it. What bears no hash is never shared.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..model.manifest import BaseManifest

Material = list[Any]
"""What an entry is made from, as JSON."""

_LENGTH = 16  # characters of five bits: short, since each link holds one, and nobody can find a second


class Place(NamedTuple):
    """What a wheel is unpacked for. ``torch`` is what a package built from source is compiled against."""

    python: str
    machine: str
    torch: str


def place_of(base: BaseManifest, machine: str) -> Place:
    """The place of the packages on a base; ``machine`` as the operating system calls its processors."""
    free_threaded = bool(base.site_dirs) and f"python{base.python_xy}t" in base.site_dirs[0]
    python = f"{base.python_xy}{'t' if free_threaded else ''}"
    return Place(python, machine, f"{base.torch} {base.tag}")


def material_of(package: Mapping[str, Any], place: Place) -> Material | None:
    """What a lock's package is made from; None where its files bear no hash, or it has none.

    A lock may name several wheels, of which the installer takes the best: the same one for the same place.
    """
    said = [package["name"], str(package.get("version", "")), place.python, place.machine]
    if wheels := package.get("wheels"):
        hashes = [_hash(wheel) for wheel in wheels]
        return [*said, "wheels", *sorted(hashes)] if all(hashes) else None
    for kind in ("archive", "sdist"):
        if kind in package:
            file, digest = package[kind], _hash(package[kind])
            where = [str(file.get("url", ""))] if kind == "archive" else []  # it says where it is from
            return [*said, kind, digest, *where, place.torch] if digest else None
    return None


def key_of(material: Material) -> str:
    """The name of the entry that is made from this."""
    digest = hashlib.sha256(json.dumps(material).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_LENGTH]


def _hash(file: Mapping[str, Any]) -> str:
    return str(file.get("hashes", {}).get("sha256", ""))
