"""What a plan, and the files it unpacked, may not do to the base. Pure but for listing a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..accelerators import ECOSYSTEM
from ..errors import ResolutionFailed
from ..manifest import BaseManifest
from ..uv import Change

_ACCELERATOR_PREFIXES = ("nvidia-", "cuda-", "triton", "pytorch-triton")


def audit_plan(changes: Sequence[Change], base: BaseManifest, *, pins: str) -> list[Change]:
    """The base packages that the plan replaces in this overlay.

    Raises ResolutionFailed where the plan touches what is fixed, or brings accelerator libraries
    that belong to a base. ``pins`` is the policy: ``stack`` or ``all``.
    """
    for change in changes:
        if change.name in base.fixed or (change.replaces and pins == "all"):
            raise ResolutionFailed(
                f"the extras would replace {change.name} {base.distributions.get(change.name, '')} "
                f"of {base.id} by {change.version}",
                why="torch's stack and what the kernel itself runs on are fixed in every overlay"
                if change.name in base.fixed
                else "this machine's policy lets no overlay replace a base package (pins = all)",
                fix="loosen the extra that needs it, or use a base that holds that version",
            )
    foreign = [change for change in changes if change.name.startswith(_ACCELERATOR_PREFIXES)]
    if foreign and base.tag == "cpu":
        raise ResolutionFailed(
            "the extras would bring " + ", ".join(f"{change.name} {change.version}" for change in foreign),
            why=f"{base.id} is a cpu base: accelerator libraries are gigabytes that it could not use",
            fix='choose a CUDA base (kernel "torch-cu… (shared)"), or drop the extra that needs them',
        )
    return [change for change in changes if change.replaces]


def audit_origin(indexes: dict[str, str], upstream: str, failures: Sequence[str]) -> None:
    """Raise ResolutionFailed where a PyTorch package would come from another index than its own."""
    for name, index in indexes.items():
        if name in ECOSYSTEM and not index.startswith(upstream):
            raise ResolutionFailed(
                f"{name} would come from {index}, not from {upstream}",
                why="\n".join(failures) or "a build from elsewhere may be for another accelerator",
                fix="go online once, so that it can be looked up there",
            )


def shadowing(site: Path, base: BaseManifest, replaced: Iterable[str]) -> list[str]:
    """Top-level names in ``site`` that would hide a module of the base, with no right to.

    A distribution that replaces the base's own of that name has the right.
    """
    allowed = {name.replace("-", "_") for name in replaced}
    found = []
    for entry in os.scandir(site):
        module = entry.name.split(".")[0]
        if entry.name.endswith((".dist-info", ".pth", ".data")) or module == "__pycache__":
            continue
        if module in base.modules and module.lower() not in allowed:
            found.append(entry.name)
    return sorted(found)


def namespace_hiders(site: Path, base: BaseManifest) -> list[Path]:
    """``__init__`` files that would turn a namespace shared with the base (``nvidia``) into one's own."""
    return sorted(
        path
        for name in base.namespaces
        if (site / name).is_dir()
        for path in (site / name).glob("__init__.py*")
    )
