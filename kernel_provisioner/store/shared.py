"""Shared stores: an admin fills one, and everybody's own store has links to its entries.

Users never write there, and lock nothing there. An overlay knows its user's own store alone: where a shared
entry goes or is open to others, that store gets one of its own in its place, for all overlays at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .entry import Entry, danger, find
from .fill import NEW
from .keys import Material, key_of


def trusted(stores: Iterable[Path]) -> list[Path]:
    """Those of these stores that are there, and that nobody else can change."""
    return [store for store in stores if store.is_dir() and danger(store) is None]


def take(store: Path, stores: Sequence[Path], material: Material, passed: set[str]) -> Entry | None:
    """Link the entry that is made from this into ``store``, from the first of ``stores`` that has it.

    None where none has it. ``passed`` is as for ``danger_at``. Raises OSError.
    """
    for other in stores:
        if (found := find(other, material)) and danger(found.path, passed) is None:
            _link(found.path, store / key_of(material))
            return find(store, material, passed)
    return None


def _link(goal: Path, place: Path) -> None:
    """Let ``place`` lead to ``goal``, in the place of another link; not in that of an entry."""
    new = place.with_name(f"{NEW}{os.getpid()}-{os.urandom(4).hex()}")
    new.symlink_to(goal)
    try:
        new.replace(place)
    except OSError:  # an entry that is damaged, or that somebody has published just now
        with contextlib.suppress(OSError):
            new.unlink()
