"""A notebook's packages, changed one by one: versions, extras, pins, what was added by hand, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

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
