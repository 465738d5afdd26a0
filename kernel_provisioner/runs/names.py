"""Names of packages: known to this machine, or a slip from a well-known one. No index is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..base.registry import read_register
from ..builder.unknown import well_known
from ..collector import scan
from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.packages import named_in
from ..overlay.store import Generation
from ..settings import Settings


def known_names(settings: Settings) -> dict[str, list[str]]:
    """``installed``: in an overlay of this user, ``base``: in a base; both sorted."""
    installed = {*_installed(settings, besides=None)}
    return {"installed": sorted(installed), "base": sorted(_in_bases() - installed)}


def unfamiliar(extras: Iterable[str], settings: Settings, notebook: Path) -> list[dict[str, str]]:
    """Each declared ``name`` that is new to this machine and one slip from a well-known one, ``like``.

    ``notebook`` is the directory of the notebook's own overlays: what they hold makes no name known.
    """
    popular = well_known()
    found = []
    for name in dict.fromkeys(map(named_in, extras)):
        like = next((other for other in sorted(popular) if _one_slip(name, other)), "")
        if like and name not in popular:
            found.append({"name": name, "like": like})
    if not found:  # nearly always, and then no overlay has to be looked at
        return []
    known = {*_in_bases(), *_installed(settings, besides=notebook)}
    return [one for one in found if one["name"] not in known]


def _in_bases() -> set[str]:
    return {name for base in read_register().bases for name in base.manifest.distributions}


def _installed(settings: Settings, *, besides: Path | None) -> Iterator[str]:
    """The packages of this user's overlays, but for those of one notebook."""
    for overlay in scan(Path(settings.overlay_root)):
        for found in overlay.generations:
            if found.path.parent != besides:
                with contextlib.suppress(CorruptState, KeyError, TypeError):
                    content = Generation(found.path).read(layout.OVERLAY)
                    yield from (str(entry["name"]) for entry in content["installed"])


def _one_slip(name: str, other: str) -> bool:
    """Whether one letter more, fewer, changed, or two that change places, make one name of the other."""
    for step in (1, -1):
        name, other = name[::step], other[::step]
        same = next(
            (at for at, pair in enumerate(zip(name, other, strict=False)) if pair[0] != pair[1]), None
        )
        same = min(len(name), len(other)) if same is None else same
        name, other = name[same:], other[same:]
    return max(len(name), len(other)) == 1 or (len(name) == 2 and name == other[::-1])
