"""The base for one launch: registered bases, the hardware, the notebook's request, and experience."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from ..base import registry
from ..base.current import broken, is_current
from ..base.registry import RegisteredBase
from ..base.trust import unsafe
from ..errors import BaseNotFound, CorruptState, InvalidRequest, OverlayError
from ..hardware import cached_detect
from ..model.accelerators import FAMILIES, family_of
from ..model.request import Request
from ..overlay import store
from ..selection import rank, refusal
from ..settings import Settings
from ..uv import client


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
    """The best base that can start a kernel and is not known to be unable to hold the extras.

    An adopted base that has changed is looked at again, and all chosen again. Raises NoBaseFits; where
    bases fit and none of them can start a kernel, BaseUnsafe, BaseNotFound or CorruptState of the best; or
    InvalidRequest where this machine's preference is no tag.
    """
    check_preference(settings.preference)
    lost: dict[str, OverlayError] = {}
    while True:
        choice = _of_register(request, pinned, settings, root, lost)
        if is_current(choice.base):
            return choice
        from ..base.adopt import refresh_adopted  # with all that makes a base, which hardly a launch needs

        try:
            refresh_adopted(choice.base)
        except (BaseNotFound, CorruptState) as error:
            lost[choice.base.manifest.id] = error
        else:
            return _of_register(request, pinned, settings, root, lost)


def check_preference(preference: str) -> None:
    """Raise InvalidRequest for a misspelt preference of this machine, whose owner relies on it."""
    if preference and preference not in FAMILIES and family_of(preference) is None:
        raise InvalidRequest(
            f"this machine's preference, {preference!r}, is no accelerator",
            field="preference",
            why="it comes from TorchOverlay.preference or TORCH_OVERLAY_ACCELERATOR, not from the notebook",
            fix="set it to a tag such as cu126, to a family such as cuda, or to nothing",
        )


def _of_register(
    request: Request,
    pinned: str,
    settings: Settings,
    root: store.Store,
    lost: Mapping[str, OverlayError],
) -> Choice:
    """The choice among the registered bases; ``lost`` are those that were looked at again in vain."""
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
        ask = settings.policy.asked_for_bases
        raise refusal(request, hardware, register.manifests, pinned, register.damaged, ask)
    bases = [register.get(selection.base.id) for selection in ranked]
    dead = [unsafe(base) or lost.get(base.manifest.id) or _dead(base) for base in bases]
    unfit = _unfit(bases, request, settings, root)
    living = [index for index, error in enumerate(dead) if error is None]
    if not living:
        raise _none_lives([error for error in dead if error is not None])
    best = next((index for index in living if not unfit[index]), living[0])
    here = bases[best].manifest.id
    passed = []
    for base, error, why in list(zip(bases, dead, unfit, strict=True))[:best]:
        if error is not None:
            passed.append(f"{error.what}; running on {here}. {error.fix}")
        elif why:
            told = f"{base.manifest.id} cannot hold this notebook's extras ({why.splitlines()[-1]})"
            passed.append(f"{told}; running on {here}")
    others = [bases[index].directory for index in living if index != best and not unfit[index]]
    chosen = ranked[best]
    return Choice(bases[best], chosen.reason, (*chosen.notices, *passed), tuple(others))


def _unfit(bases: list[RegisteredBase], request: Request, settings: Settings, root: store.Store) -> list[str]:
    """Why each base was found unable to hold the extras, or nothing; a single one is not asked about."""
    if len(bases) == 1:
        return [""]
    sources = client.sources(os.environ, settings.policy)
    specs = [store.spec_of(request, base.manifest, settings) for base in bases]
    return [root.unfit(store.spec_key(spec), sources) for spec in specs]


def _dead(base: RegisteredBase) -> OverlayError | None:
    """Why no kernel can start on it; of an adopted base ``refresh_adopted`` says so, or finds it again."""
    return None if base.manifest.adopted else broken(base)


def _none_lives(errors: list[OverlayError]) -> OverlayError:
    """The error of the best base that fits, and of the others what happened to them."""
    first, *others = errors
    if others:
        first.why = "\n".join([first.why, *(error.what for error in others)])
    return first
