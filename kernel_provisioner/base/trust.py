"""Whether somebody else can change a base, and so run code as everybody who uses it.

Trusted are root, this user, and whoever owns the installation that asks: their code runs already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from ..errors import BaseUnsafe
from ..system.permissions import Danger, danger_at, owners_of_this_program
from .registry import MANIFEST, RegisteredBase

_CLOSE = "let nobody but root and you be able to change it"


def unsafe(base: RegisteredBase) -> BaseUnsafe | None:
    """Why a base is not to be used; None where nobody else can change its files. Takes microseconds."""
    manifest = base.manifest
    prefix, _, _ = manifest.interpreter.rsplit("/", 2)
    library, registered = f"{prefix}/lib/python{manifest.python_xy}", f"{base.directory}/{MANIFEST}"
    danger = _first_danger([base.directory, registered, *manifest.site_dirs, manifest.interpreter, library])
    if danger is None:
        return None
    return BaseUnsafe(
        f"{manifest.id} is not used: others can change {danger.path}",
        why=f"{danger.how}: who can change it can run code as you",
        fix=f"{danger.remedy or _CLOSE}; or make one of your own: jupyter overlay base create {manifest.tag}",
    )


def refuse_unsafe(base: RegisteredBase) -> None:
    """Raise BaseUnsafe where somebody else can change the base."""
    if error := unsafe(base):
        raise error


def refuse_unsafe_places(places: Iterable[Path], what: str) -> None:
    """Raise BaseUnsafe, which says ``what`` cannot be done, where somebody else can change one of them."""
    if danger := _first_danger(places):
        raise BaseUnsafe(
            f"{what}: others can change {danger.path}",
            why=f"{danger.how}: who can change it can run code as everybody who uses what lies there",
            fix=f"{danger.remedy or _CLOSE}; or name another place",
        )


def _first_danger(places: Iterable[Path | str]) -> Danger | None:
    trusted, passed = owners_of_this_program(), set[str]()
    for place in places:
        with contextlib.suppress(OSError):  # what cannot be looked at cannot be used: told elsewhere
            if danger := danger_at(place, trusted, passed):
                return danger
    return None
