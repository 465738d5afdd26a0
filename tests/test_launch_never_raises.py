"""Whatever became of what a kernel stands on: a server starts one, and its cells run or say what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

KERNEL = "torch-cpu"


@pytest.fixture(scope="module")
def server(home: Path, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """A server with two cpu bases, the preferred of which names a Python that this machine cannot run."""
    foreign = home / "foreign/python3"
    foreign.parent.mkdir()
    foreign.write_bytes(b"\x7fELF for another processor")
    foreign.chmod(0o755)
    (whole,) = torch_base_home.data_dir.glob("torch-bases/*/base.json")
    env = torch_base_home.environment(home)
    copy = Path(env["JUPYTER_DATA_DIR"]) / "torch-bases/cpu-foreign"
    shutil.copytree(whole.parent, copy, ignore=lambda _, names: {"venv"} & set(names))
    manifest = json.loads(whole.read_text())
    foreign_base = {**manifest, "id": "cpu-foreign", "torch": "99.0", "interpreter": str(foreign)}
    (copy / "base.json").write_text(json.dumps(foreign_base))
    with jupyter_server(home / "work", env) as running:
        yield running


@pytest.fixture
def session(
    server: JupyterServer, torch_base_home: TorchBase, request: pytest.FixtureRequest
) -> Iterator[Session]:
    """A notebook of its own name, in an overlay on the base that runs."""
    (whole,) = torch_base_home.data_dir.glob("torch-bases/*/base.json")
    wanted = {"accelerator": "cpu", "torch": "==" + json.loads(whole.read_text())["torch"].partition("+")[0]}
    name = f"{request.node.name}.ipynb"
    write_notebook(server.root / name, torch_env=wanted)
    with server.session(name, KERNEL) as session:
        yield session


@pytest.mark.fault(32)
def test_an_overlay_without_its_interpreter_is_followed_by_another(session: Session) -> None:
    """A restart begins a new one; it would be a kernel that cannot start, and an HTTP error."""
    python = Path(session.execute("import sys; print(sys.executable)").stdout.strip())
    python.unlink()
    session.restart()
    done = session.execute("import sys, torch; print(sys.executable)")
    assert done.status == "ok", done.text
    assert done.stdout.strip() == str(python.parents[2] / "0002/bin/python")


@pytest.mark.fault(32)
def test_an_overlay_that_does_not_find_its_base_is_followed_by_another(session: Session) -> None:
    """Its kernel would die at every start, for want of ipykernel."""
    pth = Path(session.execute("import sys; print(sys.prefix)").stdout.strip())
    (paths,) = pth.glob("lib/python*/site-packages/zzz_torch_base.pth")
    paths.write_text("")
    session.restart()
    assert session.execute("import torch; print('here')").stdout.strip().endswith("here")


def test_a_configuration_file_that_exits_ends_no_server(server: JupyterServer, session: Session) -> None:
    """The next start tells which file it is; once that is right, all is as before."""
    config = server.log.parents[1] / "jupyter-config/jupyter_overlay_config.py"
    config.write_text("import sys\nsys.exit()\n")
    session.restart()
    done = session.execute("1 + 1")
    assert done.status == "error"
    assert str(config) in done.text
    assert "SystemExit" in done.text
    config.unlink()
    session.restart()
    assert session.execute("import torch").status == "ok"


@pytest.mark.fault(32)
def test_a_python_that_this_machine_cannot_run_is_told_in_the_cell(server: JupyterServer) -> None:
    """A home on a shared disk holds the bases of another kind of machine: the kernel starts, to say so."""
    write_notebook(server.root / "foreign.ipynb", torch_env={"accelerator": "cpu", "torch": ">=99"})
    with server.session("foreign.ipynb", KERNEL) as session:
        done = session.execute("1 + 1")
        assert done.status == "error"
        assert "Python could not be started" in done.error
        assert "base create" in done.text
        session.restart()
        assert session.execute("1 + 1").status == "error"
