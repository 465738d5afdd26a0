"""JupyterLab and Notebook 7 with our extension, worked as a person works it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Request, Response, Route, expect

from .browser import LAST, RUNS_WITHIN, Frontend
from .server import JupyterServer
from .waiting import wait_for

_OURS = (
    ".jp-TorchOverlay-chip", ".jp-TorchOverlay-panel", ".jp-TorchOverlay-prompt", ".jp-TorchOverlay-status",
    ".jp-TorchOverlay-tile", ".jp-Dialog-body",
)  # fmt: skip
_NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def want_no_news(env: Mapping[str, str]) -> None:
    """Let JupyterLab not ask whether to fetch news: it does so over the page."""
    news = Path(env["JUPYTER_CONFIG_DIR"], _NEWS)
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')


class LabPage(Frontend):
    """A tab in which our extension shows; see ``Frontend``. ``asked`` are its requests to our server."""

    def __init__(self, browser: Browser, server: JupyterServer, *args: Any, **more: Any) -> None:
        super().__init__(browser, server, *args, **more)
        self.page.set_viewport_size({"width": 1400, "height": 900})
        self.server = server
        self.asked: list[str] = []
        self._told: list[Response] = []
        self.page.on("request", self._hear)
        self.page.on("response", self._keep)

    @property
    def chip(self) -> Locator:
        """The chip in the notebook's toolbar."""
        return self.page.locator(".jp-TorchOverlay-chip:visible")

    @property
    def panel(self) -> Locator:
        """The panel, shown or not."""
        return self.page.get_by_role("region", name="Environment", exact=True)

    @property
    def field(self) -> Locator:
        """Where a package to add is typed into the panel; other notebooks have theirs, hidden."""
        return self.panel.get_by_role("combobox", name="Package to add, with versions if you like")

    def show_panel(self) -> Locator:
        """Open the panel with a click on the chip, and wait for what it tells."""
        self.chip.click()
        expect(self.panel.get_by_role("heading", name="Packages")).to_be_visible()
        return self.panel

    def hide_panel(self) -> None:
        """Close the panel with a click on its tab."""
        self.page.get_by_role("tab", name="Environment: packages").click()
        expect(self.panel).to_be_hidden()

    def button(self, name: str, *, within: Locator | None = None) -> Locator:
        """A button by what it says."""
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def add(self, requirement: str) -> Locator:
        """Type a package into the panel and press Enter; the card that tells what would change."""
        self.field.fill(requirement)
        self.field.press("Enter")
        return self.card(f"Add {requirement}")

    def card(self, title: str) -> Locator:
        """A proposal in the panel, once it is known what it would change."""
        card = self.panel.get_by_role("group", name=title, exact=True)
        expect(card.get_by_role("button", name="Cancel")).to_be_visible(timeout=RUNS_WITHIN * 1000)
        expect(card.get_by_text("Looking up")).to_have_count(0, timeout=RUNS_WITHIN * 1000)
        return card

    def theme(self, name: str) -> None:
        """Choose a theme in the menu."""
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        menu = self.page.locator(".lm-Menu")
        menu.get_by_text("Theme", exact=True).hover()
        menu.get_by_text(name, exact=True).click()
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", name)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)  # it dims the page, and fades

    def picture(self, what: str) -> Path:
        """A screenshot of a state; axe-core finds nothing serious in what is ours of it."""
        taken = super().picture(what)
        shown = [part for part in _OURS if self.page.locator(f"{part}:visible").count()]
        if shown and what != LAST:
            assert self.barriers(*shown) == [], taken
        return taken

    def barriers(self, *selectors: str) -> list[str]:
        """What axe-core finds serious or critical in these parts of the page, each of which is there."""
        from axe_playwright_python.sync_playwright import Axe  # for this alone

        results = Axe().run(self.page, context={"include": [[selector] for selector in selectors]})
        return [
            f"{found['id']}: {node['html']} {node['failureSummary']}"
            for found in results.response["violations"]
            if found["impact"] in ("serious", "critical")
            for node in found["nodes"]
        ]

    def answer_late(self, path: str) -> None:
        """Answer the first question to the server at ``path`` once a second is there, as if it were busy."""
        asked: list[Route] = []

        def answer(route: Route) -> None:
            asked.append(route)
            if len(asked) == 2:
                asked[0].fulfill(response=asked[0].fetch())
            if len(asked) > 1:
                route.continue_()

        self.page.route(f"**/{path}*", answer)

    def go_offline(self) -> None:
        """Cut this tab off; the dialogs in which JupyterLab itself says so at its polls are closed."""
        dialog = self.page.get_by_role("dialog").filter(has_text="Server Connection Error")
        self.page.add_locator_handler(dialog, lambda: dialog.get_by_role("button", name="Close").click())
        self.page.context.set_offline(True)

    def wait_until_entered(self) -> None:
        """Wait until the page knows that its kernel has its packages: till then it asks after each cell."""
        wait_for(
            lambda: any((one.json()["running"] or {}).get("entered") for one in self._told),
            "the page knows that its kernel has its packages",
        )

    def declared(self, path: str) -> Any:
        """What the notebook file says under ``torch_env``, as the server reads it."""
        model = self.server.request("GET", f"api/contents/{path}")
        return model["content"]["metadata"].get("torch_env")

    def _hear(self, request: Request) -> None:
        _, found, path = request.url.partition("/torch-overlay/")
        if found:
            self.asked.append(f"{request.method} {path.partition('?')[0]}")

    def _keep(self, response: Response) -> None:
        if response.ok and response.url.partition("?")[0].endswith("/torch-overlay/environment"):
            self._told.append(response)
