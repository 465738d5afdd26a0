"""Bases in the panel: none yet, one that is made there, and several of which some do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from kernel_provisioner.settings import CONFIG_NAME
from tests.support.bases import Workshop
from tests.support.browser import RUNS_WITHIN
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.rest import Rest
from tests.support.server import jupyter_server

from .conftest import Open

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.network, pytest.mark.slow]

RULES = "c.TorchPolicy.own_bases = False\nc.TorchPolicy.contact = 'help@lab.example'\n"


def test_without_a_base_one_is_made_in_the_panel_or_it_says_whom_to_ask(
    bare: Workshop, torches: LocalIndex, tab: Open
) -> None:
    """Two sentences, what the machine has, a button with progress; where the policy says no, the contact."""
    policy = Path(bare.env["JUPYTER_CONFIG_DIR"], f"{CONFIG_NAME}.py")
    policy.write_text(RULES)
    work = bare.home / "work"
    write_notebook(work / "first.ipynb", "import torch; torch.__version__", kernel="torch")
    with jupyter_server(work, bare.env, app="jupyterlab") as server:
        page = tab(server)
        page.open("first.ipynb")
        expect(page.chip).to_have_text("No torch fits")
        assert "fix: ask help@lab.example for a base: cpu" in page.run(0)
        page.show_panel()
        card = page.panel.get_by_role("group", name="No base yet")
        expect(card).to_contain_text("There is none yet.")
        expect(card).to_contain_text("Ask help@lab.example for a base for CPU.")
        expect(card).to_contain_text("This machine has no GPU that torch could use.")
        expect(card.get_by_role("button")).to_have_count(0)
        page.picture("whom-to-ask")
        refused = Rest(server).task("bases", {"tag": "cpu"})
        assert refused["error"]["what"] == "users cannot create or adopt bases on this system"

        policy.unlink()
        page.page.reload()
        make = page.button("Make a base for CPU", within=page.panel)
        expect(make).to_be_visible()
        page.picture("no-base")
        torches.misbehave("/whl/cpu/torch/", "wait")
        make.click()
        expect(page.panel.get_by_role("status").filter(has_text="torch")).to_be_visible()
        page.picture("making")
        torches.behave()
        expect(page.chip).to_have_text("Restart to apply", timeout=RUNS_WITHIN * 1000)
        expect(page.panel).to_contain_text("A restart runs on torch 2.13 · cpu.")
        page.picture("made")
        page.button("Restart now").click()
        expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        assert page.run(0) == "'2.13.0+cpu'"


def test_bases_that_do_not_fit_are_greyed_with_why_and_another_is_a_click_away(
    bare: Workshop, tab: Open
) -> None:
    """What a click changes is written into the notebook; a restart then runs on that base."""
    for tag, version in (("cpu", "2.6.0"), ("cpu", "2.13.0"), ("cu126", ""), ("rocm6.2", "")):
        bare.create(tag, torch=version)
    work = bare.home / "work"
    write_notebook(work / "pick.ipynb", "import torch; torch.__version__", kernel="torch")
    with jupyter_server(work, bare.env, app="jupyterlab") as server:
        page = tab(server)
        page.open("pick.ipynb")
        assert page.run(0) == "'2.13.0+cpu'"
        bases = page.show_panel().get_by_role("list", name="Bases on this machine").get_by_role("listitem")
        expect(bases).to_have_count(4)
        expect(bases.filter(has_text="torch 2.13 · cpu")).to_contain_text("in use")
        for name, why in (("cu126", "no usable NVIDIA GPU was found"), ("rocm6.2", "no usable AMD GPU")):
            unfit = bases.filter(has_text=f"torch 2.6 · {name}")
            expect(unfit).to_contain_text(why)
            expect(page.button(f"Use torch 2.6 · {name}", within=unfit)).to_be_disabled()
        page.picture("several")
        page.button("Use torch 2.6 · cpu", within=page.panel).click()
        expect(page.panel).to_contain_text("A restart runs on torch 2.6 · cpu.")
        page.button("Restart now").click()
        expect(page.chip).to_have_text("torch 2.6 · cpu", timeout=RUNS_WITHIN * 1000)
        assert page.run(0).endswith("\n'2.6.0+cpu'")
        assert page.declared("pick.ipynb") == {"accelerator": "cpu", "torch": "==2.6.0"}
        page.panel.get_by_label("Accelerator").select_option("cuda")
        expect(page.chip).to_have_text("No torch fits")
        problem = page.panel.get_by_role("alert")
        expect(problem).to_contain_text("no registered base fits")
        page.picture("none-fits")
        nearest = problem.get_by_role("button", name="Use cpu-torch")
        expect(nearest).to_have_text(["Use cpu-torch2.6.0", "Use cpu-torch2.13.0"])
        nearest.last.click()
        expect(problem).to_have_count(0)
        expect(page.panel).to_contain_text("A restart runs on torch 2.13 · cpu.")
        page.save()
        assert page.declared("pick.ipynb") == {"accelerator": "cpu", "torch": "==2.13.0"}


def test_a_base_that_takes_another_kernel_asks_before_it_ends_the_running_one(
    bare: Workshop, tab: Open
) -> None:
    """Called off, nothing changes; where the notebook cannot be saved, that is told."""
    for tag in ("cpu", "cu126"):
        bare.create(tag)
    work = bare.home / "work"
    write_notebook(work / "ends.ipynb", "import torch; torch.__version__", kernel="torch-cu126")
    with jupyter_server(work, bare.env, app="jupyterlab") as server:
        page = tab(server)
        page.open("ends.ipynb")
        expect(page.chip).to_have_text("torch 2.6 · cu126")
        name = page.page.locator(".jp-Toolbar-kernelName")
        use = page.button("Use torch 2.13 · cpu", within=page.show_panel())
        use.click()
        dialog = page.page.get_by_role("dialog")
        expect(dialog).to_contain_text("starts torch-cpu. All variables are lost.")
        page.picture("asked")
        page.button("Cancel", within=dialog).click()
        expect(dialog).to_have_count(0)
        expect(name).to_contain_text("torch-cu126")

        contents = "**/api/contents/ends.ipynb*"
        page.page.route(contents, lambda route: route.abort() if _writes(route) else route.continue_())
        use.click()
        page.button("Change Kernel", within=dialog).click()
        dialog.filter(has_text="File Save Error").get_by_role("button").last.click()
        expect(page.panel.get_by_role("alert")).to_be_visible()
        page.picture("not-saved")
        page.page.unroute(contents)
        use.click()
        page.button("Change Kernel", within=dialog).click()
        expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        assert page.run(0).endswith("'2.13.0+cpu'")


def _writes(route: Route) -> bool:
    return route.request.method == "PUT"
