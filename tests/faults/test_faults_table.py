"""The table of faults in docs/reliability.md and the tests name each other."""

from __future__ import annotations

import runpy
from pathlib import Path

RELIABILITY = runpy.run_path(str(Path(__file__).parents[2] / "docs/reliability.py"))


def test_every_fault_is_injected_by_a_test_and_every_test_is_for_a_fault() -> None:
    """No row is only claimed, and no marker counts for a row that is not there."""
    assert set(RELIABILITY["tests"]()) == set(RELIABILITY["ROWS"])
