"""The chip in the toolbar and the panel: what they tell, and what a click changes."""

from __future__ import annotations

import re
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


def test_the_chip_names_torch_and_opens_the_panel(lab: JupyterServer, tab: Open) -> None:
    """Closed, the panel asks for nothing; open, it says what the notebook runs on and why."""
    write_notebook(
        lab.root / "chip.ipynb", "1", torch_env={**CPU, "extras": ["tiny-plot"]}, kernel="torch-cpu"
    )
    page = tab(lab)
    page.open("chip.ipynb")
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    page.run(0)
    page.picture("chip")
    page.wait_until_entered()
    page.run(0, "1 + 1")  # by its end, what the page still wanted to ask is asked
    assert set(page.asked) == {"POST environment"}
    page.asked.clear()
    page.run(0, "2 + 2")
    assert page.asked == [], "a cell that changes nothing costs nothing"
    panel = page.show_panel()
    expect(panel.get_by_text("the kernel that was picked; any machine runs it")).to_be_visible()
    expect(panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot1.0")
    page.picture("panel")
    page.hide_panel()
    page.asked.clear()
    page.run(0, "3 + 3")
    assert page.asked == [], "closed again, it costs nothing again"


def test_a_notebook_on_another_kernel_has_no_chip(lab: JupyterServer, tab: Open) -> None:
    """Nothing of ours is in its toolbar, and nothing is asked."""
    write_notebook(lab.root / "other.ipynb", "1", kernel="python3")
    page = tab(lab)
    page.open("other.ipynb")
    page.run(0)
    expect(page.chip).to_have_count(0)
    assert page.asked == []


def test_a_package_is_added_after_its_preview(lab: JupyterServer, tab: Open) -> None:
    """What would change is told; then the running kernel has it, and the notebook declares it."""
    write_notebook(
        lab.root / "add.ipynb", "1", "import tiny_frames; 'there'", torch_env=CPU, kernel="torch-cpu"
    )
    page = tab(lab)
    page.open("add.ipynb")
    page.run(0)
    page.show_panel()
    card = page.add("tiny-frames")
    expect(card).to_contain_text("1 added")
    assert page.declared("add.ipynb") == CPU, "nothing is done yet"
    page.picture("preview")
    page.button("Add tiny-frames", within=card).click()
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-frames")
    assert page.run(1) == "'there'"
    expect(page.chip).to_have_text("torch 2.13 · cpu")
    page.save()
    assert page.declared("add.ipynb") == {**CPU, "extras": ["tiny-frames"]}
    page.picture("added")
    page.button("Undo").click()
    expect(page.panel.get_by_role("heading", name="Added by hand")).to_be_visible()
    expect(page.panel).to_contain_text("A restart removes tiny-frames.")


def test_before_it_is_added_a_package_is_looked_up(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """What it would replace of the base is told, a slip is answered, known names are offered."""
    tiny_index.publish(build_wheel(lab_home / "wheels", "tiny-old", requires=["filelock<4"]))
    write_notebook(lab.root / "look.ipynb", "1", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("look.ipynb")
    page.show_panel()
    card = page.add("tiny-old")
    expect(card).to_contain_text("1 added, 1 of the base replaced")
    expect(card).to_contain_text(re.compile(r"filelock 3\.\d+.* in place of the base's 4\.\d+"))
    page.picture("replaced")
    page.button("Cancel", within=card).click()
    field = page.field
    field.fill("transfomers")
    field.press("Enter")
    wrong = page.panel.get_by_role("group", name="Add transfomers")
    expect(wrong.get_by_role("alert")).to_contain_text("did you mean transformers?")
    page.picture("unknown")
    page.button("Use transformers", within=wrong).click()
    card = page.card("Use transformers instead of transfomers")
    expect(card).to_contain_text("added")
    page.button("Cancel", within=card).click()
    field.fill("filel")
    expect(page.page.locator("datalist option[value=filelock]")).to_have_count(1)


def test_a_package_that_was_just_added_is_removed_for_good(lab: JupyterServer, tab: Open) -> None:
    """It was kept from the addition; removed in the panel, no restart brings it back."""
    write_notebook(lab.root / "again.ipynb", "import tiny_frames; 'there'", torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("again.ipynb")
    page.run(0, "1")
    page.show_panel()
    page.button("Add tiny-frames", within=page.add("tiny-frames")).click()
    page.button("Remove tiny-frames", within=page.panel).click()
    card = page.card("Remove tiny-frames")
    expect(card).to_contain_text("1 removed")
    page.button("Remove tiny-frames", within=card).click()
    expect(page.panel).to_contain_text("A restart removes tiny-frames.")
    page.button("Restart now").click()
    expect(page.panel.get_by_text("A restart")).to_have_count(0)
    assert "ModuleNotFoundError" in page.run(0, "import tiny_frames")


def test_a_removed_package_goes_at_the_restart(lab: JupyterServer, tab: Open) -> None:
    """Until then the chip and the panel say so; "Restart now" saves and restarts."""
    extras = {**CPU, "extras": ["tiny-plot", "tiny-pins"]}
    write_notebook(lab.root / "remove.ipynb", "1", "import tiny_pins", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("remove.ipynb")
    page.run(0)
    page.show_panel()
    page.button("Remove tiny-pins", within=page.panel).click()
    card = page.card("Remove tiny-pins")
    expect(card).to_contain_text("1 removed")
    page.button("Remove tiny-pins", within=card).click()
    expect(page.chip).to_have_text("Restart to apply")
    expect(page.panel).to_contain_text("A restart removes tiny-pins.")
    page.picture("pending")
    page.button("Restart now").click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    assert page.declared("remove.ipynb") == {**CPU, "extras": ["tiny-plot"]}
    assert "ModuleNotFoundError" in page.run(1)


def test_one_package_or_all_are_upgraded_with_one_click(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """Or one alone. They are looked for when asked, and previewed; the running kernel has them."""
    extras = {**CPU, "extras": ["tiny-aged", "tiny-stale", "tiny-stiff"]}
    modules = "tiny_aged, tiny_stale, tiny_stiff"
    versions = f"import {modules}; [one.__version__ for one in ({modules})]"
    write_notebook(lab.root / "upgrade.ipynb", "1", versions, torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open("upgrade.ipynb")
    page.run(0)
    page.show_panel()
    page.button("Look for newer versions").click()
    expect(page.panel).to_contain_text("All are as new as this notebook lets them be.")
    for name in ("tiny-aged", "tiny-stale", "tiny-stiff"):
        tiny_index.publish(build_wheel(lab_home / "wheels", name, "2.0"))
    page.button("Look for newer versions").click()
    expect(page.panel).to_contain_text("3 newer versions")
    page.picture("newer")
    page.button("Upgrade tiny-stiff to 2.0").click()
    card = page.card("Upgrade tiny-stiff to 2.0")
    expect(card).to_contain_text("tiny-stiff 1.0 → 2.0")
    page.button("Upgrade tiny-stiff to 2.0", within=card).click()
    expect(page.panel).to_contain_text("2 newer versions")
    page.button("Upgrade all", within=page.panel).click()
    card = page.card("Upgrade all")
    expect(card).to_contain_text("2 upgraded")
    page.button("Upgrade all", within=card).click()
    expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-stale>=2.02.0")
    assert page.run(1) == "['2.0', '2.0', '2.0']"
    page.save()
    newest = ["tiny-aged>=2.0", "tiny-stale>=2.0", "tiny-stiff>=2.0"]
    assert page.declared("upgrade.ipynb") == {**CPU, "extras": newest}
    page.picture("upgraded")


def test_what_came_along_is_a_tree_that_unfolds(lab: JupyterServer, tab: Open) -> None:
    """Below what needs it, drawn only as far as somebody looks."""
    write_notebook(
        lab.root / "tree.ipynb", "1", torch_env={**CPU, "extras": ["tiny-tree"]}, kernel="torch-cpu"
    )
    page = tab(lab)
    page.open("tree.ipynb")
    page.run(0)
    panel = page.show_panel()
    more = panel.get_by_text("2 more came along")
    expect(more).to_be_visible()
    expect(panel.get_by_text("tiny-branch")).to_have_count(0)
    more.click()
    panel.locator(".jp-TorchOverlay-branch .jp-TorchOverlay-branch").get_by_text("tiny-tree").click()
    expect(panel.get_by_text("tiny-leaf")).to_have_count(0)
    panel.get_by_text("tiny-branch 1.0").click()
    expect(panel.get_by_text("tiny-leaf 1.0")).to_be_visible()
    page.picture("tree")


@pytest.mark.parametrize(
    ("wrong", "way_out", "then"),
    [
        ("tiny-pins>9", "Remove tiny-pins>9", "A restart adds tiny-plot, removes tiny-pins."),
        ("filelok>3", "Use filelock>3", "A restart adds tiny-plot, removes filelok."),
    ],
    ids=["removed", "corrected"],
)
def test_a_failed_build_is_mended_with_a_button(
    wrong: str, way_out: str, then: str, lab: JupyterServer, tab: Open
) -> None:
    """The reason is in the panel, and a button takes out what it names, or corrects it."""
    extras = {**CPU, "extras": ["tiny-plot", wrong]}
    name = f"mend-{way_out.split(maxsplit=1)[0]}.ipynb"
    write_notebook(lab.root / name, "import tiny_plot; 'there'", torch_env=extras, kernel="torch-cpu")
    page = tab(lab)
    page.open(name)
    expect(page.chip).to_have_text("Build failed", timeout=RUNS_WITHIN * 1000)
    page.show_panel()
    problem = page.panel.get_by_role("alert")
    expect(problem).to_contain_text(wrong.partition(">")[0])
    page.picture("failed")
    page.button(way_out, within=problem).click()
    expect(page.panel).to_contain_text(then)
    page.button("Restart now").click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    assert page.run(0).endswith("'there'")
    page.picture("mended")


def test_what_a_script_cell_declares_is_changed_in_that_cell(lab: JupyterServer, tab: Open) -> None:
    """A failure that names it leads to the cell: the panel writes into the metadata alone."""
    block = '# /// script\n# dependencies = ["tiny-plot", "tiny-pins>9"]\n# ///'
    others = ["1\n" * 30] * 3
    write_notebook(lab.root / "script.ipynb", *others, block, torch_env=CPU, kernel="torch-cpu")
    page = tab(lab)
    page.open("script.ipynb")
    expect(page.chip).to_have_text("Build failed", timeout=RUNS_WITHIN * 1000)
    page.show_panel()
    expect(page.panel.get_by_role("alert")).to_contain_text("tiny-pins")
    expect(page.button("Remove tiny-pins>9")).to_have_count(0)
    expect(page.panel).to_contain_text("tiny-pins>9 is declared in a # /// script cell. Remove it there")
    page.picture("failed")
    page.button("Go to the cell that declares tiny-pins").click()
    active = page.page.locator(".jp-Notebook-cell.jp-mod-active")
    expect(active).to_contain_text("# /// script")
    expect(active).to_be_in_viewport()
    page.picture("cell")
    page.write(3, block.replace(', "tiny-pins>9"', ""))
    page.begin(3)
    expect(page.panel).to_contain_text("A restart adds tiny-plot, removes tiny-pins.")
    page.button("Restart now").click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)


def test_a_build_that_takes_long_is_told_and_can_be_cancelled(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex
) -> None:
    """In a corner, in the status bar and in the panel; cancelled, a button starts it again."""
    tiny_index.misbehave("/simple/tiny-slow/", "wait")
    write_notebook(
        lab.root / "slow.ipynb", "1", torch_env={**CPU, "extras": ["tiny-slow"]}, kernel="torch-cpu"
    )
    page = tab(lab)
    page.open("slow.ipynb")
    expect(page.chip).to_have_text("Installing …")
    stays = page.page.locator(".jp-Toolbar-kernelName").bounding_box()
    page.write(0, "2 +")
    expect(page.page.locator(".jp-TorchOverlay-status")).to_contain_text("Resolving tiny-slow")
    toast = page.page.get_by_role("alert").filter(has_text="slow.ipynb: Resolving tiny-slow")
    expect(toast).to_be_visible()
    page.page.keyboard.type(" 2")
    assert page.source(0) == "2 + 2", "whatever comes up, the keyboard stays where it was"
    page.show_panel()
    page.picture("building")
    page.button("Cancel", within=toast).click()
    expect(page.chip).to_have_text("Build failed")
    expect(page.panel).to_contain_text("the build was cancelled")
    tiny_index.behave()
    page.picture("cancelled")
    page.button("Try again", within=page.panel).click()
    expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
    assert page.run(0).endswith("\n4")
    page.hide_panel()
    assert page.page.locator(".jp-Toolbar-kernelName").bounding_box() == stays, "nothing has moved"
