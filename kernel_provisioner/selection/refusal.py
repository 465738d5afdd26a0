"""No base fits: every base's reason, and the nearest thing that would help."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

from ..errors import NoBaseFits, OverlayError
from ..model.manifest import BaseManifest
from ..model.request import Request
from .devices import Machine
from .fit import creatable, objections
from .ranking import rank

_ONCE = "a base holds torch, once for all notebooks: about 1 GB and some minutes for the CPU, 6 GB for a GPU"


def refusal(
    request: Request,
    hardware: Machine,
    bases: Sequence[BaseManifest],
    pinned: str,
    damaged: Sequence[OverlayError] = (),
    ask: str = "",
) -> NoBaseFits:
    """The error that says, for every registered base, why it was not taken, and what to do.

    ``damaged`` are the bases that cannot be read, each by what is wrong with it. ``ask``: whom users ask for
    a base; empty where they can make one.
    """
    asked = [f"the kernel torch-{pinned}" if pinned else f"accelerator {request.accelerator}"]
    if request.torch:
        asked.append(f"torch {request.torch}")
    if request.requires_python:
        asked.append(f"Python {request.requires_python}")
    what = "no registered base fits" if bases or damaged else "no torch base is registered yet"
    reasons = [
        f"{base.id}: " + "; ".join(objections(base, request, hardware, pinned))
        for base in sorted(bases, key=lambda base: (base.id, base.prefix))
    ]
    reasons += [] if bases or damaged else [_ONCE]
    reasons += [f"{error.what} ({error.why})" if error.why else error.what for error in damaged]
    fixes = [*(error.fix for error in damaged if error.fix), *_fixes(request, hardware, bases, pinned, ask)]
    return NoBaseFits(f"{what} ({', '.join(asked)})", why="\n".join(reasons), fix="\nor ".join(fixes))


def _fixes(
    request: Request, hardware: Machine, bases: Sequence[BaseManifest], pinned: str, ask: str
) -> list[str]:
    """A base to create, and one line to change that makes a registered base fit; at least one of both."""
    fixes = []
    tag = creatable(pinned or request.accelerator, request, hardware, pinned=bool(pinned))
    if tag:
        fixes.append(_new(tag, request, ask))
    for how, changed, pin in _changes(request, pinned):
        ranked = rank(changed, hardware, bases, pinned=pin)
        if ranked:
            fixes.append(f"{how}: {ranked[0].base.id} then fits")
            break
    if not fixes or (not bases and tag != "cpu" and not pinned):
        smaller = "" if request.accelerator == "auto" else ', and write "accelerator": "auto" in the notebook'
        fixes.append(f"{_new('cpu', request, ask)}{smaller}")
    return fixes


def _new(tag: str, request: Request, ask: str) -> str:
    """How to come by a base for ``tag``: a command, or whom to ask."""
    wishes = {"torch": request.torch, "python": request.requires_python}
    if ask:
        more = [f"{name} {wish}" for name, wish in wishes.items() if wish]
        return f"ask {ask} for a base: {', '.join([tag, *more])}"
    options = [f" --{name} {shlex.quote(wish)}" for name, wish in wishes.items() if wish]
    return f"jupyter overlay base create {tag}{''.join(options)}"


def _changes(request: Request, pinned: str) -> list[tuple[str, Request, str]]:
    """What a person may change, as words, request and pin, the smallest change first."""
    changes = [("pick the kernel torch (shared)", request, "")] if pinned else []
    if not pinned:
        for accelerator in ("cuda", "auto"):
            how = f'write "accelerator": "{accelerator}" in the notebook\'s torch_env metadata'
            changes.append((how, dataclasses.replace(request, accelerator=accelerator), ""))
    if request.lock and f"=={request.lock.torch}" in request.torch.split(","):
        how = f"jupyter overlay lock NOTEBOOK --upgrade  locks it for another torch than {request.lock.torch}"
        changes.append((how, dataclasses.replace(request, torch=""), pinned))
    elif request.torch:
        how = f"widen the notebook's torch requirement ({request.torch})"
        changes.append((how, dataclasses.replace(request, torch=""), pinned))
    if request.requires_python:
        how = f"widen the notebook's requires-python ({request.requires_python})"
        changes.append((how, dataclasses.replace(request, requires_python=""), pinned))
    return changes
