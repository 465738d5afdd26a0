"""Which generations unused. Decided on values alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..overlay.store import State
from .scan import Found, Overlay

_DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Policy:
    """How much to collect.

    ``unused_days``: also what no kernel has started in for so long. ``everything``: also what
    holds packages installed by hand, and without ``unused_days`` every overlay that is not in use.
    """

    unused_days: float | None = None
    everything: bool = False


def removable(overlay: Overlay, policy: Policy, *, now: float) -> Iterator[tuple[Found, str]]:
    """The generations to remove, each with the reason; never one in use.

    ``now`` is in seconds since the epoch and counts for ``unused_days`` only: what is dated in
    the future was used just now.
    """
    newest = next((found for found in overlay.generations if found.state is State.READY), None)
    for found in overlay.generations:
        if not found.in_use and (reason := _reason(overlay, found, newest, policy, now)):
            yield found, reason


def _reason(overlay: Overlay, found: Found, newest: Found | None, policy: Policy, now: float) -> str:
    idle = (now - found.used) / _DAY
    if overlay.scratch:
        return "its kernel has ended, and had no notebook"
    if overlay.notebook_gone:
        return "its notebook is gone"
    if found.base_gone:
        return f"its base {found.base} is gone"
    if found.state is State.FAILED:
        return "its build failed"
    if found.state is State.ABANDONED:
        return "its build was not finished"
    if found is not newest:
        return "replaced by a newer one"
    if policy.unused_days is not None:
        return f"not used for {idle:.0f} days" if idle >= policy.unused_days else ""
    return "not in use" if policy.everything else ""
