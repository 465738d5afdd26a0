"""Text notebooks in the programs that open and run them: their declarations count as any notebook's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import printed_in
from tests.support.runners import run_well
from tests.support.server import JupyterServer, jupyter_server

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

WHERE = "import einops, torch; print(einops.__file__, torch.__file__)"
BLOCK = '# /// script\n# dependencies = ["einops"]\n# ///'
KERNEL = "kernelspec:\n  display_name: torch\n  name: torch-cpu\n"
COMMENTED = "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: torch\n#     name: torch-cpu\n"

PERCENT = f"{COMMENTED}# ---\n\n# %%\n{BLOCK}\n\n# %%\n{WHERE}\n"
LIGHT = f"{COMMENTED}#   torch_env:\n#     extras: [einops]\n# ---\n\n{WHERE}\n"
CELL = "```{{code-cell}} python\n{}\n```\n"
MYST = f"---\n{KERNEL}---\n\n# A page\n\n{CELL.format(BLOCK)}\n{CELL.format(WHERE)}"
EACH = pytest.mark.parametrize(
    ("name", "text"), [("percent.py", PERCENT), ("light.py", LIGHT), ("page.md", MYST)]
)


@pytest.fixture(scope="module")
def env(home: Path, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a shell in which the base is found and nothing else is set."""
    return torch_base_home.environment(home)


@pytest.fixture(scope="module")
def lab(home: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """One JupyterLab with jupytext for this module."""
    with jupyter_server(home / "work", env, app="jupyterlab") as server:
        yield server


@EACH
def test_jupyterlab_opens_it_in_its_own_overlay(lab: JupyterServer, name: str, text: str) -> None:
    """jupytext makes a notebook of it there; the session names the text, and a restart finds it again."""
    (lab.root / name).write_text(text)
    opened = lab.request("GET", f"api/contents/{name}?type=notebook")
    assert opened["type"] == "notebook"
    with lab.session(name, "torch") as session:
        extra, torch = session.execute(WHERE).stdout.split()
        assert f"/torch-overlays/{Path(name).stem}-" in extra
        assert "/torch-bases/" in torch
        session.restart()
        again, same = session.execute(WHERE).stdout.split()
        assert (Path(again).parents[5], same) == (Path(extra).parents[5], torch)


@EACH
def test_run_writes_a_notebook_with_its_outputs(
    tmp_path: Path, env: dict[str, str], name: str, text: str
) -> None:
    """``jupyter overlay run`` on the kernel that the header names; the text stays as it is."""
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "run", name]
    done = run_well([*command, "--output", "out.ipynb", "--json"], tmp_path, env)
    assert json.loads(done.stdout)["kernel"] == "torch-cpu"
    assert f"/torch-overlays/{Path(name).stem}-" in printed_in(tmp_path / "out.ipynb")
    assert (tmp_path / name).read_text() == text
