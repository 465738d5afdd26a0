"""What the tests of faults share: one bench for a run, and a scene for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bases import Bench
from tests.support.index import serve_index

from .scene import Scene


@pytest.fixture(scope="package")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One index that says how large its files are, and one base of fake torch."""
    with serve_index() as index:
        index.json = True
        yield Bench(tmp_path_factory.mktemp("faults"), index)


@pytest.fixture
def scene(workbench: Bench, tmp_path: Path) -> Iterator[Scene]:
    """A place of its own for one test; the index behaves again after it."""
    with workbench.visit("book.ipynb") as bench:
        yield Scene(bench, tmp_path)
        bench.index.pace = 1.0
