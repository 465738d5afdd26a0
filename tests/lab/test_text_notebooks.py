"""A text notebook that jupytext opens: what it would drop is told, with the command that writes it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.browser import RUNS_WITHIN
from tests.support.server import JupyterServer

from .conftest import Open, overlay

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

TEXT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: torch-cpu (shared)
#     name: torch-cpu
# ---

# %%
1

# %%
import tiny_plot; 'there'
"""
DROPS = "jupytext drops what would be written into the metadata of train.py."


def test_nothing_is_written_that_jupytext_drops_and_the_command_is_told(
    lab: JupyterServer, lab_environment: dict[str, str], tab: Open
) -> None:
    """The running kernel has the package; the notebook declares it once the command has run."""
    file = lab.root / "train.py"
    file.write_text(TEXT)
    page = tab(lab, lab=False)
    page.open("train.py", factory="Jupytext Notebook")
    page.run(0)
    page.run(1)
    page.button("Add tiny-plot and run again").click()
    toast = page.page.get_by_role("alert").filter(
        has_text="tiny-plot is not declared: jupytext would drop it."
    )
    expect(toast).to_contain_text("jupyter overlay add train.py tiny-plot")
    expect(page.button("Copy Command", within=toast)).to_be_visible()
    expect(page.output(1)).to_contain_text("'there'")
    page.picture("toast")

    panel = page.show_panel()
    card = page.add("tiny-frames")
    expect(card).to_contain_text("1 added")
    expect(card).to_contain_text(DROPS)
    command = "jupyter overlay add train.py tiny-frames"
    expect(card).to_contain_text(command)
    page.picture("preview")
    page.button("Install in the running kernel", within=card).click()
    expect(panel).to_contain_text("Add tiny-frames: done. The running kernel has it.")
    expect(panel.get_by_label("To run in a terminal").first).to_have_text(command)
    page.picture("installed")
    panel.get_by_role("heading", name="Lock", exact=True).click()
    expect(panel).to_contain_text("jupyter overlay lock train.py")
    page.picture("lock")
    page.save("Save")
    assert "tiny-frames" not in file.read_text(encoding="utf-8"), "nothing was written to be dropped"

    overlay(lab_environment, "add", str(file), "tiny-frames")
    page.page.reload()
    declared = page.show_panel().get_by_role("list", name="Declared packages")
    expect(declared).to_contain_text("tiny-frames1.0")
    expect(declared).to_contain_text("in a # /// script cell")
    page.picture("declared")


def test_where_jupytext_is_told_to_keep_it_the_panel_writes_it(lab: JupyterServer, tab: Open) -> None:
    """With torch_env in the YAML header of a script, jupytext sets the filter that keeps it."""
    file = lab.root / "kept.py"
    header = "#     name: torch-cpu\n#   torch_env:\n#     accelerator: cpu\n"
    file.write_text(TEXT.replace("#     name: torch-cpu\n", header))
    page = tab(lab, lab=False)
    page.open("kept.py", factory="Notebook")
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    page.run(0)
    page.show_panel()
    page.button("Add tiny-frames", within=page.add("tiny-frames")).click()
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-frames1.0")
    page.save("Save")
    assert "#     - tiny-frames\n" in file.read_text(encoding="utf-8")
