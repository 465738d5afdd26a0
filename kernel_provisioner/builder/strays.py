"""What a notebook's lock names and no extra needs here: it is not installed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..inkernel.shared import layout
from ..inkernel.shared.settle import remove
from .progress import Progress
from .spec import BuildSpec
from .stage import Installed


def without_strays(
    spec: BuildSpec, installed: Sequence[Installed], needed: Collection[str], progress: Progress
) -> list[Installed]:
    """Take out of staging what is not among the ``needed`` names; what is left, with a word in the log.

    A lock may name more than its extras need: for another platform, by mistake, or so that nobody notices.
    """
    strays = [package for package in installed if package["name"] not in needed]
    if strays:
        staging = spec.generation.path / layout.STAGING
        for site in sorted(staging.glob("lib/python*/site-packages")):
            remove(site, staging, [package["name"] for package in strays])
        named = ", ".join(f"{package['name']} {package['version']}" for package in strays)
        progress.say("verify", f"In the lock, but not needed here and not installed: {named}")
    return [package for package in installed if package not in strays]
