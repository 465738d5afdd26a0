"""JupyterLab and Notebook 7 in headless Chromium, worked as a person works them: by what is on the screen."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from .parts import need
from .server import JupyterServer

APPEARS_WITHIN = 30.0
"""Seconds for what the page itself does: load, open a dialog, draw an output."""

RUNS_WITHIN = 90.0
"""Seconds for a cell to end: torch's import on a busy machine, and an overlay's build."""

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The system's Chromium; playwright's own download is not used."""
    return next(filter(None, map(shutil.which, _CHROMIUMS)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; where there is none the test is skipped, saying so."""
    path = find_chromium()
    need(path, "no Chromium on PATH; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, as tests in containers do; it only sees our server.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Frontend:
    """One browser tab on a running JupyterLab (``lab`` true) or Notebook 7.

    ``pictures`` is the directory of its screenshots, ``name`` the beginning of their names and
    the name of Lab's workspace, so that no two tabs restore each other's.
    """

    def __init__(
        self, browser: Browser, server: JupyterServer, pictures: Path, name: str, *, lab: bool = True
    ) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1100, "height": 700})
        self.page.set_default_timeout(APPEARS_WITHIN * 1000)
        self._server, self._pictures, self._name, self._lab = server, pictures, name, lab
        self._taken = 0

    def open(self, notebook: str) -> None:
        """Open a notebook by its path below the server's root, as from a bookmark."""
        place = f"lab/workspaces/{self._name}/tree" if self._lab else "notebooks"
        self.page.goto(f"{self._server.url}{place}/{notebook}?token={self._server.token}")
        self.cell(0).wait_for()

    def open_launcher(self) -> None:
        """Open JupyterLab with nothing in it."""
        self.page.goto(f"{self._server.url}lab/workspaces/{self._name}?token={self._server.token}")
        self.page.locator(".jp-Launcher").wait_for()

    def reload(self) -> None:
        """Load the page anew, as F5 does."""
        self.page.reload()
        self.cell(0).wait_for()

    def choose_kernel(self, display_name: str) -> None:
        """Pick a kernel in the notebook's kernel dialog, opened from the toolbar."""
        self.page.locator(".jp-Toolbar-kernelName").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("combobox").select_option(label=display_name)
        dialog.get_by_role("button", name="Select Kernel").click()
        expect(self.page.locator(".jp-Toolbar-kernelName")).to_contain_text(display_name)
        self.wait_until_idle()

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_role("menuitem", name=entry).first.click()

    def restart(self) -> None:
        """Restart the kernel through the menu, and confirm."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.get_by_role("dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        self.wait_until_idle()

    def interrupt(self) -> None:
        """Interrupt the kernel through the menu."""
        self.menu("Kernel", "Interrupt Kernel")

    def save(self) -> None:
        """Save the notebook, and wait until the tab shows no unsaved change."""
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".jp-mod-dirty")).to_have_count(0)

    def cell(self, number: int) -> Locator:
        """The cell at a place in the notebook, from 0."""
        return self.page.locator(".jp-Notebook-cell").nth(number)

    def output(self, number: int) -> Locator:
        """What a cell has put out, as one region."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def write(self, number: int, code: str) -> None:
        """Replace the text of a cell."""
        self.cell(number).get_by_role("textbox").first.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def begin(self, number: int) -> None:
        """Run a cell with Ctrl+Enter, and wait until it is on its way."""
        self.cell(number).get_by_role("textbox").first.click()
        self.page.keyboard.press("Control+Enter")

    def run(self, number: int, code: str | None = None) -> str:
        """Run a cell to its end; what it put out, as read on the screen."""
        if code is not None:
            self.write(number, code)
        self.begin(number)
        return self.ended(number)

    def ended(self, number: int) -> str:
        """Wait until a cell has ended; what it put out, as read on the screen."""
        expect(self._prompt(number)).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUNS_WITHIN * 1000)
        self.wait_until_idle()
        return "\n".join(self.output(number).all_inner_texts())

    def wait_until_idle(self) -> None:
        """Wait until the toolbar shows a kernel with nothing to do."""
        idle = self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        expect(idle).to_be_visible(timeout=RUNS_WITHIN * 1000)

    def picture(self, what: str) -> Path:
        """A screenshot of the tab, numbered in the order of the taking."""
        self._taken += 1
        path = self._pictures / f"{self._name}-{self._taken}-{what}.png"
        self.page.screenshot(path=path)
        return path

    def close(self) -> None:
        """Keep a last picture, which shows where a test stopped, and close the tab."""
        self.picture("end")
        self.page.close()

    def _prompt(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-InputPrompt")
