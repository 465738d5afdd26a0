"""What cells show of us, in a window of forty columns and in dark themes."""

from __future__ import annotations

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.support.browser import RUNS_WITHIN
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

OUTPUTS = ".jp-OutputArea-output"
NARROW: ViewportSize = {"width": 460, "height": 900}
"""Pixels of a window in which an output has about forty columns."""


def test_messages_read_well_in_a_narrow_window_and_a_dark_theme(lab: JupyterServer, tab: Open) -> None:
    """Nothing is cut off or has to be scrolled to, and all of it has contrast enough."""
    cpu = {"accelerator": "cpu", "extras": ["tiny-plot"]}
    write_notebook(
        lab.root / "narrow.ipynb", "1", "import tiny_frames", "%overlay", torch_env=cpu, kernel="torch-cpu"
    )
    broken = {**cpu, "extras": ["tiny-plot", "tiny-nowhere-of-a-very-long-name-indeed"]}
    write_notebook(lab.root / "broken.ipynb", "1", torch_env=broken, kernel="torch-cpu")
    for name, cells, last in (("narrow", 3, "overlay "), ("broken", 1, "there is no package called")):
        page = tab(lab, lab=False, who=f"-{name}")
        page.open(f"{name}.ipynb")
        page.theme("JupyterLab Dark")
        for number in range(cells - 1):
            page.run(number)  # to its end: one fails, and a kernel drops what waits behind it
        page.begin(cells - 1)
        expect(page.output(cells - 1)).to_contain_text(last, timeout=RUNS_WITHIN * 1000)
        page.page.set_viewport_size(NARROW)
        shown = page.page.locator(OUTPUTS)
        assert shown.count() >= cells
        for node in shown.all():
            assert node.evaluate("node => node.scrollWidth <= node.clientWidth + 1"), node.inner_text()
        page.picture("narrow")
        assert page.barriers(OUTPUTS) == []
