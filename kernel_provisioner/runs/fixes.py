"""What a person can press to get out of a failure, as JSON: the ``fix`` of an error, for a mouse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..base import registry
from ..errors import InstallFailed, InvalidRequest, NoBaseFits, OverlayError, ResolutionFailed
from ..hardware import cached_detect
from ..inkernel.shared.packages import named_in
from ..model.request import KEYS, Request
from ..selection import creatable
from ..settings import Settings
from .bases import choices
from .kernels import OurKernel

_MOST = 3  # of a kind; more buttons help nobody
_NAME = re.compile(r"^\s*[A-Za-z0-9][A-Za-z0-9._-]*")  # of a requirement


def fixes_for(
    error: OverlayError, request: Request, kernel: OurKernel, settings: Settings
) -> list[dict[str, Any]]:
    """What to offer, the likeliest first. Each has ``do`` and what that needs:

    ``remove`` (``name``, ``requirement``) a declared package; ``replace`` (``name``, ``requirement``) one by
    the requirement that was probably meant; ``reset`` (``key``, maybe ``index``) what the notebook says under
    a key; ``use-base`` (``base``, ``choose``); ``create-base`` (``tag``), or ``ask``
    (``contact``, ``tag``) where the policy leaves that to others; remove the ``lock``; ``retry``.
    """
    if isinstance(error, NoBaseFits):
        return [*_other_bases(request, kernel, settings), *_new_base(request, kernel, settings)]
    if isinstance(error, InvalidRequest):
        return _reset(error)
    again = [{"do": "lock"}] if request.lock else []
    if isinstance(error, ResolutionFailed):
        named = _named(error.why, request) or _named(error.what, request)
        removals = [{"do": "remove", "name": named_in(extra), "requirement": extra} for extra in named]
        return [*_meant(error, request), *removals[:_MOST], *again, {"do": "retry"}]
    if isinstance(error, InstallFailed):  # of what the lock names, maybe
        return [{"do": "retry"}, *again]
    return [{"do": "retry"}]


def _other_bases(request: Request, kernel: OurKernel, settings: Settings) -> list[dict[str, Any]]:
    known = choices(request, kernel.tag, cached_detect(), registry.read_register(), settings.preference)
    nearest = sorted((base for base in known if base["choose"]), key=_how_much_changes)
    return [
        {"do": "use-base", "base": base["id"], "tag": base["tag"], "choose": base["choose"]}
        for base in nearest[:_MOST]
    ]


def _how_much_changes(base: Mapping[str, Any]) -> int:
    """Of what the notebook says, where it is to run on a base."""
    return len(base["choose"]["torch_env"]) + bool(base["choose"]["kernel"])


def _new_base(request: Request, kernel: OurKernel, settings: Settings) -> list[dict[str, Any]]:
    wish = kernel.tag or request.accelerator
    tag = creatable(wish, request, cached_detect(), pinned=bool(kernel.tag))
    if tag and (contact := settings.policy.asked_for_bases):
        return [{"do": "ask", "tag": tag, "contact": contact}]
    return [{"do": "create-base", "tag": tag, "torch": request.torch}] if tag else []


def _meant(error: ResolutionFailed, request: Request) -> list[dict[str, Any]]:
    """The declared packages whose name nobody knows, each by the name that was probably meant."""
    return [
        {"do": "replace", "name": error.field, "requirement": _NAME.sub(error.meant, extra)}
        for extra in request.extras
        if error.meant and named_in(extra) == error.field
    ]


def _reset(error: InvalidRequest) -> list[dict[str, Any]]:
    match = re.match(r"torch_env\.([a-z-]+)(?:\[(\d+)\])?", error.field)
    if match is None or match[1] not in KEYS:
        return []
    index = {"index": int(match[2])} if match[2] else {}
    return [{"do": "reset", "key": match[1], **index}]


def _named(text: str, request: Request) -> list[str]:
    """The extras of a request that a text names."""
    return [
        extra
        for extra in request.extras
        if re.search(rf"(?<![\w-]){re.escape(named_in(extra))}(?![\w-])", text)
    ]
