"""``make corpus``: what it reads, what it tries, and the page that it writes."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import TorchBase

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module; it finds its neighbours in its own folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__("corpus")


def test_a_line_is_a_requirement_and_what_to_import(corpus: ModuleType, tmp_path: Path) -> None:
    """Comments and empty lines are nothing; an import that is not told is the name with underscores."""
    path = tmp_path / "list.txt"
    path.write_text(
        "# packages\n\nopen-clip-torch>=2  open_clip  # CLIP\nTorch-Geometric\n", encoding="utf-8"
    )
    packages = corpus.read_corpus(path)
    assert [(one.name, one.requirement, one.module) for one in packages] == [
        ("open-clip-torch", "open-clip-torch>=2", "open_clip"),
        ("torch-geometric", "Torch-Geometric", "torch_geometric"),
    ]


def test_no_package_is_listed_twice(corpus: ModuleType) -> None:
    """Each has one notebook, one overlay and one row."""
    packages = corpus.read_corpus(BENCHMARKS / "corpus.txt")
    requirements = [package.requirement for package in packages]
    assert len(requirements) == len(set(requirements))
    names = [package.name for package in packages if package.module]
    assert len(names) == len(set(names))


def test_the_page_in_the_docs_is_of_the_list_and_the_data_beside_it(corpus: ModuleType) -> None:
    """A row for every package of corpus.txt. Where this fails: make corpus."""
    data = json.loads((DOCS / "corpus.json").read_text(encoding="utf-8"))
    listed = [package.requirement for package in corpus.read_corpus(BENCHMARKS / "corpus.txt")]
    assert [row["package"] for row in data["packages"]] == listed
    assert (DOCS / "corpus.md").read_text(encoding="utf-8") == corpus.document(data)


def test_what_does_not_work_is_listed_with_its_reason(corpus: ModuleType) -> None:
    """Packages that share a reason share its words; each row leads there."""
    page = corpus.document(_data(corpus, _row(corpus, "works"), _row(corpus, "no", "refused", "no wheel"),
                                 _row(corpus, "neither", "refused", "no wheel"),
                                 _row(corpus, "broken", "fails", "ImportError: gone")))  # fmt: skip
    assert "of 4 packages **1 work, 2 are refused, with a reason, 1 fail**" in page
    assert "| neither |  |  | [refused: reason 1](#reason-1) |" in page
    assert "| broken |  |  | [fails: reason 2](#reason-2) |" in page
    assert re.search(r"### Reason 1\n\nno, neither:\n\n```text\nno wheel\n```\n", page)


def test_where_all_works_nothing_is_left_to_explain(corpus: ModuleType) -> None:
    """One row, no reasons."""
    page = corpus.document(_data(corpus, _row(corpus, "works")))
    assert "| works | 1.0 | 1.0 | works |  | 2 | 0 | 0 B | 0 B | 0.5 |" in page
    assert "Reason" not in page


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_packages_are_tried_on_a_real_base(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """One with a wheel, one that is built from source; named alone they are told, and nothing is written."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "corpus.py", "einops", "efficientnet_pytorch", "--output", tmp_path],
        env=torch_base_home.environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^einops [\d.]+: works, 1 added, ", done.stdout, re.MULTILINE)
    assert re.search(r"^efficientnet-pytorch [\d.]+: works, 1 added, ", done.stdout, re.MULTILINE)
    assert not (tmp_path / "corpus.md").exists()
    assert not list((tmp_path / "cache").glob("torch-overlays-corpus-*"))


def test_versions_are_told_beside_those_of_a_private_environment(corpus: ModuleType) -> None:
    """Of the package, of what it replaces of the base, and of what else came otherwise."""
    more = {"replaced": {"numpy": "2.1 → 1.26"}, "others": {"deep": ("0.9", "1.0")}}
    held = {"version": "2.1", "private": "2.2", "held": True}
    page = corpus.document(
        _data(corpus, {**_row(corpus, "new", "resolves"), "version": "1.0", "private": "1.0", **more},
              {**_row(corpus, "numpy", "resolves"), **held})
    )  # fmt: skip
    assert "| new | 1.0 | 1.0 | resolves | numpy 2.1 → 1.26 | 2 |  |  |  |  |" in page
    assert "| numpy | 2.1 | 2.2 (the base's serves) | resolves |  | 2 |  |  |  |  |" in page
    assert "1 of 2 come in the version that a private environment gets" in page
    assert "packages that all of them add, 1 came in another version, where" in page
    assert "\n\n- new: deep 0.9 (privately 1.0)\n" in page


def _row(corpus: ModuleType, name: str, result: str = "works", why: str = "") -> dict[str, Any]:
    version = "1.0" if result == "works" else ""
    row = corpus.Row(name, result, why, version=version, private=version, added=2, seconds=0.5)
    return dataclasses.asdict(row)


def _data(corpus: ModuleType, *rows: dict[str, Any]) -> dict[str, Any]:
    base = {"id": "cpu-x", "python": "3.12.1", "distributions": 40, "bytes": 10**9, "files": 30000}
    bare = dataclasses.asdict(corpus.Usage())
    return {"when": "2026-01-01", "environment": {}, "base": base, "bare": bare, "packages": list(rows)}
