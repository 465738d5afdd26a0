"""``jupyter overlay`` in a terminal, on a notebook that is open in the browser with unsaved work."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import RUNS_WITHIN
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer

from .conftest import Open, overlay

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

CPU = {"accelerator": "cpu"}


def test_a_change_from_a_terminal_is_made_in_the_browser_and_nothing_typed_is_lost(
    lab: JupyterServer, lab_environment: dict[str, str], tab: Open
) -> None:
    """Unsaved edits and the declaration are saved together; no dialog asks which of two to keep."""
    file = write_notebook(lab.root / "open.ipynb", "1", "2", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("open.ipynb")
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    page.write(0, "'typed and not saved'")
    saved = f"It is open in {lab.url}, and was changed and saved there."
    added = overlay(lab_environment, "add", str(file), "tiny-plot")
    assert added == ["open.ipynb now declares tiny-plot", "Restart the kernel to install them.", saved]
    assert page.declared("open.ipynb") == {**CPU, "extras": ["tiny-plot"]}
    assert "typed and not saved" in file.read_text(encoding="utf-8")
    page.write(1, "import tiny_plot; 'there'")
    assert overlay(lab_environment, "lock", str(file))[-1] == saved
    assert "import tiny_plot" in file.read_text(encoding="utf-8")
    expect(page.page.get_by_role("dialog")).to_have_count(0)
    page.restart()
    assert page.run(1).endswith("'there'")
    page.save()
    assert "lock" in page.declared("open.ipynb"), "the browser has it, too"
    page.write(0, "'typed later'")
    removed = overlay(lab_environment, "remove", str(file), "tiny-plot")
    assert removed[0] == "open.ipynb now declares no packages"
    assert "typed later" in Path(file).read_text(encoding="utf-8")
    expect(page.page.get_by_role("dialog")).to_have_count(0)
    page.picture("changed")
