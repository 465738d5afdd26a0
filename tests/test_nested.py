"""A torch kernel can start torch notebooks: each in its own overlay, through the installation outside."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import printed_in, write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

INNER = (
    "import einops, os, sys, torch\nprint(einops.__file__, torch.__file__, sys.prefix, os.environ['PATH'])"
)
RUNNERS = {
    "papermill": "!papermill inner.ipynb {}",
    "execute": "!jupyter execute inner.ipynb --output {}",
    "nbconvert": "!jupyter nbconvert --execute --to notebook inner.ipynb --output {}",
    "nbmake": "!cp inner.ipynb {0}; python -m pytest -q -p no:cacheprovider --nbmake --overwrite {0}",
    "papermill-cell": "import papermill as pm; pm.execute_notebook('inner.ipynb', '{}', progress_bar=False);",
    "nbclient-cell": """\
        import nbclient, nbformat
        nb = nbformat.read("inner.ipynb", 4)
        client = nbclient.NotebookClient(nb, resources={{"metadata": {{"path": "."}}}})
        await client.async_execute()
        nbformat.write(nb, "{}")
        """,
}


@pytest.fixture(scope="module")
def server(home: Path, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, with two notebooks in its folder."""
    root = home / "work"
    root.mkdir()
    write_notebook(root / "inner.ipynb", INNER, torch_env={"extras": ["einops"]}, kernel="torch")
    extras = ["papermill", "nbconvert", "nbmake"]
    write_notebook(root / "outer.ipynb", torch_env={"accelerator": "cpu", "extras": extras})
    with jupyter_server(root, torch_base_home.environment(home)) as running:
        yield running


@pytest.fixture(scope="module")
def session(server: JupyterServer) -> Iterator[Session]:
    """The open outer notebook."""
    with server.session("outer.ipynb", "torch-cpu") as opened:
        done = opened.execute("import papermill")
        assert done.status == "ok", done.text
        yield opened


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_in_a_torch_kernel_runs_a_torch_notebook(
    runner: str, server: JupyterServer, session: Session
) -> None:
    """With its own declared extra, on the base's torch, and with nothing of the notebook around it."""
    out = server.root / f"{runner}.ipynb"
    done = session.execute(textwrap.dedent(RUNNERS[runner].format(out.name)))
    assert out.exists(), done.text
    extra, torch, prefix, path = printed_in(out).split()
    around = session.execute("import sys; print(sys.prefix)").stdout.strip()
    assert extra.startswith(f"{prefix}/lib/"), done.text
    assert "/torch-bases/" in torch
    assert prefix != around
    assert f"{around}/bin" not in path.split(":")
    if runner not in ("nbmake", "nbclient-cell"):  # these know the notebook by another name, or by none
        assert "/inner-" in prefix


def test_lists_of_packages_are_those_of_a_private_environment(session: Session) -> None:
    """The way to the installation outside is no package, and nothing of it can be imported."""
    listed = json.loads(session.execute("!pip list --format json").stdout.splitlines()[-1])
    assert not [entry for entry in listed if "provisioner" in entry["name"] or "overlay" in entry["name"]]
    assert "compatible" in session.execute("!uv pip check").text
    assert session.execute("import kernel_provisioner").error.startswith("ModuleNotFoundError")
    known = session.execute("!jupyter kernelspec list --json").stdout
    assert {"torch", "torch-cpu", "python3"} <= json.loads(known)["kernelspecs"].keys()
