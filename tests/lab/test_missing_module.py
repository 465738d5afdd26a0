"""A module that is missing: one click under the traceback adds its package."""

from __future__ import annotations

import json

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


def test_declared_versions_stay(lab: JupyterServer, tab: Open) -> None:
    """A package that was uninstalled comes back in a version that the notebook asks for."""
    extras = {"accelerator": "cpu", "extras": ["tiny-plot>=0.5,<2"]}
    gone = "!uv pip uninstall -q tiny-plot"
    write_notebook(lab.root / "stays.ipynb", gone, "import tiny_plot", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("stays.ipynb")
    page.run(0)
    page.run(1)
    page.button("Add tiny-plot", within=page.output(1)).click()
    expect(page.output(1)).to_contain_text("tiny-plot is added, and declared in this notebook.")
    page.save()
    assert page.declared("stays.ipynb") == extras


def test_a_restart_meanwhile_is_told_and_it_can_be_tried_again(lab: JupyterServer, tab: Open) -> None:
    """The buttons are there again, and work."""
    cells = ["import tiny_plot", "import time; time.sleep(3600)"]
    write_notebook(lab.root / "lost.ipynb", *cells, torch_env={"accelerator": "cpu"}, kernel="torch-cpu")
    page = tab(lab)
    page.open("lost.ipynb")
    page.run(0)
    page.begin(1)
    add = page.button("Add tiny-plot", within=page.output(0))
    add.click()
    told = page.output(0).get_by_role("status")
    expect(told).to_contain_text("Adding tiny-plot …")
    expect(add).to_be_disabled()
    page.restart()
    expect(told).to_contain_text("The kernel was interrupted or restarted before it was done.")
    page.picture("restarted")
    add.click()
    expect(told).to_contain_text("tiny-plot is added, and declared in this notebook.")


def test_a_notebook_that_comes_to_be_trusted_has_one_prompt(lab: JupyterServer, tab: Open) -> None:
    """Its outputs are drawn again."""
    file = write_notebook(lab.root / "trust.ipynb", "import tiny_plot", kernel="torch-cpu")
    kind = "application/vnd.kernel-provisioner.missing-module+json"
    data = {
        kind: {"version": 1, "module": "tiny_plot", "distribution": "tiny-plot"},
        "text/plain": ["tiny_plot is missing"],
        "text/html": ["<script>1</script>"],
    }
    notebook = json.loads(file.read_text(encoding="utf-8"))
    notebook["cells"][0]["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": data}]
    file.write_text(json.dumps(notebook), encoding="utf-8")
    page = tab(lab)
    page.open("trust.ipynb")
    prompt = page.output(0).locator(".jp-TorchOverlay-prompt")
    expect(prompt).to_have_count(1)
    page.palette("Trust Notebook")
    page.page.get_by_role("dialog").get_by_role("button").last.click()
    expect(page.page.get_by_title("Notebook trusted")).to_be_visible()
    expect(prompt).to_have_count(1)
    page.picture("trusted")


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
