"""The commands on text notebooks: what a script or a Markdown page declares counts like any notebook's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_provisioner.runs.trees import notebooks_under
from tests.support.desk import Desk

pytestmark = pytest.mark.slow

HEADER = "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: torch\n#     name: torch-cpu\n# ---\n\n"
PAGE = """---
kernelspec:
  display_name: torch
  name: torch-cpu
---

# Page

```{code-cell} python
1
```
"""


def told(desk: Desk, *words: object) -> dict[str, object]:
    """What the command says as JSON."""
    return dict(json.loads(desk.command(*map(str, words), "--json").stdout))


@pytest.mark.system
@pytest.mark.parametrize(("name", "text"), [("step.py", HEADER + "# %%\n1\n"), ("page.md", PAGE)])
def test_from_the_first_dependency_to_a_locked_start(desk: Desk, name: str, text: str) -> None:
    """``add``, ``show``, ``lock``, ``lock --check``, ``prebuild`` and the launch itself agree."""
    desk.publish("worded")
    notebook = desk.home / name
    notebook.write_text(text)
    assert told(desk, "add", notebook, "worded")["extras"] == ["worded"]
    shown = told(desk, "show", notebook)
    assert shown["extras"] == ["worded"]
    assert (
        shown["reason"]
        == "torch-cpu: the kernel that was picked; any machine runs it; the only base that fits"
    )
    said = desk.command("lock", str(notebook)).stdout.splitlines()
    assert said[-1] == f"{name} is locked to 1 package and torch 2.6.0, in {name}.lock.json"
    declared = notebook.read_text()
    lock = json.loads((desk.home / f"{name}.lock.json").read_text())
    assert [package["name"] for package in lock["packages"]] == ["worded"]
    assert told(desk, "lock", notebook, "--check")["current"] is True
    desk.publish("worded", "2.0")
    (built,) = json.loads(desk.command("prebuild", str(notebook), "--json").stdout)
    assert (built["state"], built["error"]) == ("built", None)
    assert desk.launch(notebook)["got"] == {"worded": "1.0"}
    assert told(desk, "remove", notebook, "worded")["extras"] == []
    assert notebook.read_text() == declared.replace('"worded"', "")


def test_a_text_notebook_cannot_hold_outputs(desk: Desk) -> None:
    """That is said before anything runs, with the name to give instead."""
    notebook = desk.home / "text.py"
    notebook.write_text("1\n")
    refused = desk.command("run", str(notebook), "--output", str(notebook), check=False)
    assert refused.returncode == 2
    assert "text.py cannot hold outputs" in refused.stderr
    assert "fix: --output text.ipynb" in refused.stderr


def test_a_header_that_is_not_read_is_the_base_alone(desk: Desk) -> None:
    """The kernel starts, and its one notice says why; what is said wrongly fails every cell instead."""
    notebook = desk.home / "bomb.md"
    notebook.write_text("---\na: &a [x, x]\ntorch_env: {extras: *a}\n---\n")
    outcome = desk.launch(notebook)
    assert (outcome["failure"], outcome["state"]) == ({}, "ready")
    (notice,) = outcome["notices"]
    assert notice.startswith(f"the notebook {notebook} cannot be read: running on the base alone")
    assert "an alias" in notice
    notebook.write_text("---\ntorch_env: {}\njupyter:\n  torch_env: {}\n---\n")
    assert "twice" in desk.launch(notebook)["failure"]["what"]


def test_in_a_tree_a_text_notebook_is_what_names_a_kernel(tmp_path: Path) -> None:
    """A program or a README is none, whatever it declares; named itself, it is taken at its word."""
    (tmp_path / "step.py").write_text(HEADER)
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "report.qmd").write_text("---\njupyter: torch\n---\n")
    (tmp_path / "tool.py").write_text("# /// script\n# dependencies = []\n# ///\n")
    (tmp_path / "README.md").write_text("# Read me\n")
    (tmp_path / "broken.md").write_text("---\nkernelspec: {\n---\n")
    (tmp_path / "latin.py").write_bytes(HEADER.encode() + b"# caf\xe9")
    found = [path.name for path in notebooks_under([str(tmp_path)])]
    assert found == ["latin.py", "page.md", "report.qmd", "step.py"]
    assert notebooks_under([str(tmp_path / "tool.py")]) == [tmp_path / "tool.py"]
