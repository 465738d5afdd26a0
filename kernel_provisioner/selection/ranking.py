"""All bases that fit a request, the best first, each with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from packaging.version import Version

from ..model.accelerators import FAMILIES, Tag, family_of
from ..model.manifest import BaseManifest
from ..model.request import Request
from .devices import Machine, Use, in_words, none_in_words
from .fit import creatable, matches, objections, use_of, version_of

NO_ALIASES: Mapping[str, str] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Selection:
    """The base to run on, one sentence of reason, and lines that the user ought to see."""

    base: BaseManifest
    reason: str
    notices: tuple[str, ...] = ()


def rank(
    request: Request,
    hardware: Machine,
    bases: Sequence[BaseManifest],
    *,
    pinned: str = "",
    aliases: Mapping[str, str] = NO_ALIASES,
    preference: str = "",
) -> list[Selection]:
    """Every base that fits, the best first: the next is for whom the first cannot hold the extras.

    ``pinned`` is the tag of the kernel that the user picked; it wins over the notebook's
    accelerator, and needs no such device: torch imports without one. ``aliases`` gives the base
    id that a tag means now; other bases of the tag come after it. ``preference``, a tag or a
    family, is what ``auto`` and ``cuda`` mean on this machine, where a base of it fits. ``cuda``
    never takes a cpu base.
    """
    wish = pinned or request.accelerator
    standing = _standing(preference, wish, pinned)
    fits = [
        _Candidate(
            base=base,
            use=use_of(base, hardware),
            preferred=bool(standing) and matches(standing, base.tag),
            aliased=aliases.get(base.tag) == base.id,
        )
        for base in sorted(bases, key=lambda base: (base.id, base.prefix))
        if not objections(base, request, hardware, pinned)
    ]
    fits.sort(key=_merit, reverse=True)  # stable: equal merit stays in the order of ids
    return [
        Selection(
            base=fit.base,
            reason=_reason(fit, fits, wish, pinned, hardware),
            notices=tuple(_notices(fit, request, hardware, pinned, standing)),
        )
        for fit in fits
    ]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    base: BaseManifest
    use: Use
    preferred: bool
    aliased: bool


def _merit(candidate: _Candidate) -> tuple[object, ...]:
    """Greater is better: what the machine can use, the newest build, the tag's own base, the newest torch."""
    base = candidate.base
    tag = Tag(base.tag, family_of(base.tag) or "")
    return (
        candidate.preferred,
        candidate.use.possible,
        ("", "cpu", "xpu", "rocm", "cuda").index(tag.family),
        not candidate.use.left_out,
        tag.version,
        candidate.aliased,
        _release(base.torch),
        _release(base.python),
    )


def _standing(preference: str, wish: str, pinned: str) -> str:
    """What this machine's preference means for ``wish``; empty: nothing. It never makes cuda a cpu."""
    family = preference if preference in FAMILIES else family_of(preference)
    if pinned or wish not in ("auto", "cuda") or family is None:
        return ""
    return preference if wish in ("auto", family) else ""


def _reason(fit: _Candidate, fits: list[_Candidate], wish: str, pinned: str, hardware: Machine) -> str:
    tag = fit.base.tag
    parts = []
    if pinned:
        parts.append("the kernel that was picked")
    elif fit.preferred:
        parts.append("preferred on this machine")
    elif wish == tag:
        parts.append("asked for by the notebook")
    if tag == "cpu" and not parts and not hardware.mps:
        devices = in_words(hardware)
        parts.append(f"no base that fits runs {devices}" if devices else none_in_words(hardware))
    else:
        parts.append(fit.use.why)
    if len(fits) == 1:
        parts.append("the only base that fits")
    else:
        newest = all(_release(other.base.torch) <= _release(fit.base.torch) for other in fits)
        parts.append(f"{'newest' if newest else 'first'} of {len(fits)} bases that fit")
    return f"torch-{tag}: " + "; ".join(parts)


def _notices(fit: _Candidate, request: Request, hardware: Machine, pinned: str, standing: str) -> list[str]:
    tag = fit.base.tag
    found = []
    if pinned and not matches(request.accelerator, tag):
        asked = f"the notebook asks for {request.accelerator}"
        found.append(f"The kernel that you picked is torch-{tag}, {asked}: the picked kernel is used.")
    if pinned and not fit.use.possible:
        found.append(f"torch-{tag} can compute only on the CPU here: {fit.use.why}.")
    if fit.use.left_out:
        found.append(f"torch-{tag} has no kernels for {' and '.join(fit.use.left_out)}, which is here too.")
    if standing and not fit.preferred:
        found.append(f"No base of {standing}, which this machine prefers, fits: torch-{tag} was chosen.")
    elif tag == "cpu" and not pinned and request.accelerator == "auto" and not fit.preferred:
        advice = creatable("auto", request, hardware)
        if advice not in ("", "cpu"):
            found.append(
                f"torch-cpu was chosen: no base that fits runs {in_words(hardware)}. "
                f"To create one: jupyter overlay base create {advice}"
            )
    return found


def _release(text: str) -> Version:
    """Without the local label: 2.13.0+cpu is as new as 2.13.0."""
    return Version((version_of(text) or Version("0")).public)
