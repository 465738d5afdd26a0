"""Two people in one notebook, with jupyter-collaboration, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kernel_provisioner.uv.discovery import uv_path
from tests.support.browser import RUNS_WITHIN
from tests.support.notebooks import write_notebook
from tests.support.server import jupyter_server
from tests.support.waiting import patient, wait_for

from .conftest import REPOSITORY, Open, overlay

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

CPU = {"accelerator": "cpu"}
INSTALLS_WITHIN = patient(300)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with JupyterLab, jupyter-collaboration and this project."""
    venv = tmp_path_factory.mktemp("together") / "venv"
    python = venv / "bin/python"
    wanted = ["jupyterlab", "jupyter-collaboration", "--editable", str(REPOSITORY)]
    for words in (
        ["venv", "--quiet", str(venv)],
        ["pip", "install", "--quiet", "--python", str(python), *wanted],
    ):
        subprocess.run([uv_path(), *words], check=True, timeout=INSTALLS_WITHIN)
    return python


def test_what_one_adds_the_other_has_and_neither_loses_a_word(
    together: Path, lab_environment: dict[str, str], tab: Open
) -> None:
    """Both panels tell of both packages; what is typed meanwhile stays, and the file has it all."""
    work = Path(lab_environment["XDG_CACHE_HOME"], "together")
    file = write_notebook(
        work / "shared.ipynb", "1", "import tiny_plot; 'there'", torch_env=CPU, kernel="torch-cpu"
    )
    with jupyter_server(work, lab_environment, app="jupyterlab", python=str(together)) as server:
        ann, ben = tab(server, who="-ann"), tab(server, who="-ben")
        for page in (ann, ben):
            page.open("shared.ipynb")
            expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        ann.run(0)
        for page in (ann, ben):
            page.show_panel()
        packages = [page.panel.get_by_role("list", name="Declared packages") for page in (ann, ben)]
        card = ann.add("tiny-plot")
        ben.write(0, "2 + 2  # said Ben")
        ann.button("Add tiny-plot", within=card).click()
        for listed in packages:
            expect(listed).to_contain_text("tiny-plot1.0")
        assert ben.run(1) == "'there'", "it is one kernel"
        ann.write(1, "3 + 3  # said Ann")
        ben.button("Add tiny-frames", within=ben.add("tiny-frames")).click()
        for page, listed in zip((ann, ben), packages, strict=True):
            expect(listed).to_contain_text("tiny-frames1.0")
            expect(listed).to_contain_text("tiny-plot1.0")
            expect(page.cell(0)).to_contain_text("2 + 2  # said Ben")
            expect(page.cell(1)).to_contain_text("3 + 3  # said Ann")
            page.picture("both")
        both = {**CPU, "extras": ["tiny-plot", "tiny-frames"]}
        wait_for(lambda: ann.declared("shared.ipynb") == both, "the shared notebook to be saved")
        saved = file.read_text(encoding="utf-8")
        assert "2 + 2  # said Ben" in saved
        assert "3 + 3  # said Ann" in saved
        assert saved.count('"torch_env"') == 1


def test_a_change_from_a_terminal_reaches_both_and_neither_loses_a_word(
    together: Path, lab_environment: dict[str, str], tab: Open
) -> None:
    """``jupyter overlay add`` changes the notebook that they share; the file has all of it once."""
    work = Path(lab_environment["XDG_CACHE_HOME"], "terminal")
    file = write_notebook(work / "both.ipynb", "1", "2", torch_env=CPU, kernel="torch-cpu")
    with jupyter_server(work, lab_environment, app="jupyterlab", python=str(together)) as server:
        ann, ben = tab(server, who="-ann"), tab(server, who="-ben")
        for page in (ann, ben):
            page.open("both.ipynb")
            expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        ann.write(0, "'said Ann'")
        ben.write(1, "'said Ben'")
        told = overlay(lab_environment, "add", str(file), "tiny-plot", "tiny-frames")
        assert told[0] == "both.ipynb now declares tiny-plot, tiny-frames"
        assert told[-1] == f"It is open in {server.url}, and was changed and saved there."
        both = {**CPU, "extras": ["tiny-plot", "tiny-frames"]}
        wait_for(lambda: ann.declared("both.ipynb") == both, "the shared notebook to be saved")
        wait_for(lambda: "said Ben" in file.read_text(encoding="utf-8"), "what Ben wrote to be saved")
        assert "said Ann" in file.read_text(encoding="utf-8")
        assert file.read_text(encoding="utf-8").count('"torch_env"') == 1
        for page in (ann, ben):
            listed = page.show_panel().get_by_role("list", name="Declared packages")
            expect(listed).to_contain_text("tiny-plot")
            expect(page.page.get_by_role("dialog")).to_have_count(0)
