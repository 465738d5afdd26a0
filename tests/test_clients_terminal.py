"""euporie, a notebook in the terminal, in an environment of its own: it pins what Jupyter leaves open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_provisioner.uv.discovery import uv_path
from tests.conftest import TorchBase
from tests.support.notebooks import printed_in, write_notebook
from tests.support.runners import run_well

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[1]
WHERE = "import einops, torch; print(einops.__file__, torch.__file__)"


def test_euporie_is_installed_beside_and_runs_a_notebook_in_its_overlay(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """No floor of ours keeps it out (it wants platformdirs below 4), and its open notebook is found.

    It gives a kernel ten seconds to start (``BaseKernel.start``), then saves without output: everything
    that is made once is made before.
    """
    env = torch_base_home.environment(tmp_path)
    venv = tmp_path / "terminal"
    run_well([str(uv_path()), "venv", "-q", str(venv)], tmp_path, dict(os.environ))
    python = venv / "bin/python"
    wanted = [str(REPOSITORY), "euporie>=2.8", "jupyter_server"]
    install = [str(uv_path()), "pip", "install", "-q", "--python", str(python), *wanted]
    run_well(install, tmp_path, dict(os.environ))
    nb = write_notebook(tmp_path / "term.ipynb", WHERE, torch_env={"extras": ["einops"]}, kernel="torch-cpu")
    run_well([str(venv / "bin/jupyter-overlay"), "prebuild", nb.name], tmp_path, env)
    shown = run_well([str(venv / "bin/euporie-preview"), "--run", "--save", nb.name], tmp_path, env)
    assert printed_in(nb), shown.stdout + shown.stderr
    extra, torch = printed_in(nb).split()
    assert "/torch-overlays/term-" in extra
    assert "/torch-bases/" in torch
