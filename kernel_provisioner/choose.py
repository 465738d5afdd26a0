"""The base for one launch: registered bases, the hardware, the notebook's request, and experience."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .accelerators import FAMILIES, family_of
from .base import registry
from .base.current import is_current
from .base.registry import RegisteredBase
from .errors import InvalidRequest
from .hardware import cached_detect
from .overlay import store
from .request import Request
from .selection import rank, refusal
from .settings import Settings


@dataclasses.dataclass(frozen=True)
class Choice:
    """The base to run on, one sentence of reason, lines the user ought to see, and who comes next.

    ``alternatives`` are the directories of the other bases that the request allows, the best first.
    """

    base: RegisteredBase
    reason: str
    notices: tuple[str, ...]
    alternatives: tuple[Path, ...]


def choose(request: Request, *, pinned: str, settings: Settings, root: store.Store) -> Choice:
    """The best base that is not known to be unable to hold the extras.

    An adopted base that has changed is looked at again, and all chosen anew. Raises NoBaseFits,
    BaseNotFound where an adopted environment is no base any more, or InvalidRequest where this
    machine's preference is no tag.
    """
    check_preference(settings.preference)
    choice = _of_register(request, pinned, settings, root)
    if is_current(choice.base):
        return choice
    from .base.adopt import refresh_adopted  # with all that makes a base, which hardly a launch needs

    refresh_adopted(choice.base)
    return _of_register(request, pinned, settings, root)


def check_preference(preference: str) -> None:
    """Raise InvalidRequest for a misspelt preference of this machine, whose owner relies on it."""
    if preference and preference not in FAMILIES and family_of(preference) is None:
        raise InvalidRequest(
            f"this machine's preference, {preference!r}, is no accelerator",
            field="preference",
            why="it comes from TorchOverlay.preference or TORCH_OVERLAY_ACCELERATOR, not from the notebook",
            fix="set it to a tag such as cu126, to a family such as cuda, or to nothing",
        )


def _of_register(request: Request, pinned: str, settings: Settings, root: store.Store) -> Choice:
    register = registry.read_register()
    hardware = cached_detect()
    ranked = rank(
        request,
        hardware,
        register.manifests,
        pinned=pinned,
        aliases=register.aliases,
        preference=settings.preference,
    )
    if not ranked:
        raise refusal(request, hardware, register.manifests, pinned, register.damaged)
    bases = [register.get(selection.base.id) for selection in ranked]
    unfit = [root.unfit(store.order_key(store.order_of(request, base.manifest, settings))) for base in bases]
    best = next((index for index, why in enumerate(unfit) if not why), 0)
    passed = tuple(
        f"{base.manifest.id} cannot hold this notebook's extras ({why.splitlines()[-1]}); "
        f"running on {bases[best].manifest.id}"
        for base, why in list(zip(bases, unfit, strict=True))[:best]
    )
    others = [base.directory for index, base in enumerate(bases) if index != best and not unfit[index]]
    chosen = ranked[best]
    return Choice(bases[best], chosen.reason, (*chosen.notices, *passed), tuple(others))
