"""What a notebook asks for, what it would get, and what its running kernel has: as JSON for a panel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from ..base import registry
from ..errors import CorruptState, OverlayError
from ..hardware import cached_detect
from ..inkernel.shared import layout
from ..inkernel.shared.packages import canonical, named_in
from ..launch.asked import read_request
from ..launch.preview import Outlook, preview
from ..model.accelerators import family_of
from ..model.request import Request
from ..overlay import store
from ..settings import Settings
from .bases import choices
from .builds import progress_of
from .fixes import fixes_for
from .installed import Content, content_of
from .names import unfamiliar
from .subject import Subject


def environment_of(subject: Subject, settings: Settings, *, details: bool) -> dict[str, Any]:
    """How a notebook's environment stands; with ``details`` its packages, and all bases for it too.

    What is wrong with the notebook or this machine is told under ``failure``, as errors are, with ``fixes``:
    what to press. Changes nothing, but that an adopted base which is not what it was is looked at again.
    """
    request, failure, outlook = Request(), None, None
    try:
        request = read_request(subject.found, settings).request
        outlook = preview(subject.found, pinned=subject.kernel.tag, settings=settings)
    except OverlayError as error:
        failure = error
    standing = outlook.generation if outlook and outlook.state in ("ready", "building", "failed") else None
    running = store.Generation(subject.running) if subject.running else None
    if standing is not None and outlook is not None and outlook.state == "failed":
        with contextlib.suppress(CorruptState):
            failure = OverlayError.from_dict(standing.read(layout.FAILED)["failure"])
    root = store.Store(Path(settings.overlay_root))
    data: dict[str, Any] = {
        "notebook": str(subject.path),
        "kernel": subject.kernel.name,
        "base": _base(outlook),
        "device": _device(outlook.base.manifest.tag) if outlook else "",
        "reason": outlook.chosen.reason if outlook else "",
        "notices": [*request.warnings, *(outlook.chosen.notices if outlook else ())],
        "request": {
            "accelerator": request.accelerator,
            "torch": request.torch,
            "requires_python": request.requires_python,
            "exclude_newer": request.exclude_newer,
        },
        "extras": list(request.extras),
        "unfamiliar": unfamiliar(request.extras, settings, root.notebook_dir(subject.path)),
        "lock": _lock(request),
        "overlay": {
            "path": str(standing.path) if standing else None,
            "state": outlook.state if outlook else "refused",
        },
        "progress": progress_of(running or standing) if running or standing else None,
        "running": _running(running, subject.refused, outlook, settings),
        "failure": failure.as_dict() if failure else None,
        "fixes": fixes_for(failure, outlook.request if outlook else request, subject.kernel, settings)
        if failure
        else [],
    }
    if details:
        register = registry.read_register()
        content = content_of(running or standing, request.extras)
        data["packages"] = _packages(request, content, outlook)
        data["bases"] = choices(request, subject.kernel.tag, cached_detect(), register, settings.preference)
        data["damaged_bases"] = [error.as_dict() for error in register.damaged]
    return data


def _base(outlook: Outlook | None) -> dict[str, Any] | None:
    if outlook is None:
        return None
    manifest = outlook.base.manifest
    return {**manifest.identity, "bytes": manifest.bytes}


def _device(tag: str) -> str:
    """The name of the device that a base computes on, where that is not the CPU; empty: it is, or unknown."""
    hardware, family = cached_detect(), family_of(tag)
    if family == "cuda" and hardware.gpus:
        return hardware.gpus[0].name
    if family == "rocm" and hardware.amd:
        return f"AMD {hardware.amd[0]}"
    if family == "xpu" and hardware.xpu:
        return "Intel GPU"
    return "Apple GPU" if family == "cpu" and hardware.mps else ""


def _lock(request: Request) -> dict[str, Any]:
    """``state`` is none, current or stale."""
    if request.lock is None:
        return {"state": "none"}
    return {
        "state": "stale" if request.stale else "current",
        "torch": request.lock.torch,
        "packages": len(request.lock.packages),
        "exclude_newer": request.lock.exclude_newer,
    }


def _running(
    running: store.Generation | None,
    refused: Mapping[str, str] | None,
    outlook: Outlook | None,
    settings: Settings,
) -> dict[str, Any] | None:
    """What the notebook's kernel has, and what a restart would change; None where no kernel is known."""
    if running is None:
        if not refused:
            return None
        pending = [{"what": "base", "name": outlook.base.manifest.id}] if outlook else []
        return {
            "state": "refused", "base": None, "entered": False, "pending": pending, "failure": dict(refused)
        }  # fmt: skip
    state, spec = running.state().value, _spec(running)
    failure = None
    if state == "failed":
        with contextlib.suppress(CorruptState):
            failure = running.read(layout.FAILED)["failure"]
    return {
        "state": state,
        "base": spec.get("base"),
        "entered": running.entered,
        "pending": _pending(running, spec, outlook, settings) if outlook else [],
        "failure": failure,
    }


def _pending(
    running: store.Generation, spec: Mapping[str, Any], outlook: Outlook, settings: Settings
) -> list[dict[str, str]]:
    """What the notebook asks for and its kernel does not have, or has and is not asked for any more."""
    base, request = outlook.base.manifest, outlook.request
    if not spec or spec == store.spec_of(request, base, settings):
        return []
    if spec["base"] != base.id:
        return [{"what": "base", "name": base.id}]
    have = {**base.distributions, **content_of(running).versions}
    changes = [{"what": "add", "name": extra} for extra in request.extras if not _satisfied(extra, have)]
    built = spec.get("local", ())
    changes += [{"what": "add", "name": named_in(one)} for one in request.local if one not in built]
    wanted = {named_in(extra) for extra in request.extras}
    changes += [
        {"what": "remove", "name": name} for name in map(named_in, spec["extras"]) if name not in wanted
    ]
    locked = request.lock.pins if request.lock and not request.stale else {}
    if not changes and any(have.get(name, version) != version for name, version in locked.items()):
        changes.append({"what": "lock", "name": ""})
    return changes


def _satisfied(extra: str, have: Mapping[str, str]) -> bool:
    try:
        requirement = Requirement(extra)
    except InvalidRequirement:
        return False
    version = have.get(canonical(requirement.name))
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _spec(generation: store.Generation) -> dict[str, Any]:
    with contextlib.suppress(CorruptState, KeyError):
        return dict(generation.read(layout.SPEC)["order"])
    return {}


def _packages(request: Request, content: Content, outlook: Outlook | None) -> dict[str, Any]:
    """``declared`` (with what is there of each), ``by_hand`` and ``others``, which came along with them.

    What is installed into a running kernel is there by hand, and all that it needs came along.
    """
    base = outlook.base.manifest.distributions if outlook else {}
    named = {named_in(extra) for extra in request.extras}
    declared = [
        {
            "name": (name := named_in(extra)),
            "requirement": extra,
            "installed": content.versions.get(name) or base.get(name),
            "in_base": name not in content.versions and name in base,
            "bytes": content.bytes.get(name, 0),
            "extras": list(content.offers.get(name, ())),
        }
        for extra in request.extras
    ]
    rest = [name for name in content.versions if name not in named]
    by_hand = [name for name in rest if name in content.by_hand and not content.needed_by.get(name)]
    return {
        "declared": declared,
        "by_hand": [content.entry(name) for name in by_hand],
        "others": [content.entry(name) for name in rest if name not in by_hand],
        "replaced": content.replaced,
    }
