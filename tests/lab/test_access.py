"""The panel for everybody: themes, a narrow panel, the keyboard, and what axe-core finds."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.browser import RUNS_WITHIN
from tests.support.labpage import LabPage
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

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")


def test_no_theme_shuts_anybody_out(lab: JupyterServer, tab: Open) -> None:
    """Everything unfolded, with an error and a doubtful name: axe-core finds nothing serious.

    Nor does it in any state that these tests keep a picture of.
    """
    extras = {"accelerator": "cpu", "extras": ["tiny-plot", "numpyy>9"]}
    write_notebook(lab.root / "themes.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("themes.ipynb")
    expect(page.chip).to_have_text("Build failed", timeout=RUNS_WITHIN * 1000)
    panel = page.show_panel()
    expect(panel.get_by_text("Is numpy meant?")).to_be_visible()
    for section in ("Lock", "Disk", "Log"):
        panel.get_by_role("heading", name=section, exact=True).click()
    page.button("Change the versions of tiny-plot", within=panel).click()
    expect(panel.get_by_label("Which versions of tiny-plot")).to_be_focused()
    expect(panel.get_by_text("Looking up its versions")).to_have_count(0)
    for theme in THEMES:
        page.theme(theme)
        page.picture(theme.rpartition(" ")[2].lower())
    assert panel.evaluate("node => node.scrollWidth <= node.clientWidth"), "at its narrowest all of it shows"
    page.button("Use numpy instead", within=panel).click()
    card = page.card("Use numpy instead of numpyy")
    page.picture("instead")
    page.button("Use numpy instead of numpyy", within=card).click()
    expect(panel).to_contain_text("A restart adds tiny-plot, removes numpyy.")


def test_tab_goes_from_top_to_bottom_and_out_again(lab: JupyterServer, tab: Open) -> None:
    """All that can be pressed is reached once, in the order of reading, and nothing holds the focus."""
    extras = {"accelerator": "cpu", "extras": ["tiny-plot"]}
    write_notebook(lab.root / "order.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("order.ipynb")
    page.run(0)
    panel = page.show_panel()
    expect(panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot1.0")
    _command(page, "Torch: Show Environment")
    expect(panel.locator("summary").first).to_be_focused()
    reached = []
    while place := panel.evaluate(PLACE_OF_FOCUS):
        reached.append(place)
        page.page.keyboard.press("Tab")
    assert len(reached) == panel.evaluate(FOCUSABLE), reached
    assert reached == sorted(reached), "down, and to the right in a line"
    _command(page, "Torch: Choose Accelerator")
    expect(panel.get_by_role("list", name="Bases on this machine")).to_be_in_viewport()


PLACE_OF_FOCUS = """panel => {
  const focused = document.activeElement;
  if (!panel.contains(focused)) return null;
  const { top, bottom, left } = focused.getBoundingClientRect();
  return [Math.round(((top + bottom) / 2 + panel.scrollTop) / 8), Math.round(left)];
}"""
FOCUSABLE = """panel => [...panel.querySelectorAll('summary, button, input, select, a, [tabindex="0"]')]
  .filter(one => !one.disabled && one.checkVisibility()).length"""


def _command(page: LabPage, name: str) -> None:
    """Run a command from the palette, with the keyboard alone."""
    page.page.keyboard.press("Control+Shift+c")
    page.page.keyboard.type(name)
    page.page.keyboard.press("Enter")


def test_the_keyboard_gets_everywhere(lab: JupyterServer, tab: Open) -> None:
    """From the palette to the field, through the preview and back; Escape drops a proposal."""
    write_notebook(lab.root / "keys.ipynb", "1", torch_env={"accelerator": "cpu"}, kernel="torch-cpu")
    page = tab(lab)
    page.open("keys.ipynb")
    expect(page.chip).to_be_visible()
    _command(page, "Add Package to This")
    field = page.field
    expect(field).to_be_focused()
    page.page.keyboard.type("tiny-frames")
    page.page.keyboard.press("Enter")
    card = page.card("Add tiny-frames")
    expect(card).to_be_focused()
    page.page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(field).to_be_focused()
    page.page.keyboard.type("tiny-frames")
    page.page.keyboard.press("Enter")
    expect(page.card("Add tiny-frames")).to_be_focused()
    page.page.keyboard.press("Tab")
    expect(page.button("Add tiny-frames", within=card)).to_be_focused()
    page.page.keyboard.press("Enter")
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-frames")
