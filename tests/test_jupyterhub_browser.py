"""JupyterHub as its users see it: log in, choose a kernel, run. Pictures: ``test-artefacts/hub``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import APPEARS_WITHIN, RUNS_WITHIN, Frontend, chromium
from tests.support.hub import PASSWORD, STARTS_WITHIN, Hub
from tests.support.labpage import LabPage
from tests.support.waiting import patient
from tests.support.wheels import build_wheel

NEWS = "@jupyterlab/apputils-extension:notification"
pytestmark = [
    pytest.mark.system,
    pytest.mark.root, pytest.mark.browser, pytest.mark.torch, pytest.mark.network, pytest.mark.slow,
    pytest.mark.timeout(patient(600)),
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium; first, so that nothing else is made where there is none."""
    with chromium() as running:
        yield running


@pytest.fixture
def pictures(pytestconfig: pytest.Config) -> Path:
    """The directory of the screenshots, empty at first."""
    directory = pytestconfig.rootpath / "test-artefacts" / "hub"
    shutil.rmtree(directory, ignore_errors=True)
    return directory


def test_a_user_logs_in_chooses_a_kernel_and_runs(
    browser: Browser, pictures: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The hub's page, JupyterLab's launcher, a new notebook: torch is there, and a package is added."""
    hub: Hub = request.getfixturevalue("jupyterhub")
    *_, user = hub.users
    hub.index.publish(build_wheel(tmp_path, "lantern", "2.1"))
    _want_no_news(hub)
    page = Frontend(browser, hub.address(user), pictures, "hub")
    try:
        page.page.goto(hub.api.url)
        page.picture("login")
        page.page.get_by_label("Username").fill(user.name)
        page.page.get_by_label("Password").fill("not this one")
        page.page.get_by_role("button", name="Sign in").click()
        expect(page.page.get_by_text("Invalid username or password")).to_be_visible()
        _log_in(page, user.name)
        assert f"/user/{user.name}/lab" in page.page.url
        expect(page.launcher_card("torch-cpu (shared)")).to_be_visible()
        page.picture("launcher")

        page.new_notebook("torch-cpu (shared)")
        assert "Added lantern 2.1" in page.run(0, "%overlay add lantern")
        assert '"lantern"' in page.source(1), "the notebook says so from now on"
        page.picture("added")
        code = "import getpass, lantern, torch\n"
        code += "print(getpass.getuser(), torch.__version__, lantern.__version__)"
        page.write(1, code)
        name, torch, lantern = page.run(1).split()
        assert (name, lantern) == (user.name, "2.1")
        assert torch.endswith("+cpu")
        page.picture("run")
    finally:
        page.close()


def test_a_missing_module_and_the_panel_through_the_hubs_proxy(
    browser: Browser, pictures: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One click adds the package and runs the cell again; the panel tells of it, and adds one more."""
    hub: Hub = request.getfixturevalue("jupyterhub")
    user, *_ = hub.users
    for name in ("beacon", "buoy"):
        hub.index.publish(build_wheel(tmp_path, name, "1.0"))
    _want_no_news(hub)
    page = LabPage(browser, hub.address(user), pictures, "hub-panel")
    try:
        page.page.goto(hub.api.url)
        _log_in(page, user.name)
        page.new_notebook("torch-cpu (shared)")
        assert "beacon is not in this notebook's environment" in page.run(
            0, "import beacon; beacon.__version__"
        )
        page.picture("missing")
        page.button("Add beacon and run again").click()
        expect(page.output(0)).to_contain_text("'1.0'", timeout=RUNS_WITHIN * 1000)
        page.show_panel()
        declared = page.panel.get_by_role("list", name="Declared packages")
        expect(declared).to_contain_text("beacon1.0")
        page.button("Add buoy", within=page.add("buoy")).click()
        expect(declared).to_contain_text("buoy1.0")
        page.picture("panel")
        assert {"POST environment", "POST changes"} <= set(page.asked)
    finally:
        page.close()


def _want_no_news(hub: Hub) -> None:
    """Let JupyterLab not ask whether to fetch news: it does so over the page."""
    lab = hub.installation.prefix / "share/jupyter/lab/settings/overrides.json"
    lab.parent.mkdir(parents=True, exist_ok=True)
    lab.write_text(f'{{"{NEWS}": {{"fetchNews": "false", "checkForUpdates": false}}}}')


def _log_in(page: Frontend, name: str) -> None:
    """Sign in on the hub's page, and wait for JupyterLab."""
    page.page.get_by_label("Username").fill(name)
    page.page.get_by_label("Password").fill(PASSWORD)
    page.page.get_by_role("button", name="Sign in").click()
    page.page.locator(".jp-Launcher").wait_for(timeout=(STARTS_WITHIN + APPEARS_WITHIN) * 1000)
