"""The panel's other sections: lock, disk and log; and the way out of what is wrong, or cannot be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay.store import Generation
from tests.support.browser import RUNS_WITHIN
from tests.support.index import LocalIndex
from tests.support.launches import followed
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer
from tests.support.wheels import build_wheel

from .conftest import Open

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

CPU = {"accelerator": "cpu"}


def test_a_lock_is_made_exported_upgraded_renewed_and_removed(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """Each click changes what the notebook carries, and the panel says what a restart then installs."""
    tiny_index.publish(build_wheel(lab_home / "wheels", "tiny-latch", "1.0"))
    extras = {**CPU, "extras": ["tiny-latch"]}
    write_notebook(lab.root / "lock.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("lock.ipynb")
    page.run(0)
    panel = page.show_panel()
    panel.get_by_role("heading", name="Lock", exact=True).click()
    page.button("Lock", within=panel).click()
    expect(panel.get_by_text("and 1 package.")).to_be_visible(timeout=RUNS_WITHIN * 1000)
    page.picture("locked")
    with page.page.expect_download() as download:
        page.button("Export", within=panel).click()
    assert download.value.suggested_filename == "pylock.lock.toml"
    exported = Path(download.value.path()).read_text(encoding="utf-8")
    assert '[[packages]]\nname = "tiny-latch"\nversion = "1.0"' in exported

    tiny_index.publish(build_wheel(lab_home / "wheels", "tiny-latch", "2.0"))
    page.button("Upgrade the lock", within=panel).click()
    expect(panel).to_contain_text("A restart installs the locked versions.", timeout=RUNS_WITHIN * 1000)
    page.save()
    assert _locked(page.declared("lock.ipynb")) == {"tiny-latch": "2.0"}
    page.button("Add tiny-leaf", within=page.add("tiny-leaf")).click()
    expect(panel.get_by_text("older than the packages")).to_be_visible()
    page.picture("stale")
    page.button("Lock again", within=panel).click()
    expect(panel.get_by_text("and 2 packages.")).to_be_visible(timeout=RUNS_WITHIN * 1000)
    page.button("Unlock", within=panel).click()
    expect(panel.get_by_text("Its versions are chosen at each new start.")).to_be_visible()
    page.save()
    assert page.declared("lock.ipynb") == {**CPU, "extras": ["tiny-latch", "tiny-leaf"]}


def _locked(torch_env: dict[str, dict[str, list[dict[str, str]]]]) -> dict[str, str]:
    return {one["name"]: one["version"] for one in torch_env["lock"]["packages"]}


def test_disk_is_told_and_freed_after_a_look_and_the_log_is_copied(
    lab: JupyterServer, tab: Open, lab_environment: dict[str, str]
) -> None:
    """Nothing is removed before it is confirmed, and then only what nobody needs."""
    extras = {**CPU, "extras": ["tiny-plot"]}
    for name in ("kept", "gone"):
        write_notebook(lab.root / f"{name}.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    with lab.session("gone.ipynb", "torch-cpu") as session:
        session.execute("import tiny_plot")
    overlays = Path(lab_environment["XDG_CACHE_HOME"], "torch-overlays")
    first = Generation(next(overlays.glob("gone-*/0001")))
    if first.is_provisional:  # the package may be in the store already
        followed(first)
    (lab.root / "gone.ipynb").unlink()
    page = tab(lab)
    page.open("kept.ipynb")
    page.run(0)
    panel = page.show_panel()
    panel.get_by_role("heading", name="Disk", exact=True).click()
    expect(
        panel.get_by_text(re.compile(r"of its own, [\d.]+ kB in links to the wheel store"))
    ).to_be_visible()
    page.button("Find unused environments", within=panel).click()
    unused = panel.get_by_role("group", name="Unused environments")
    expect(unused).to_contain_text("gone.ipynb")
    expect(unused).not_to_contain_text("kept.ipynb")
    page.picture("unused")
    assert list(overlays.glob("gone-*/0001")), "nothing is done yet"
    unused.get_by_role("button", name=re.compile(r"Remove \d+ \(")).click()
    expect(panel.get_by_text(re.compile(r"Removed \d+, .* freed"))).to_be_visible()
    assert list(overlays.glob("gone-*/0001")) == []
    assert list(overlays.glob(f"kept-*/0001/{layout.OVERLAY}"))
    page.picture("removed")

    panel.get_by_role("heading", name="Log", exact=True).click()
    log = panel.get_by_label("Log of the build")
    expect(log).to_contain_text("1 package added")
    page.button("Copy", within=panel).click()
    expect(panel.get_by_text("Copied", exact=True)).to_be_visible()
    page.picture("log")
    page.write(0, "")
    page.page.keyboard.press("Control+v")
    assert page.source(0).split() == log.inner_text().split()


def test_cut_off_the_panel_says_so_and_goes_on_by_itself(lab: JupyterServer, tab: Open) -> None:
    """What is known stays on the screen, a click is answered with the reason, nothing has to be reloaded."""
    extras = {**CPU, "extras": ["tiny-plot"]}
    write_notebook(lab.root / "offline.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("offline.ipynb")
    page.run(0)
    panel = page.show_panel()
    declared = panel.get_by_role("list", name="Declared packages")
    expect(declared).to_contain_text("tiny-plot1.0")
    page.go_offline()
    page.field.fill("tiny-frames")
    page.button("Add", within=panel).click()
    card = panel.get_by_role("group", name="Add tiny-frames")
    expect(card.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    expect(panel.get_by_text("The panel shows the last known state, and keeps trying.")).to_be_visible()
    expect(declared).to_contain_text("tiny-plot1.0")
    expect(page.chip).to_have_text("torch 2.13 · cpu")
    page.picture("offline")
    page.button("Close", within=card).click()
    page.page.context.set_offline(False)
    expect(panel.get_by_text("The server cannot be reached.")).to_have_count(0)
    page.button("Add tiny-frames", within=page.add("tiny-frames")).click()
    expect(declared).to_contain_text("tiny-frames1.0")


def test_what_the_server_refuses_is_told_and_tried_again(lab: JupyterServer, tab: Open) -> None:
    """That its extension is off is said only where nothing of ours has answered."""
    write_notebook(lab.root / "refused.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    asked = "**/torch-overlay/environment*"
    page.page.route(asked, lambda route: route.fulfill(status=404, json={"message": "No such file: x"}))
    page.open("refused.ipynb")
    page.page.get_by_role("tab", name="Environment: packages").click()
    told = page.panel.get_by_role("alert")
    expect(told).to_contain_text("No such file: x")
    page.picture("refused")
    page.page.unroute(asked)
    page.page.route(asked, lambda route: route.fulfill(status=404, body="<html>Not Found</html>"))
    page.button("Try again", within=told).click()
    expect(told).to_contain_text("its extension kernel_provisioner.server is off")
    page.page.unroute(asked)
    page.button("Try again", within=told).click()
    expect(page.panel.get_by_role("heading", name="Packages")).to_be_visible()


def test_what_is_not_understood_is_taken_out_with_a_button(lab: JupyterServer, tab: Open) -> None:
    """A text that is no package, then a wrong accelerator: each button takes out what the reason names."""
    extras = {"accelerator": "gpu", "extras": ["tiny-plot", "not a package"]}
    write_notebook(lab.root / "wrong.ipynb", "import tiny_plot; 'there'", torch_env=extras, kernel="torch")
    page = tab(lab)
    page.open("wrong.ipynb")
    expect(page.chip).to_have_text("Not understood")
    panel = page.show_panel()
    problem = panel.get_by_role("alert")
    expect(problem).to_contain_text("not a package")
    page.picture("extras")
    page.button('Remove entry 2 of "extras"', within=problem).click()
    expect(problem).to_contain_text("gpu")
    page.picture("accelerator")
    page.button('Remove "accelerator"', within=problem).click()
    expect(problem).to_have_count(0)
    page.picture("mended")
    page.button("Restart now").click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    assert page.run(0).endswith("'there'")
    assert page.declared("wrong.ipynb") == {"extras": ["tiny-plot"]}


def test_a_lock_that_nobody_can_install_is_removed_with_a_button(lab: JupyterServer, tab: Open) -> None:
    """The reason names the file that is missing; without the lock, versions are looked up again."""
    lock = {
        "lock-version": "1.0", "created-by": "a test", "requires-python": ">=3.11",
        "tool": {"torch-overlay": {
            "torch": "2.13.0", "extras": ["tiny-plot"], "exclude-newer": "", "base-provided": [],
        }},
        "packages": [{
            "name": "tiny-plot", "version": "9.9",
            "wheels": [{"name": "tiny_plot-9.9-py3-none-any.whl", "hashes": {"sha256": "0" * 64}}],
        }],
    }  # fmt: skip
    extras = {**CPU, "extras": ["tiny-plot"], "lock": lock}
    write_notebook(
        lab.root / "stuck.ipynb", "import tiny_plot; 'there'", torch_env=extras, kernel="torch-cpu"
    )
    page = tab(lab)
    page.open("stuck.ipynb")
    expect(page.chip).to_have_text("Build failed", timeout=RUNS_WITHIN * 1000)
    problem = page.show_panel().get_by_role("alert")
    page.picture("stuck")
    page.button("Remove the lock", within=problem).click()
    page.button("Restart now").click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    assert page.run(0).endswith("'there'")
