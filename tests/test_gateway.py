"""Kernels behind a gateway: a Jupyter server with ``--gateway-url`` and a real ``jupyter kernelgateway``.

Both run on this machine. They share a directory of notebooks and nothing else: the server that
people open has no base, the gateway has no notebook but what it is told of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TorchBase
from tests.support.environ import clean_environment
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.parts import need
from tests.support.ports import free_port
from tests.support.server import STARTS_WITHIN, JupyterServer, end_with_children, jupyter_server
from tests.support.waiting import WITHIN, wait_for

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

DEPLOY = Path(__file__).parents[1] / "docs/deploy/gateway"
EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
WHERE = "import sys; print(sys.prefix)"


@dataclasses.dataclass(frozen=True)
class Gateway:
    """A running kernel gateway: ``url`` has no slash at its end."""

    url: str
    token: str

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask its REST API; the answer's JSON, or None."""
        asked = urllib.request.Request(
            f"{self.url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(asked, timeout=WITHIN) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both machines see of this test, the notebooks in ``work``."""
    need(importlib.util.find_spec("kernel_gateway"), "no jupyter_kernel_gateway; make test installs it")
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(home: Path, torch_base_home: TorchBase) -> Iterator[Gateway]:
    """The machine where kernels run, with the base, started as its page says."""
    env = torch_base_home.environment(home / "compute", KG_AUTH_TOKEN=secrets.token_hex(16))
    with kernel_gateway(home / "compute", env) as running:
        yield running


@pytest.fixture(scope="module")
def server(home: Path, gateway: Gateway) -> Iterator[JupyterServer]:
    """The server that people open; it knows no base, and is configured as its page says."""
    env = clean_environment(home / "front", JUPYTER_GATEWAY_AUTH_TOKEN=gateway.token)
    config = DEPLOY / "jupyter_server_config.py"
    options = [f"--gateway-url={gateway.url}", f"--config={config}"]
    with jupyter_server(home / "work", env, options=options) as running:
        yield running


def test_the_first_cell_has_the_packages_of_its_notebook(server: JupyterServer) -> None:
    """The notebook's path reaches the gateway, which makes the overlay, on its own base."""
    write_notebook(server.root / "deep/far.ipynb", torch_env=EINOPS)
    with server.session("deep/far.ipynb", "torch") as session:
        done = session.execute("import einops, torch; print(einops.__file__, torch.__file__)")
        assert done.status == "ok", done.text
        extra, torch = done.stdout.split()[-2:]
        assert "/compute/cache/torch-overlays/far-" in extra
        assert "/torch-bases/" in torch
        said = session.execute("import os; print(os.environ['HOME'], os.environ['KERNEL_NOTEBOOK_PATH'])")
        assert said.stdout.split()[1] == str(server.root / "deep/far.ipynb"), said.text


def test_a_restart_through_the_gateway_follows_the_notebook(server: JupyterServer) -> None:
    """Declare a package, press restart: the same session has it."""
    notebook = write_notebook(server.root / "grows.ipynb", torch_env={"accelerator": "cpu"})
    with server.session("grows.ipynb", "torch") as session:
        before = session.execute(WHERE).stdout
        assert "/grows-" in before
        assert session.execute("import einops").error.startswith("ModuleNotFoundError")
        set_torch_env(notebook, EINOPS)
        session.restart()
        assert session.execute("import einops").status == "ok"
        assert session.execute(WHERE).stdout != before


def test_a_renamed_notebook_needs_a_new_kernel(server: JupyterServer) -> None:
    """A gateway's restart repeats the old path and says that it cannot be read; a new kernel is right."""
    notebook = write_notebook(server.root / "old-name.ipynb", torch_env=EINOPS)
    with server.session("old-name.ipynb", "torch-cpu") as session:
        assert session.execute("import einops").status == "ok"
        notebook.rename(server.root / "new-name.ipynb")
        session.rename("new-name.ipynb")
        session.restart()
        told = session.execute("1").text
        assert "old-name.ipynb" in told
        assert "running on the base alone" in told
    with server.session("new-name.ipynb", "torch-cpu") as session:
        assert "/new-name-" in session.execute("import einops, sys; print(sys.prefix)").stdout


def test_a_failed_build_is_told_in_the_cell(server: JupyterServer) -> None:
    """Nothing of the message is lost on the way through two servers."""
    write_notebook(server.root / "wrong.ipynb", torch_env={"extras": ["no-such-project-as-this>=1"]})
    with server.session("wrong.ipynb", "torch-cpu") as session:
        told = session.execute("1").text
        assert "no-such-project-as-this" in told
        assert "restart the kernel" in told


def test_a_console_runs_on_the_base_alone(server: JupyterServer) -> None:
    """It has a name and no file: no overlay is kept under that name."""
    with server.session("Console 1", "torch-cpu", kind="console") as session:
        assert "/scratch-" in session.execute(WHERE).stdout


def test_a_program_names_the_notebook_itself(home: Path, gateway: Gateway) -> None:
    """Without sessions, ``KERNEL_NOTEBOOK_PATH`` in the request for a kernel does it."""
    notebook = write_notebook(home / "work/program.ipynb", torch_env={"accelerator": "cpu"})
    env = {"KERNEL_NOTEBOOK_PATH": str(notebook)}
    model = gateway.request("POST", "api/kernels", {"name": "torch", "env": env})
    try:
        overlays = home / "compute/cache/torch-overlays"
        (known,) = overlays.glob("program-*/notebook.txt")
        assert known.read_text().strip() == str(notebook)
    finally:
        gateway.request("DELETE", f"api/kernels/{model['id']}")


@contextlib.contextmanager
def kernel_gateway(home: Path, env: dict[str, str]) -> Iterator[Gateway]:
    """``jupyter kernelgateway`` with the configuration of its page, once it answers."""
    port, log = free_port(), home / "gateway.log"
    command = [sys.executable, "-m", "kernel_gateway", f"--KernelGatewayApp.port={port}"]
    command += [f"--config={DEPLOY / 'jupyter_kernel_gateway_config.py'}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True)  # fmt: skip
    running = Gateway(f"http://127.0.0.1:{port}", env["KG_AUTH_TOKEN"])

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return bool(running.request("GET", "api"))
        return False

    try:
        wait_for(answers, "the kernel gateway to answer", within=STARTS_WITHIN)
        yield running
    finally:
        end_with_children(process)
