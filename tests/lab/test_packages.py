"""A notebook's packages, changed one by one: versions, extras, pins, what was added by hand, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import RUNS_WITHIN
from tests.support.index import LocalIndex
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


def test_versions_and_extras_are_chosen_pinned_and_taken_back(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """Each change is previewed; the kernel has what is chosen, and Undo brings back what was declared."""
    for version in ("1.0", "1.5", "2.0"):
        wheel = build_wheel(lab_home / "wheels", "tiny-kit", version, extras={"more": ["tiny-leaf"]})
        tiny_index.publish(wheel)
    extras = {**CPU, "extras": ["tiny-kit<2"]}
    code = "import tiny_kit, tiny_leaf; tiny_kit.__version__"
    write_notebook(lab.root / "versions.ipynb", "1", code, torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("versions.ipynb")
    page.run(0)
    panel = page.show_panel()
    declared = panel.get_by_role("list", name="Declared packages")
    expect(declared).to_contain_text("tiny-kit<21.5")

    page.button("Pin tiny-kit to 1.5", within=panel).click()
    card = page.card("Pin tiny-kit to 1.5")
    expect(card).to_contain_text("Nothing has to be installed")
    page.button("Pin tiny-kit to 1.5", within=card).click()
    expect(declared).to_contain_text("tiny-kit==1.5")
    page.picture("pinned")
    page.button("Undo").click()
    expect(declared).to_contain_text("tiny-kit<2")

    page.button("Change the versions of tiny-kit", within=panel).click()
    editor = panel.get_by_role("form", name="Versions of tiny-kit")
    editor.get_by_label("Which versions of tiny-kit").select_option("exactly")
    versions = editor.get_by_label("Version of tiny-kit")
    expect(versions.get_by_role("option")).to_have_text(["2.0", "1.5", "1.0"])
    versions.select_option("1.0")
    editor.get_by_label("more").check()
    page.picture("editor")
    page.button("Preview", within=editor).click()
    card = page.card("Declare tiny-kit[more]==1.0")
    expect(card).to_contain_text("1 added, 1 downgraded")
    expect(card).to_contain_text("tiny-kit 1.5 → 1.0")
    page.picture("downgrade")
    page.button("Declare tiny-kit[more]==1.0", within=card).click()
    expect(declared).to_contain_text("tiny-kit[more]==1.01.0")
    assert page.run(1) == "'1.0'"
    expect(panel.get_by_text("1 more came along")).to_be_visible()
    expect(panel.get_by_role("heading", name="Added by hand")).to_have_count(0)
    page.save()
    assert page.declared("versions.ipynb") == {**CPU, "extras": ["tiny-kit[more]==1.0"]}


def test_a_range_of_versions_stays_where_only_extras_are_chosen(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """What no single sign can say is a choice of its own, and is chosen at first."""
    wheel = build_wheel(lab_home / "wheels", "tiny-range", "1.5", extras={"more": ["tiny-leaf"]})
    tiny_index.publish(wheel)
    extras = {**CPU, "extras": ["tiny-range<2,>=1"]}
    write_notebook(lab.root / "range.ipynb", "1", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("range.ipynb")
    page.run(0)
    panel = page.show_panel()
    page.button("Change the versions of tiny-range", within=panel).click()
    editor = panel.get_by_role("form", name="Versions of tiny-range")
    chosen = editor.get_by_label("Which versions of tiny-range").locator("option:checked")
    expect(chosen).to_have_text("as declared (<2,>=1)")
    expect(page.button("Preview", within=editor)).to_be_disabled()
    editor.get_by_label("more").check()
    page.picture("editor")
    page.button("Preview", within=editor).click()
    title = "Declare tiny-range[more]<2,>=1"
    page.button(title, within=page.card(title)).click()
    expect(panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-range[more]<2,>=11.5")


def test_while_a_package_is_installed_nothing_else_is_begun_and_its_end_is_told(
    lab: JupyterServer, tab: Open
) -> None:
    """Though the panel was hidden, and another notebook was shown."""
    waits = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)"
    extras = {**CPU, "extras": ["tiny-pins"]}
    write_notebook(lab.root / "one.ipynb", "1", waits, torch_env=extras, kernel="torch-cpu")
    write_notebook(lab.root / "two.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("one.ipynb")
    page.run(0)
    panel = page.show_panel()
    card = page.add("tiny-plot")
    page.begin(1)
    page.button("Add tiny-plot", within=card).click()
    expect(card).to_contain_text("Installing in the running kernel …")
    expect(page.field).to_be_disabled()
    expect(page.button("Remove tiny-pins", within=panel)).to_be_disabled()
    page.picture("installing")
    page.page.locator(".jp-DirListing-item").filter(has_text="two.ipynb").dblclick()
    expect(panel.get_by_role("heading", name="two.ipynb")).to_be_visible()
    expect(page.field).to_be_enabled()
    page.hide_panel()
    (lab.root / "go").touch()
    page.page.get_by_role("tab", name="one.ipynb").click()
    page.show_panel()
    done = panel.get_by_text("Add tiny-plot: done. The running kernel has it.")
    expect(done).to_be_visible(timeout=RUNS_WITHIN * 1000)
    expect(panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot1.0")
    expect(page.button("Remove tiny-pins", within=panel)).to_be_enabled()
    page.picture("told")


def test_what_failed_is_looked_up_anew_where_it_is_proposed_again(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """The index has it meanwhile."""
    write_notebook(lab.root / "anew.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("anew.ipynb")
    page.run(0)
    page.show_panel()
    page.field.fill("tiny-late")
    page.field.press("Enter")
    card = page.panel.get_by_role("group", name="Add tiny-late")
    expect(card.get_by_role("alert")).to_contain_text("tiny-late")
    tiny_index.publish(build_wheel(lab_home / "wheels", "tiny-late"))
    expect(page.add("tiny-late")).to_contain_text("1 added")


def test_the_panel_follows_what_cells_install(lab: JupyterServer, tab: Open) -> None:
    """Nothing has to be clicked."""
    write_notebook(lab.root / "follow.ipynb", "1", "%pip install -q tiny-leaf", kernel="torch-cpu")
    page = tab(lab)
    page.open("follow.ipynb")
    page.run(0)
    page.wait_until_entered()
    panel = page.show_panel()
    expect(panel.get_by_text("This notebook declares no packages")).to_be_visible()
    page.run(1)
    expect(panel.get_by_role("list", name="Added by hand")).to_contain_text("tiny-leaf")


def test_what_was_added_by_hand_is_declared_or_removed(lab: JupyterServer, tab: Open) -> None:
    """What came along with it is not listed; what is removed is gone, now and after a restart."""
    install = "%pip install -q tiny-tree tiny-plot tiny-frames"
    write_notebook(lab.root / "hand.ipynb", install, "1", kernel="torch-cpu")
    page = tab(lab)
    page.open("hand.ipynb")
    page.run(0)
    panel = page.show_panel()
    by_hand = panel.get_by_role("list", name="Added by hand")
    expect(by_hand.get_by_role("listitem")).to_have_count(3)
    expect(panel.get_by_text("2 more came along")).to_be_visible()
    page.picture("by-hand")
    page.button("Declare tiny-tree", within=by_hand).click()
    page.button("Declare tiny-tree", within=page.card("Declare tiny-tree")).click()
    declared = panel.get_by_role("list", name="Declared packages")
    expect(declared).to_contain_text("tiny-tree1.0")
    for number, name in ((1, "tiny-plot"), (0, "tiny-frames")):
        page.button(f"Remove {name}", within=by_hand).click()
        card = page.card(f"Remove {name}")
        expect(card).to_contain_text(f"{name} 1.0 goes")
        page.picture("removing")
        page.button(f"Remove {name}", within=card).click()
        expect(by_hand.get_by_role("listitem")).to_have_count(number)
    page.button("Undo").click()
    expect(by_hand.get_by_role("listitem")).to_have_count(1)
    page.picture("undone")
    page.button("Remove tiny-frames", within=by_hand).click()
    page.button("Remove tiny-frames", within=page.card("Remove tiny-frames")).click()
    expect(by_hand).to_have_count(0)
    gone = "import importlib.util as u; [u.find_spec(n) for n in ('tiny_plot', 'tiny_frames')]"
    assert page.run(1, gone) == "[None, None]"
    page.save()
    page.restart()
    told, gone = page.run(1).splitlines()
    assert told.startswith("torch-cpu: tiny-tree 1.0 and 2 more added"), "and nothing is missed"
    assert gone == "[None, None]"
    assert page.declared("hand.ipynb") == {"extras": ["tiny-tree"]}
    page.picture("restarted")
