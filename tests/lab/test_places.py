"""The panel beside what else goes on: Notebook 7, a reload, other notebooks, a server that starts again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Response, expect

from tests.support.browser import RUNS_WITHIN
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.ports import free_port
from tests.support.server import JupyterServer, jupyter_server

from .conftest import Open

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

CPU = {"accelerator": "cpu"}


def test_notebook_7_has_it_all(lab: JupyterServer, tab: Open) -> None:
    """The chip, the panel and what they do; there is no status bar, and nobody misses it."""
    write_notebook(
        lab.root / "seven.ipynb", "1", "import tiny_plot; 'there'", torch_env=CPU, kernel="torch-cpu"
    )
    page = tab(lab, lab=False)
    page.open("seven.ipynb")
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    page.run(0)
    page.show_panel()
    card = page.add("tiny-plot")
    expect(card).to_contain_text("1 added")
    page.picture("preview")
    page.button("Add tiny-plot", within=card).click()
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot")
    assert page.run(1) == "'there'"
    page.picture("added")


def test_it_follows_the_current_notebook_and_outlives_a_reload_and_a_restarted_server(
    lab_environment: dict[str, str], tab: Open
) -> None:
    """Each notebook's own packages are shown; after both, those of the notebook in front.

    While there is no server the panel says so, and shows what it knew.
    """
    work = Path(lab_environment["XDG_CACHE_HOME"], "places")
    port, token = free_port(), "of-this-test-alone"
    with jupyter_server(work, lab_environment, app="jupyterlab", port=port, token=token) as server:
        for name, package in (("first", "tiny-plot"), ("second", "tiny-frames")):
            extras = {**CPU, "extras": [package]}
            write_notebook(work / f"{name}.ipynb", "1", torch_env=extras, kernel="torch-cpu")
        page = tab(server)
        page.open("first.ipynb")
        page.show_panel()
        declared = page.panel.get_by_role("list", name="Declared packages")
        expect(declared).to_contain_text("tiny-plot")
        page.page.locator(".jp-DirListing-item").filter(has_text="second.ipynb").dblclick()
        expect(page.panel.get_by_role("heading", name="second.ipynb")).to_be_visible()
        expect(declared).to_contain_text("tiny-frames")
        with page.page.expect_response(_keeps_the_layout):
            page.page.get_by_role("tab", name="first.ipynb").click()
        expect(declared).to_contain_text("tiny-plot")
        page.page.reload()
        expect(page.panel.get_by_role("heading", name="first.ipynb")).to_be_visible()
        expect(declared).to_contain_text("tiny-plot")
        page.picture("reloaded")
    gone = page.panel.get_by_role("status").filter(has_text="The server cannot be reached.")
    expect(gone).to_be_visible()
    expect(declared).to_contain_text("tiny-plot")
    page.picture("gone")
    with jupyter_server(work, lab_environment, app="jupyterlab", port=port, token=token):
        expect(gone).to_have_count(0)
        expect(declared).to_contain_text("tiny-plot1.0")
        page.picture("back")
        page.page.reload()
        expect(page.panel.get_by_role("heading", name="first.ipynb")).to_be_visible()
        expect(declared).to_contain_text("tiny-plot1.0")
        page.picture("restarted")


def test_it_speaks_the_language_of_jupyterlab(
    lab_environment: dict[str, str], tab: Open, tmp_path: Path
) -> None:
    """A language pack that has its words is all that it takes, as for any extension."""
    pack = tmp_path / "packs/one_pack"
    words = {"Packages": ["Pakete"], "Environment: %1. Show it": ["Umgebung: %1. Zeigen"]}
    catalog = {
        "": {"domain": "kernel_provisioner", "language": "de", "plural_forms": "nplurals=2; plural=(n != 1);"}
    }
    messages = pack / "locale/de_DE/LC_MESSAGES/kernel_provisioner.json"
    messages.parent.mkdir(parents=True)
    messages.write_text(json.dumps({**catalog, **words}))
    (pack / "__init__.py").touch()
    about = pack.parent / "one_pack-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: one-pack\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[jupyterlab.languagepack]\nde_DE = one_pack\n")
    plugin = "@jupyterlab/translation-extension/plugin.jupyterlab-settings"
    setting = Path(lab_environment["JUPYTER_CONFIG_DIR"], "lab/user-settings", plugin)
    setting.parent.mkdir(parents=True, exist_ok=True)
    setting.write_text('{"locale": "de_DE"}')
    work = Path(lab_environment["XDG_CACHE_HOME"], "languages")
    write_notebook(work / "german.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    env = {**lab_environment, "PYTHONPATH": str(pack.parent)}
    try:
        with jupyter_server(work, env, app="jupyterlab") as server:
            page = tab(server)
            page.open("german.ipynb")
            expect(page.chip).to_have_attribute("aria-label", "Umgebung: torch 2.13 · cpu. Zeigen")
            page.chip.click()
            expect(page.panel.get_by_role("heading", name="Pakete")).to_be_visible()
            page.picture("german")
    finally:
        setting.unlink()


def test_who_wants_to_be_asked_is_asked_before_anything_is_installed(
    lab: JupyterServer, lab_environment: dict[str, str], tab: Open
) -> None:
    """With a setting: no kernel starts before; declined, none does; what is installed is not asked about."""
    setting = Path(
        lab_environment["JUPYTER_CONFIG_DIR"], "lab/user-settings/kernel-provisioner/ask.jupyterlab-settings"
    )
    setting.parent.mkdir(parents=True, exist_ok=True)
    extras = {**CPU, "extras": ["tiny-plot", "numpyy"]}
    write_notebook(lab.root / "asked.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    write_notebook(lab.root / "plain.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    setting.write_text('{"askBeforeInstalling": true}')
    try:
        page = tab(lab)
        page.answer_late("torch-overlay/environment")  # the chip asks as well
        place = f"{lab.url}lab/workspaces/asked/tree"
        page.page.goto(f"{place}/asked.ipynb?token={lab.token}")
        dialog = page.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Install the packages of asked.ipynb?")
        expect(dialog).to_contain_text("numpyy is new to this machine. Is numpy meant?")
        page.picture("dialog")
        page.button("Open Without Kernel", within=dialog).click()
        expect(page.page.locator(".jp-Toolbar-kernelName")).to_contain_text("No Kernel")
        assert [one["path"] for one in lab.request("GET", "api/sessions")].count("asked.ipynb") == 0
        plain = tab(lab)
        plain.open("plain.ipynb")
        expect(plain.chip).to_have_text("torch 2.13 · cpu")
    finally:
        setting.unlink()


def test_opened_without_a_kernel_a_notebook_starts_one_on_request_and_is_not_asked_about_again(
    lab: JupyterServer, lab_environment: dict[str, str], tab: Open
) -> None:
    """Asked, too, where the server does not say what a start installs."""
    setting = Path(
        lab_environment["JUPYTER_CONFIG_DIR"], "lab/user-settings/kernel-provisioner/ask.jupyterlab-settings"
    )
    setting.parent.mkdir(parents=True, exist_ok=True)
    file = write_notebook(
        lab.root / "held.ipynb", "1", torch_env={**CPU, "extras": ["tiny-plot"]}, kernel="torch-cpu"
    )
    setting.write_text('{"askBeforeInstalling": true}')
    try:
        page = tab(lab)
        asked = "**/torch-overlay/environment*"
        page.page.route(asked, lambda route: route.fulfill(status=500, json={"message": "It is broken"}))
        page.page.goto(f"{lab.url}lab/workspaces/held/tree/held.ipynb?token={lab.token}")
        dialog = page.page.get_by_role("dialog")
        expect(dialog).to_contain_text("It is not known what its kernel would install:")
        expect(dialog).to_contain_text("It is broken")
        page.picture("not-known")
        page.button("Open Without Kernel", within=dialog).click()
        page.page.unroute(asked)
        expect(page.page.locator(".jp-Toolbar-kernelName")).to_contain_text("No Kernel")
        page.palette("Torch: Save and Restart Kernel to Apply Environment")
        expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        assert page.run(0).endswith("1")
        set_torch_env(file, {**CPU, "extras": ["tiny-plot", "tiny-frames"]})
        page.reload()
        expect(page.chip).to_have_text("Restart to apply")
        expect(dialog).to_have_count(0)
    finally:
        setting.unlink()


def test_the_launcher_tells_what_a_kernel_runs_on(lab: JupyterServer, tab: Open) -> None:
    """In a line under its name, with more on hover and for screen readers; other kernels stay as they are."""
    page = tab(lab)
    page.open_launcher()
    expect(page.launcher_card("torch-cpu (shared)")).to_contain_text("torch 2.13 · CPU")
    card = page.launcher_card("torch (shared)")
    expect(card).to_contain_text("torch · auto")
    shared = re.compile("packages of its own, on a torch that all share")
    expect(card).to_have_attribute("title", shared)
    expect(card).to_have_attribute("aria-description", shared)
    icons = [
        one.locator("img").get_attribute("src") for one in (card, page.launcher_card("torch-cpu (shared)"))
    ]
    assert len({page.page.request.get(urljoin(lab.url, str(icon))).body() for icon in icons}) == 2
    other = page.launcher_card("Python 3 (ipykernel)")
    expect(other).to_have_attribute("title", "Python 3 (ipykernel)")
    expect(other).to_have_text("Python 3 (ipykernel)")
    page.picture("launcher")
    assert page.asked == ["GET bases"], "for both sections at once"


def _keeps_the_layout(answer: Response) -> bool:
    return answer.request.method == "PUT" and "/api/workspaces/" in answer.url
