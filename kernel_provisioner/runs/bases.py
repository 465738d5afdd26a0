"""The registered bases as JSON, and which of them a notebook could run on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from packaging.requirements import InvalidRequirement, Requirement

from ..base.create import create_base, find_interpreter
from ..base.current import broken
from ..base.installers import BaseSpec
from ..base.kernels import register_kernel
from ..base.progress import Progress
from ..base.publish import Created
from ..base.registry import Register, RegisteredBase, read_register
from ..base.trust import unsafe
from ..hardware import Hardware
from ..inkernel.shared.packages import canonical
from ..model.accelerators import parse_tag
from ..model.request import Request
from ..selection import rank
from ..selection.fit import objections
from ..settings import Settings
from ..uv.client import find_uv


def described(base: RegisteredBase, register: Register) -> dict[str, Any]:
    """One base, as ``jupyter overlay base list --json`` has it."""
    manifest = base.manifest
    return {
        **manifest.identity,
        "adopted": manifest.adopted,
        "default": register.aliases.get(manifest.tag) == manifest.id,
        "kernel": f"torch-{manifest.tag}",
    }


def create(
    tag: str,
    settings: Settings,
    *,
    torch: str = "",
    packages: Sequence[str] = (),
    python: str = "",
    installer: str = "auto",
    find_links: Sequence[str] = (),
    data_dir: Path | None = None,
    upgrade: bool = False,
    progress: Progress,
) -> Created:
    """Make a base under ``data_dir``, the user's own where None; raises OverlayError.

    One that is there already and has what is asked for is taken, and no index is asked, but for an
    ``upgrade``, or where it is said how to install. ``find_links``, and pip's own settings, are refused where
    the policy names the indexes.
    """
    parse_tag(tag)
    place = data_dir or Path(jupyter_data_dir())
    if not (upgrade or find_links) and installer == "auto":
        interpreter = find_interpreter(python, find_uv(policy=settings.policy))
        if there := _standing(tag, torch, packages, interpreter, place):
            source = f"what is here since {there.manifest.created[:10]}; --upgrade looks for a newer torch"
            return Created(there, register_kernel(tag, place), source, existed=True)
    refuse_own(place, settings)
    for where in ("pip's own settings" if installer == "pip" else "", *find_links):
        if where:
            settings.policy.refuse_sources(where)
    return create_base(
        BaseSpec(tag, torch, tuple(packages), tuple(find_links)),
        data_dir=place,
        python=python,
        installer="uv" if settings.policy.indexes else installer,
        template=settings.index_template,
        uv=find_uv(policy=settings.policy),
        progress=progress,
    )


def refuse_own(place: Path, settings: Settings) -> None:
    """Raise NotAllowed where ``place`` is the user's own data directory, and the policy wants none there."""
    if place == Path(jupyter_data_dir()):
        settings.policy.refuse_own_bases()


def _standing(
    tag: str, torch: str, packages: Sequence[str], interpreter: Path, data_dir: Path
) -> RegisteredBase | None:
    """The base in ``data_dir`` that a tag means, where it has what is asked for, on this interpreter."""
    register = read_register()
    wanted = [f"torch{torch if not torch or torch[0] in '<>=!~' else f'=={torch}'}", *packages]
    for base in register.bases:
        manifest = base.manifest
        if (
            register.aliases.get(tag) == manifest.id
            and base.directory.parent.parent == data_dir
            and not manifest.adopted
            and Path(os.path.realpath(manifest.interpreter)) == interpreter
            and (unsafe(base) or broken(base)) is None
            and all(_holds(manifest.distributions, text) for text in wanted)
        ):
            return base
    return None


def _holds(distributions: Mapping[str, str], text: str) -> bool:
    """Whether a requirement is among what is there; not where it has extras, which leave no trace."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:  # told where the base is made
        return False
    version = distributions.get(canonical(wanted.name))
    return bool(version) and not wanted.extras and wanted.specifier.contains(str(version), prereleases=True)


def created_data(created: Created) -> dict[str, Any]:
    """A new base, as ``jupyter overlay base create --json`` has it."""
    manifest = created.base.manifest
    return {
        **manifest.identity,
        "kernel": str(created.kernel or ""),
        "source": created.source,
        "existed": created.existed,
    }


def choices(
    request: Request, pinned: str, hardware: Hardware, register: Register, preference: str
) -> list[dict[str, Any]]:
    """Every base with ``why_not`` (reasons; none: it fits) and ``choose``: what makes it the notebook's.

    ``pinned`` is the tag of the notebook's kernel. ``choose`` is what has to change, ``kernel`` (a name) and
    keys of ``torch_env``; null where the base could not be chosen on this machine.
    """
    found = []
    for base in register.bases:
        entry = {
            **described(base, register),
            "bytes": base.manifest.bytes,
            "why_not": objections(base.manifest, request, hardware, pinned),
            "choose": _choose(base, request, pinned, hardware, register, preference),
        }
        if error := unsafe(base) or broken(base):
            entry.update(why_not=[error.what], choose=None)
        found.append(entry)
    return found


def _choose(
    base: RegisteredBase,
    request: Request,
    pinned: str,
    hardware: Hardware,
    register: Register,
    preference: str,
) -> dict[str, Any] | None:
    """The smallest change that lets a launch take this base."""
    manifest = base.manifest
    kernel = f"torch-{manifest.tag}"
    exactly = f"=={manifest.torch.partition('+')[0]}"
    for change in (
        {},
        *([{"kernel": kernel}] if pinned and pinned != manifest.tag else []),
        {"accelerator": manifest.tag},
        {"kernel": kernel, "torch": exactly} if pinned else {"accelerator": manifest.tag, "torch": exactly},
    ):
        changed = _changed(request, change)
        pin = manifest.tag if change.get("kernel") else pinned
        ranked = rank(
            changed, hardware, register.manifests, pinned=pin, aliases=register.aliases, preference=preference
        )
        if ranked and ranked[0].base.id == manifest.id:
            return {
                "kernel": change.get("kernel", ""),
                "torch_env": {name: value for name, value in change.items() if name != "kernel"},
            }
    return None


def _changed(request: Request, change: Mapping[str, str]) -> Request:
    return dataclasses.replace(
        request,
        accelerator=change.get("accelerator", request.accelerator),
        torch=change.get("torch", request.torch),
    )
