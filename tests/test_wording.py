"""A failure in the words of a cell: the notebook by its name, and first what the next cell can do."""

from __future__ import annotations

import pytest

from kernel_provisioner.inkernel.shared.info import Info
from kernel_provisioner.inkernel.wording import told_in_cell

INFO = Info(notebook="/home/me/my notes.ipynb", command=("python",))
CREATE = "base create cpu --torch '>=2.6,<2.8'"
NAME = "'my notes.ipynb'"


def fix_of(fix: str, error: str = "ResolutionFailed", info: Info = INFO) -> str:
    """The fix of a failure as a cell tells it."""
    return told_in_cell({"error": error, "what": "it failed", "fix": fix}, info)["fix"]


@pytest.mark.parametrize(
    ("fix", "told"),
    [
        (
            "with\n  jupyter overlay add NOTEBOOK PKG\nthen restart",
            f"with\n  %overlay add PKG  (in a terminal: jupyter overlay add {NAME} PKG)\nthen restart",
        ),
        (
            "jupyter overlay lock NOTEBOOK  on this machine",
            f"%overlay lock  (in a terminal: jupyter overlay lock {NAME})  on this machine",
        ),
        (
            f"jupyter overlay {CREATE}, and go on",
            f"%overlay {CREATE}  (in a terminal: jupyter overlay {CREATE}), and go on",
        ),
        ("jupyter overlay doctor  checks it", "jupyter overlay doctor  checks it"),
        ("jupyter nbconvert NOTEBOOK", f"jupyter nbconvert {NAME}"),
    ],
)
def test_a_fix_can_be_typed_into_the_next_cell(fix: str, told: str) -> None:
    """With the form for a terminal behind it, in which the notebook has its name."""
    assert fix_of(fix) == told


def test_what_has_to_be_edited_has_to_be_saved() -> None:
    """The next start reads the file; what says so already is left as it is."""
    after = "\nthen save the notebook, and restart the kernel"
    assert fix_of("write x", "InvalidRequest") == f"write x{after}"
    assert fix_of("write x and save it", "InvalidRequest") == "write x and save it"
    assert fix_of("free space", "BuildFailed") == "free space"
    assert fix_of("write x", "InvalidRequest", Info(command=("python",))) == "write x", "nothing to save"


def test_a_long_reason_is_told_by_its_end() -> None:
    """There a resolver names the two that do not go together; the log has all of it."""
    steps = [f"Because a{number} depends on b, step {number}." for number in range(20)]
    end = ["And because you require a and ipykernel==7, they do not go together."]
    told = told_in_cell({"what": "no", "why": "\n".join(["No solution found", *steps, *end])}, INFO)["why"]
    assert told.splitlines() == [
        "No solution found", *end,
        f"(20 more lines: %overlay log, or jupyter overlay log {NAME})",
    ]  # fmt: skip
    short = "No solution found\nBecause a depends on b"
    assert told_in_cell({"what": "no", "why": short}, INFO)["why"] == short
