"""The pictures of the documentation, made by doing what they show.

With ``KERNEL_PROVISIONER_KEEP_PICTURES=1`` they are written into docs/pictures.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.support.browser import RUNS_WITHIN
from tests.support.labpage import LabPage
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer

from .conftest import REPOSITORY, Open

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

PICTURES = REPOSITORY / "docs/pictures"
KEEPS = bool(os.environ.get("KERNEL_PROVISIONER_KEEP_PICTURES"))
SIZE: ViewportSize = {"width": 1080, "height": 560}
CELL = "import torch, humanize\n\nhumanize.naturalsize(torch.zeros(1024, 1024).nbytes)"


class Film:
    """Pictures of a page, one after another, as one animated picture."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._taken: list[tuple[bytes, int]] = []

    def take(self, milliseconds: int) -> None:
        """One picture, shown for so long."""
        self._taken.append((self._page.screenshot(), milliseconds))

    def keep(self, path: Path) -> None:
        """Write the animation, in few colours."""
        from PIL import Image  # for who keeps pictures

        images = [
            Image.open(io.BytesIO(data)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
            for data, _ in self._taken
        ]
        times = [time for _, time in self._taken]
        images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True)


def test_a_missing_package_is_one_click_away(lab: JupyterServer, tab: Open) -> None:
    """Run a cell, click under its error, and the cell has what it imports; the panel tells of it."""
    write_notebook(lab.root / "notes.ipynb", CELL, kernel="torch-cpu")
    page = tab(lab)
    page.open("notes.ipynb")
    page.page.keyboard.press("Control+b")
    page.page.set_viewport_size(SIZE)
    expect(page.chip).to_be_visible()
    film = Film(page.page)
    film.take(1500)
    assert "humanize is not in this notebook's environment" in page.run(0)
    again = page.button("Add humanize and run again")
    again.scroll_into_view_if_needed()
    film.take(2500)
    again.hover()
    film.take(800)
    again.click()
    expect(page.output(0)).to_contain_text("Adding humanize")
    film.take(900)
    expect(page.output(0)).to_contain_text("'4.2 MB'", timeout=RUNS_WITHIN * 1000)
    film.take(1800)
    page.show_panel()
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("humanize")
    film.take(3500)
    _keep(page, "panel")
    if KEEPS:
        film.keep(PICTURES / "add.gif")
    card = page.add("seaborn>=0.13")
    expect(card).to_contain_text("seaborn")
    _keep(page, "preview")


def _keep(page: LabPage, what: str) -> None:
    taken = page.picture(what)
    if KEEPS:
        shutil.copyfile(taken, PICTURES / f"{what}.png")
