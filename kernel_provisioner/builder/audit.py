"""What a plan may not do to the base; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ResolutionFailed
from ..model.manifest import BaseManifest
from ..uv.client import Change


def audit_plan(changes: Sequence[Change], base: BaseManifest, *, fixed: frozenset[str], pins: str) -> None:
    """Judge what a plan does to the base; ``pins`` is the policy: ``stack`` or ``all``.

    Raises ResolutionFailed where it touches what is fixed.
    """
    for change in changes:
        if change.name in fixed or (change.replaces and pins == "all" and change.name in base.distributions):
            raise ResolutionFailed(
                f"the extras would replace {change.name} {base.distributions.get(change.name, '')} "
                f"of {base.id} by {change.version}",
                why="torch's stack and ipykernel, which runs the cells, are fixed in every overlay"
                if change.name in fixed
                else f"the policy lets no overlay replace {change.name} or any other base package",
                fix="loosen the extra that needs it, or use a base that holds that version",
            )


def audit_origin(packages: Iterable[Mapping[str, Any]], tag: str, upstream: str) -> None:
    """Raise ResolutionFailed where a PyTorch package would come from another index than its own."""
    from ..index.pytorch import wrong_origin

    for stray in wrong_origin(packages, tag, upstream):
        raise ResolutionFailed(
            f"{stray['name']} would come from {stray.get('index') or 'elsewhere'}, not from {upstream}",
            why="a build from elsewhere may be for another accelerator; uv is offline, or its own settings"
            " (UV_INDEX_STRATEGY) prefer that index",
            fix="go online once, so that uv can look it up there, and leave UV_INDEX_STRATEGY unset",
        )
