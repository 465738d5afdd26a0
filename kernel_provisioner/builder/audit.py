"""What a plan, and the files it unpacked, may not do to the base. Pure but for listing a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ResolutionFailed
from ..manifest import BaseManifest
from ..overlay import store
from ..overlay.skeleton import BASE_PATHS, HOOK
from ..uv import Change

_ACCELERATOR_PREFIXES = ("nvidia-", "cuda-", "triton", "pytorch-triton")


def audit_plan(changes: Sequence[Change], base: BaseManifest, *, pins: str) -> None:
    """Judge what a plan does to the base; ``pins`` is the policy: ``stack`` or ``all``.

    Raises ResolutionFailed where it touches what is fixed, or brings accelerator libraries, which belong
    to a base.
    """
    for change in changes:
        if change.name in base.fixed or (change.replaces and pins == "all"):
            raise ResolutionFailed(
                f"the extras would replace {change.name} {base.distributions.get(change.name, '')} "
                f"of {base.id} by {change.version}",
                why="torch's stack and what the kernel itself runs on are fixed in every overlay"
                if change.name in base.fixed
                else f"the policy lets no overlay replace {change.name} or any other base package",
                fix="loosen the extra that needs it, or use a base that holds that version",
            )
    libraries = [change for change in changes if change.name.startswith(_ACCELERATOR_PREFIXES)]
    if libraries and base.tag == "cpu":
        raise ResolutionFailed(
            "the extras would bring " + ", ".join(f"{change.name} {change.version}" for change in libraries),
            why=f"{base.id} is a cpu base: accelerator libraries are gigabytes that it could not use",
            fix='choose a CUDA base (kernel "torch-cu… (shared)"), or drop the extra that needs them',
        )


def audit_origin(packages: Iterable[Mapping[str, Any]], tag: str, upstream: str) -> None:
    """Raise ResolutionFailed where a PyTorch package would come from another index than its own."""
    from ..router import foreign

    for stray in foreign(packages, tag, upstream):
        raise ResolutionFailed(
            f"{stray['name']} would come from {stray.get('index') or 'elsewhere'}, not from {upstream}",
            why="a build from elsewhere may be for another accelerator; uv is offline, or its own settings"
            " (UV_INDEX_STRATEGY) prefer that index",
            fix="go online once, so that it can be looked up there, and leave UV_INDEX_STRATEGY unset",
        )


def shadowing(site: Path, base: BaseManifest, replaced: Iterable[str]) -> list[str]:
    """Top-level names in ``site`` that would hide a module of the base, with no right to.

    A distribution that replaces the base's own of that name has the right.
    """
    own = set(replaced)
    found = []
    for entry in os.scandir(site):
        module = entry.name.split(".")[0]
        if entry.name.endswith((".dist-info", ".pth", ".data")) or module == "__pycache__":
            continue
        if module in base.modules and base.modules[module] not in own:
            found.append(entry.name)
    return sorted(found)


def usurping(staging: Path) -> list[str]:
    """Files in ``staging`` that would take the place of what the overlay around it stands on."""
    taken = {entry.name for entry in os.scandir(staging.parent) if not entry.is_dir(follow_symlinks=False)}
    taken |= {store.OVERLAY, store.FAILED, store.ENTERED, store.STAGING}
    taken.discard(".lock")  # uv's own, in every prefix that it installs to
    paths = [path for path in staging.iterdir() if path.name in taken]
    paths += [path for path in staging.glob("bin/*") if re.fullmatch(r"python[\d.]*", path.name)]
    for own in (f"{BASE_PATHS}.*", f"{HOOK}", f"{HOOK}.*"):
        paths += staging.glob(f"lib*/python*/site-packages/{own}")
    return sorted(path.relative_to(staging).as_posix() for path in paths)


def namespace_hiders(site: Path, base: BaseManifest) -> list[Path]:
    """``__init__`` files that would turn a namespace shared with the base (``nvidia``) into one's own."""
    return sorted(
        path
        for name in base.namespaces
        if (site / name).is_dir()
        for path in (site / name).glob("__init__.py*")
    )
