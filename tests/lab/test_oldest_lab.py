"""The oldest JupyterLab that the extension is for, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kernel_provisioner.uv.discovery import uv_path
from tests.support.browser import RUNS_WITHIN
from tests.support.notebooks import write_notebook
from tests.support.server import jupyter_server
from tests.support.waiting import patient

from .conftest import REPOSITORY, Open

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

OLDEST = ("jupyterlab==4.2.*", "notebook==7.2.*")
INSTALLS_WITHIN = patient(300)


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the oldest JupyterLab and this project."""
    venv = tmp_path_factory.mktemp("oldest") / "venv"
    python = venv / "bin/python"
    for words in (
        ["venv", "--quiet", str(venv)],
        ["pip", "install", "--quiet", "--python", str(python), *OLDEST, "--editable", str(REPOSITORY)],
    ):
        subprocess.run([uv_path(), *words], check=True, timeout=INSTALLS_WITHIN)
    return python


def test_jupyterlab_4_2_has_it_all(oldest: Path, lab_environment: dict[str, str], tab: Open) -> None:
    """A package is added in the panel, and one with a click under its error; Notebook 7.2 has the panel."""
    work = Path(lab_environment["XDG_CACHE_HOME"], "oldest")
    cpu = {"accelerator": "cpu"}
    for name in ("lab", "seven"):
        write_notebook(
            work / f"{name}.ipynb", "import tiny_plot; 'there'", "import tiny_frames; 'too'",
            torch_env=cpu, kernel="torch-cpu",
        )  # fmt: skip
    with jupyter_server(work, lab_environment, app="jupyterlab", python=str(oldest)) as server:
        page = tab(server)
        page.open("lab.ipynb")
        expect(page.chip).to_have_text("torch 2.13 · cpu", timeout=RUNS_WITHIN * 1000)
        page.run(0)
        page.button("Add tiny-plot and run again").click()
        expect(page.output(0).get_by_role("button")).to_have_count(0)  # the traceback has that text, too
        expect(page.output(0)).to_contain_text("'there'")
        page.show_panel()
        expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot1.0")
        page.button("Add tiny-frames", within=page.add("tiny-frames")).click()
        expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-frames1.0")
        expect(page.panel.get_by_role("list", name="Declared packages")).to_contain_text("tiny-plot1.0")
        assert page.run(1) == "'too'"
        page.picture("lab")
        seven = tab(server, lab=False)
        seven.open("seven.ipynb")
        seven.run(0)
        seven.show_panel()
        expect(seven.panel.get_by_role("list", name="Bases on this machine")).to_contain_text("in use")
        seven.picture("notebook")
