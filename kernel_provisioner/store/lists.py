"""What a shared store was filled with: each notebook or requirements file, and the packages that it needs.

A list is replaced when the store is filled with the same file for the same accelerator again, and counts for
as long as that file is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..system.files import read_bytes, replace_text

LISTS = ".lists"


class Listed(NamedTuple):
    """A list: where it is kept, the file that it was made from, and the keys of its packages."""

    place: Path
    source: str
    keys: frozenset[str]

    @property
    def gone(self) -> bool:
        """Whether its file is there no more; one that cannot be looked at is."""
        try:
            os.stat(self.source)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False


def write(store: Path, source: Path, tag: str, keys: Iterable[str]) -> None:
    """Keep what ``source`` needs for the accelerator ``tag``; raises OSError."""
    folder = store / LISTS
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    real = os.path.realpath(source)
    name = hashlib.sha256(json.dumps([real, tag]).encode()).hexdigest()[:16]
    text = json.dumps({"source": real, "accelerator": tag, "packages": sorted(keys)})
    replace_text(folder / f"{name}.json", text, mode=0o644)


def read(store: Path) -> list[Listed] | None:
    """All lists of a store; None where nobody can say what is needed: there is none, or one is unreadable."""
    try:
        return [_listed(place) for place in sorted((store / LISTS).glob("*.json"))] or None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _listed(place: Path) -> Listed:
    data = json.loads(read_bytes(str(place)))
    return Listed(place, str(data["source"]), frozenset(map(str, data["packages"])))


def needed(lists: Iterable[Listed]) -> set[str]:
    """The keys of all packages that a list needs whose file is there."""
    return {key for one in lists if not one.gone for key in one.keys}


def drop_gone(lists: Iterable[Listed]) -> None:
    """Remove the lists whose files are gone."""
    for one in lists:
        if one.gone:
            with contextlib.suppress(OSError):
                one.place.unlink()
