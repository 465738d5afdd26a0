"""The main job through a real Jupyter server: a notebook runs in its own overlay on one shared torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.missing import MIME_TYPE
from tests.conftest import TorchBase
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(home: Path, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, as a user starts it."""
    with jupyter_server(home / "work", torch_base_home.environment(home)) as running:
        yield running


def test_a_declared_extra_and_torch_are_imported_in_the_first_cell(server: JupyterServer) -> None:
    """Open a notebook, run one cell: torch comes from the base, the extra from the overlay."""
    write_notebook(server.root / "first.ipynb", "import torch", torch_env=EINOPS, kernel="torch-cpu")
    with server.session("first.ipynb", "torch-cpu") as session:
        done = session.execute("import einops, torch; print(einops.__file__); print(torch.__file__)")
        assert done.status == "ok", done.text
        extra, torch = done.stdout.split()
        assert "/torch-overlays/first-" in extra
        assert "/torch-bases/" in torch
        assert "einops" in done.text
        assert "added to torch" in done.text, "the first cell says what was added"


def test_two_notebooks_do_not_see_each_others_packages(server: JupyterServer) -> None:
    """What one notebook declares or installs is not there in another."""
    write_notebook(server.root / "one.ipynb", torch_env=EINOPS)
    write_notebook(server.root / "two.ipynb", torch_env={"accelerator": "cpu", "extras": ["humanize"]})
    with server.session("one.ipynb", "torch") as one, server.session("two.ipynb", "torch") as two:
        assert one.execute("import einops").status == "ok"
        assert two.execute("import humanize").status == "ok"
        assert one.execute("%pip install -q tqdm").status == "ok"
        assert one.execute("import tqdm").status == "ok"
        assert two.execute("import einops").error.startswith("ModuleNotFoundError")
        missed = two.execute("import tqdm")
        assert missed.error.startswith("ModuleNotFoundError")
        assert missed.outputs[-1]["data"]["text/plain"].endswith("%overlay add tqdm"), "below the traceback"
        assert missed.outputs[-1]["data"][MIME_TYPE]["distribution"] == "tqdm"


def test_changed_metadata_count_at_the_next_restart(server: JupyterServer) -> None:
    """Add an extra to the metadata and restart: the same session has it."""
    path = write_notebook(server.root / "grow.ipynb", torch_env=EINOPS)
    with server.session("grow.ipynb", "torch") as session:
        assert session.execute("import einops").status == "ok"
        assert session.execute("import humanize").status == "error"
        set_torch_env(path, {"accelerator": "cpu", "extras": ["einops", "humanize"]})
        session.restart()
        done = session.execute("import einops, humanize")
        assert done.status == "ok", done.text


def test_a_conflict_is_told_in_every_cell_and_mended_by_a_restart(server: JupyterServer) -> None:
    """An extra that cannot go with the base fails each cell with cause and fix, until it is changed."""
    path = write_notebook(
        server.root / "clash.ipynb", torch_env={"accelerator": "cpu", "extras": ["einops>9000"]}
    )
    with server.session("clash.ipynb", "torch") as session:
        for _ in range(2):
            done = session.execute("print('ran')")
            assert done.status == "error"
            assert done.stdout == ""
            assert "einops>9000" in done.text
            assert "only einops<" in done.text, "the resolver's own reason"
            assert "fix" in done.text
        set_torch_env(path, EINOPS)
        session.restart()
        assert session.execute("import einops").status == "ok"


def test_a_malformed_request_starts_a_kernel_that_names_the_field(server: JupyterServer) -> None:
    """The session opens without a dialog; the cell says which field and what to write."""
    write_notebook(server.root / "bad.ipynb", torch_env={"extras": "einops"})
    with server.session("bad.ipynb", "torch") as session:
        done = session.execute("1")
        assert done.status == "error"
        assert "torch_env.extras" in done.text


def test_a_notebook_without_metadata_runs_on_the_base_silently(server: JupyterServer) -> None:
    """Nothing asked for: torch is there, and nothing is said."""
    write_notebook(server.root / "plain.ipynb")
    with server.session("plain.ipynb", "torch-cpu") as session:
        done = session.execute("import torch; print(torch.tensor([2]).item())")
        assert (done.status, done.text) == ("ok", "2\n")


def test_packages_installed_by_hand_survive_a_restart(server: JupyterServer) -> None:
    """A ready overlay is used again as it is, so nothing of the user's is lost."""
    write_notebook(server.root / "hand.ipynb", torch_env=EINOPS)
    with server.session("hand.ipynb", "torch") as session:
        assert session.execute("!uv pip install -q humanize").status == "ok"
        session.restart()
        done = session.execute("import einops, humanize; print('both')")
        assert done.stdout == "both\n", done.text


def test_a_pep_723_cell_declares_extras(server: JupyterServer) -> None:
    """The block that juv, marimo and uv write is read as well."""
    cell = '# /// script\n# dependencies = ["humanize"]\n# ///\n'
    write_notebook(server.root / "script.ipynb", cell)
    with server.session("script.ipynb", "torch-cpu") as session:
        assert session.execute("import humanize").status == "ok"


def test_nothing_is_written_into_the_base(server: JupyterServer, torch_base_home: TorchBase) -> None:
    """Install, upgrade and uninstall by every means in a notebook: not a byte of the base changes."""
    register = json.loads(_overlay_command(torch_base_home, server.root, "base", "list", "--json"))
    base = Path(register[0]["path"])
    before = tree_hash(base)
    write_notebook(server.root / "vandal.ipynb", torch_env=EINOPS)
    with server.session("vandal.ipynb", "torch") as session:
        for cell in (
            "%pip install -q humanize",
            "!pip uninstall -y numpy",
            "!uv pip uninstall torch",
            "!uv pip install -q tqdm",
            "!python -m pip install -q --force-reinstall --no-deps einops",
            "import torch, numpy; print(torch.__version__)",
        ):
            session.execute(cell)
        assert session.execute("print(torch.__version__)").stdout.startswith("2.")
    assert tree_hash(base) == before


def _overlay_command(base: TorchBase, home: Path, *words: str) -> str:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "kernel_provisioner.cli.app", *words],
        env=base.environment(home),
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN,
    )
    return done.stdout
