"""A notebook for one run: what it declares in memory while packages are added, and its parameters."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.request import Request, parse_request
from kernel_provisioner.notebook.read import read_notebook, torch_env_of
from kernel_provisioner.runs.execute import load_notebook
from kernel_provisioner.runs.variation import declaring_more, inject, parameters_in
from tests.support.notebooks import write_notebook

BLOCK = (
    '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["torch>=2.1", "Declared==1.0"]\n# ///\n'
)
HEADER = "# ---\n# torch_env:\n#   accelerator: cpu\n#   extras: [declared==1.0]\n# ---\n"
TEXTS = {
    "block.py": f"{BLOCK}\nimport declared\n",
    "cell.py": f"# %%\n{BLOCK}\n# %%\nimport declared\n",
    "together.py": f"{BLOCK}import declared\n",
    "header.py": f"{HEADER}\n# %%\nimport declared\n",
    "both.py": f"{HEADER}\n{BLOCK}\nimport declared\n",
    "page.md": f"# Page\n\n```python\n{BLOCK}```\n\n```python\nimport declared\n```\n",
}
LOCK = {
    "lock-version": "1.0",
    "created-by": "kernel-provisioner",
    "requires-python": ">=3.11",
    "packages": [],
    "tool": {
        "torch-overlay": {
            "extras": ["declared==1.0"],
            "torch": "2.6.0",
            "exclude-newer": "",
            "base-provided": [],
        }
    },
}


def read_by_a_launch(path: Path) -> Request:
    """What the file asks for."""
    text = read_notebook(path)
    return parse_request(text.metadata, text.script_blocks, uv_lock=text.uv_lock)


def seen_in_memory(nb: NotebookNode) -> Request:
    """What a launch reads from the notebook that nbclient holds."""
    text = torch_env_of(nb)
    return parse_request(text.metadata, text.script_blocks, uv_lock=text.uv_lock)


def varied(path: Path, *requirements: str) -> Request:
    """What is asked for while ``requirements`` are declared too; afterwards the notebook is as it was."""
    nb = load_notebook(path)
    before = nbformat.writes(nb)  # type: ignore[no-untyped-call]
    with declaring_more(nb, read_by_a_launch(path), requirements, allow_urls=False):
        seen = seen_in_memory(nb)
    assert nbformat.writes(nb) == before  # type: ignore[no-untyped-call]
    return seen


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_notebook_keeps_what_it_declares(tmp_path: Path, name: str) -> None:
    """Wherever it stands, and once: jupytext makes Markdown, a raw cell or a code cell of it."""
    path = tmp_path / name
    path.write_text(TEXTS[name])
    said, seen = read_by_a_launch(path), varied(path, "more")
    assert said.extras == ("declared==1.0",)
    assert seen.extras == ("declared==1.0", "more")
    assert (seen.torch, seen.requires_python) == (said.torch, said.requires_python)
    assert (seen.accelerator, seen.warnings) == (said.accelerator, ())


def test_a_text_notebook_keeps_the_lock_beside_it(tmp_path: Path) -> None:
    """It is outdated for this run, for it names no ``more``."""
    path = tmp_path / "block.py"
    path.write_text(TEXTS["block.py"])
    (tmp_path / "block.py.lock.json").write_text(json.dumps(LOCK))
    said, seen = read_by_a_launch(path), varied(path, "more")
    assert said.lock is not None
    assert seen.lock == said.lock
    assert (said.stale, seen.stale) == (False, True)
    assert "==2.6.0" in seen.torch


def test_a_package_takes_the_place_of_what_is_declared_under_its_name(tmp_path: Path) -> None:
    """In metadata, and in a block that is no cell."""
    path = write_notebook(tmp_path / "one.ipynb", torch_env={"extras": ["declared==1.0", "other"]})
    assert varied(path, "Declared>=2").extras == ("declared>=2", "other")
    text = tmp_path / "block.py"
    text.write_text(TEXTS["block.py"])
    assert varied(text, "declared>=2").extras == ("declared>=2",)
    with pytest.raises(InvalidRequest, match="extras"):
        varied(path, "no requirement at all")


@pytest.mark.parametrize(
    ("typed", "literal"),
    [
        ("nan", "float('nan')"),
        ("Infinity", "float('inf')"),
        ("-inf", "float('-inf')"),
        ("1e-3", "0.001"),
        ("3", "3"),
        ("None", "None"),
        ("a b", "'a b'"),
    ],
)
def test_a_parameter_is_written_as_python_reads_it(typed: str, literal: str) -> None:
    """NaN and the infinities have no literals: papermill writes calls."""
    nb = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    values = parameters_in([f"rate={typed}"])
    inject(nb, values)
    assert nb.cells[0].source == f"# Parameters\nrate = {literal}"
    found: dict[str, object] = {}
    exec(nb.cells[0].source, found)  # as a kernel would
    same = found["rate"] == values["rate"]
    assert same or (isinstance(found["rate"], float) and math.isnan(found["rate"]))
