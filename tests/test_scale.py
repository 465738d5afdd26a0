"""The program that counts what launches ask of file systems: its tables are what the page shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.parts import need
from tests.support.waiting import patient

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs/scale.md"


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_the_counts_are_those_of_the_page(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """The same tables and rows; a launch does not ask more among many notebooks; nothing stays behind."""
    need(shutil.which("strace"), "no strace; on Debian: apt install strace")
    place = tmp_path / "tmp"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks/scale.py", "--extra", "einops"],
        env=torch_base_home.environment(tmp_path, TMPDIR=str(place)),
        cwd=tmp_path, capture_output=True, text=True, timeout=patient(240), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted = _rows(done.stdout)
    assert counted.keys() == _rows(PAGE.read_text(encoding="utf-8").partition("<!-- measured by")[2]).keys()
    more = int(counted["1,000 more notebooks"]) - int(counted["as above"])
    assert more < 100, (
        "a launch looks at its own notebook alone, whatever the rest of a system does meanwhile"
    )
    assert not list(place.iterdir())


def _rows(text: str) -> dict[str, str]:
    """First cell → the last of that row, of the tables up to the end of what was measured."""
    measured = text.partition("<!-- measured until")[0]
    return {row[0]: row[-1] for row in re.findall(r"^\| (.*?) \|.* (\S.*?) \|$", measured, re.MULTILINE)}
