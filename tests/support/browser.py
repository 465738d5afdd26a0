"""JupyterLab and Notebook 7 in headless Chromium, worked as a person works them: by what is on the screen."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from playwright.sync_api import Browser, Locator, Page, Response, WebSocket, expect, sync_playwright

from .parts import need
from .server import JupyterServer
from .waiting import patient

APPEARS_WITHIN = patient(60.0)
"""Seconds for what the page itself does: load, open a dialog, draw an output."""

RUNS_WITHIN = patient(90.0)
"""Seconds for a cell to end: torch's import on a busy machine, and an overlay's build."""

LAST = "end"
"""The picture of a tab that is closed, whatever state it is in."""

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The system's Chromium; playwright's own download is not used."""
    return next(filter(None, map(shutil.which, _CHROMIUMS)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; where there is none the test is skipped, saying so."""
    path = find_chromium()
    need(path, "no Chromium on PATH; on Debian: apt install chromium")
    expect.set_options(timeout=APPEARS_WITHIN * 1000)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, as tests in containers do; it only sees our server.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def tab_name(test: str) -> str:
    """The name of a test as the name of its tab, which stands in file names and in Lab's address."""
    return re.sub(r"\W+", "-", test.removeprefix("test_")).strip("-")


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

    def open(self, notebook: str, *, factory: str = "") -> None:
        """Open a notebook by its path below the server's root, as from a bookmark.

        ``factory`` is what Notebook 7 opens it with: a script is a notebook with "Notebook" alone.
        """
        place = f"lab/workspaces/{self._name}/tree" if self._lab else "notebooks"
        how = f"&factory={quote(factory)}" if factory else ""
        with self._new_kernel(notebook):
            self.page.goto(f"{self._server.url}{place}/{notebook}?token={self._server.token}{how}")

    def open_launcher(self) -> None:
        """Open JupyterLab with nothing in it."""
        self.page.goto(f"{self._server.url}lab/workspaces/{self._name}?token={self._server.token}")
        self.page.locator(".jp-Launcher").wait_for()

    def launcher_card(self, display_name: str) -> Locator:
        """The launcher's card for a notebook with a kernel; consoles have theirs further down."""
        label = re.compile(f"^{re.escape(display_name)}$")
        return self.page.locator(".jp-LauncherCard").filter(has=self.page.get_by_text(label)).first

    def reload(self) -> None:
        """Load the page again, as F5 does, and wait until it is with its kernel again, busy or not."""
        with self._connection():
            self.page.reload()
        self.cell(0).wait_for()

    def new_notebook(self, display_name: str) -> None:
        """Make a notebook with a click in the launcher."""
        with self._new_kernel():
            self.launcher_card(display_name).click()

    def choose_kernel(self, display_name: str) -> None:
        """Pick a kernel in the notebook's kernel dialog, opened from the toolbar."""
        self.page.locator(".jp-Toolbar-kernelName").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("combobox").select_option(label=display_name)
        with self._new_kernel():
            dialog.get_by_role("button", name="Select Kernel").click()
        expect(self.page.locator(".jp-Toolbar-kernelName")).to_contain_text(display_name)

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_role("menuitem", name=entry).first.click()

    def palette(self, command: str) -> None:
        """Run a command of JupyterLab's palette."""
        self.page.keyboard.press("Control+Shift+c")
        field = self.page.get_by_placeholder("SEARCH", exact=True)
        field.fill(command)
        field.press("Enter")

    def restart(self) -> None:
        """Restart the kernel through the menu, and confirm."""
        self.menu("Kernel", "Restart Kernel…")
        with self._new_kernel():
            self.page.get_by_role("dialog").get_by_role("button", name="Confirm Kernel Restart").click()

    def interrupt(self) -> None:
        """Interrupt the kernel through the menu."""
        self.menu("Kernel", "Interrupt Kernel")

    def save(self, entry: str = "Save Notebook") -> None:
        """Save the notebook, and wait until the server has it, whatever a cell puts out meanwhile.

        ``entry`` is how the menu calls that: for a script not as for other notebooks.
        """
        with self.page.expect_response(_saves):
            self.menu("File", entry)

    def cell(self, number: int) -> Locator:
        """The cell at a place in the notebook, from 0."""
        return self.page.locator(".jp-Notebook-cell").nth(number)

    def output(self, number: int) -> Locator:
        """What a cell has put out, as one region."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def source(self, number: int) -> str:
        """The text of a cell."""
        return "\n".join(self.cell(number).locator(".cm-line").all_inner_texts())

    def write(self, number: int, code: str) -> None:
        """Replace the text of a cell."""
        self.cell(number).get_by_role("textbox").first.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def begin(self, number: int) -> None:
        """Run a cell through the menu: while a page loads, Lab moves the focus and loses key strokes."""
        self.cell(number).get_by_role("textbox").first.click()
        self.menu("Run", "Run Selected Cell and Do not Advance")

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
        drawn = self.output(number).locator(".jp-OutputArea-output").all_inner_texts()
        return "\n".join(text.strip("\n") for text in drawn)

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
        self.picture(LAST)
        self.page.close()

    def notebook_metadata(self) -> MetadataEditor:
        """Open Lab's editor for the metadata of the notebook, in the property inspector."""
        self.toggle_inspector()
        self.page.get_by_text("Advanced Tools").click()
        tool = self.page.locator(".jp-MetadataEditorTool")
        return MetadataEditor(tool.filter(has=self.page.get_by_text("Notebook metadata")))

    def toggle_inspector(self) -> None:
        """Open the property inspector, or close it: open, it pushes the kernel's name off the toolbar."""
        self.page.get_by_role("tab", name="Property Inspector").click()

    @contextlib.contextmanager
    def _new_kernel(self, notebook: str = "") -> Iterator[None]:
        """Do what starts a kernel, and wait until the page is connected to it and it has nothing to do.

        The toolbar alone will not tell: it shows the name of the kernel to come, and an idle one,
        and a cell that is run then is forgotten.
        """
        with self._connection(notebook):
            yield
        self.wait_until_idle()

    @contextlib.contextmanager
    def _connection(self, notebook: str = "") -> Iterator[None]:
        """Do what connects the page to its kernel, or to that of ``notebook``, and wait until it is.

        JupyterLab 4.2 connects to every kernel that runs, and to the notebook's own last.
        """
        notebook = notebook or _notebook_at(self.page.url)
        sessions = self._server.request("GET", "api/sessions")
        others = {it["kernel"]["id"] for it in sessions if it["path"] != notebook}
        with self.page.expect_websocket(lambda it: _kernel_of(it) not in {"", *others}):
            yield

    def _prompt(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-InputPrompt")


def _notebook_at(address: str) -> str:
    """The path below the server's root of the notebook that a page shows; empty where it shows none."""
    found = re.search(r"/(?:tree|notebooks)/([^?#]+)", address)
    return unquote(found[1]) if found else ""


def _kernel_of(socket: WebSocket) -> str:
    """The id of the kernel that a WebSocket leads to; empty for another one."""
    found = re.search(r"/api/kernels/([^/]+)/", socket.url)
    return found[1] if found else ""


class MetadataEditor:
    """Lab's JSON editor in ``tool``, a part of the property inspector."""

    def __init__(self, tool: Locator) -> None:
        self._tool = tool

    def text(self) -> str:
        """The JSON as it is shown."""
        return "\n".join(self._tool.locator(".cm-line").all_inner_texts())

    def commit(self, text: str) -> None:
        """Type other JSON in its place and press the tick."""
        self._tool.get_by_role("textbox").click()
        self._tool.page.keyboard.press("Control+a")
        self._tool.page.keyboard.insert_text(text)
        tick = self._tool.get_by_title("Commit changes to data")
        tick.click()
        expect(tick).to_be_hidden()


def _saves(response: Response) -> bool:
    """It answers the request that saves a notebook."""
    return response.request.method == "PUT" and "/api/contents/" in response.url and response.ok
