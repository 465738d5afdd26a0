"""JupyterHub as its users see it: log in, choose a kernel, run. Pictures: ``test-artefacts/hub``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import APPEARS_WITHIN, Frontend, chromium
from tests.support.hub import PASSWORD, STARTS_WITHIN, Hub
from tests.support.wheels import build_wheel

NEWS = "@jupyterlab/apputils-extension:notification"
pytestmark = [
    pytest.mark.root, pytest.mark.browser, pytest.mark.torch, pytest.mark.network, pytest.mark.slow,
    pytest.mark.timeout(600),
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
    lab = hub.installation.prefix / "share/jupyter/lab/settings/overrides.json"
    lab.parent.mkdir(parents=True, exist_ok=True)
    lab.write_text(f'{{"{NEWS}": {{"fetchNews": "false", "checkForUpdates": false}}}}')  # or Lab asks

    page = Frontend(browser, hub.api, pictures, "hub")
    try:
        page.page.goto(hub.api.url)
        page.picture("login")
        page.page.get_by_label("Username").fill(user.name)
        page.page.get_by_label("Password").fill("not this one")
        page.page.get_by_role("button", name="Sign in").click()
        expect(page.page.get_by_text("Invalid username or password")).to_be_visible()
        page.page.get_by_label("Username").fill(user.name)
        page.page.get_by_label("Password").fill(PASSWORD)
        page.page.get_by_role("button", name="Sign in").click()
        page.page.locator(".jp-Launcher").wait_for(timeout=(STARTS_WITHIN + APPEARS_WITHIN) * 1000)
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
