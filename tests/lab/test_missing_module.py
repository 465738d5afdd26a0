"""A module that is missing: one click under the traceback adds its package."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer

from .conftest import Open

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]


def test_a_click_adds_the_package_and_runs_the_cell_again(lab: JupyterServer, tab: Open) -> None:
    """The cell has what it imports, the notebook declares it, and nothing else was touched."""
    cells = ["import tiny_plot; 'there it is'", "import tiny_frames; 'this, too'", "'meanwhile'"]
    write_notebook(lab.root / "plot.ipynb", *cells, torch_env={"accelerator": "cpu"}, kernel="torch-cpu")
    page = tab(lab)
    page.open("plot.ipynb")
    assert "tiny_plot is not in this notebook's environment" in page.run(0)
    page.picture("missing")
    page.button("Add tiny-plot and run again").click()
    assert page.run(2) == "'meanwhile'", "nobody is taken out of the cell that they go on in"
    expect(page.output(0).get_by_role("button")).to_have_count(0)  # the traceback has that text, too
    expect(page.output(0)).to_contain_text("'there it is'")
    page.run(1)  # not before: a kernel drops what waits behind a cell that fails
    page.button("Add tiny-frames", within=page.output(1)).click()
    expect(page.output(1)).to_contain_text(
        "tiny-frames is added, and declared in this notebook. Run the cell"
    )
    page.picture("added")
    assert page.run(1) == "'this, too'"
    page.save()
    extras = ["tiny-plot", "tiny-frames"]
    assert page.declared("plot.ipynb") == {"accelerator": "cpu", "extras": extras}


def test_a_package_that_does_not_exist_is_told(lab: JupyterServer, tab: Open) -> None:
    """The reason is shown where the button was pressed, and nothing is declared."""
    write_notebook(lab.root / "none.ipynb", "import no_such_thing_9f3", kernel="torch-cpu")
    page = tab(lab)
    page.open("none.ipynb")
    page.run(0)
    page.button("Add no-such-thing-9f3").click()
    told = page.output(0).get_by_role("status")
    expect(told).to_contain_text("no-such-thing-9f3")
    expect(page.button("Add no-such-thing-9f3")).to_be_enabled()
    page.picture("told")
    page.save()
    assert page.declared("none.ipynb") is None
