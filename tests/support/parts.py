"""Parts that a machine may lack: the one place where a test is skipped, and never silently."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

REQUIRE_ALL = "KERNEL_PROVISIONER_REQUIRE_ALL"
"""Set by .ci/run, which has installed every part: there a missing one is a failure."""


def need(part: object, reason: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Go on where ``part`` is there (truthy); otherwise skip the test, saying ``reason``.

    ``reason`` names what is missing and how to get it. Where the environment sets
    ``KERNEL_PROVISIONER_REQUIRE_ALL`` the test fails instead.
    """
    if part:
        return
    if environ.get(REQUIRE_ALL):
        pytest.fail(f"{REQUIRE_ALL} is set, and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)
