"""Which base a notebook runs on: request x hardware x bases -> one base and the reason, or every refusal.

Pure, total and deterministic: the same arguments, bases in any order, give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..model.manifest import BaseManifest
from ..model.request import Request
from .devices import Gpu, Machine
from .fit import creatable
from .ranking import NO_ALIASES, Selection, rank
from .refusal import refusal

__all__ = ["Gpu", "Machine", "Selection", "creatable", "rank", "refusal", "select"]


def select(
    request: Request,
    hardware: Machine,
    bases: Sequence[BaseManifest],
    *,
    pinned: str = "",
    aliases: Mapping[str, str] = NO_ALIASES,
    preference: str = "",
) -> Selection:
    """The base that a notebook runs on; the arguments are those of ``rank``.

    Raises NoBaseFits with each registered base's reason and the nearest fix.
    """
    ranked = rank(request, hardware, bases, pinned=pinned, aliases=aliases, preference=preference)
    if not ranked:
        raise refusal(request, hardware, bases, pinned)
    return ranked[0]
