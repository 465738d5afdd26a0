"""Voila and Notebook 7: what they serve runs in the notebook's own overlay."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import write_notebook
from tests.support.ports import free_port
from tests.support.server import STARTS_WITHIN, end_with_children, jupyter_server
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
WHERE = "import einops, torch; print(einops.__file__, torch.__file__)"


def test_notebook_7_opens_a_session(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """Its page asks the REST API for a session, and the first cell finds the extra."""
    env = torch_base_home.environment(tmp_path)
    with jupyter_server(tmp_path / "work", env, app="notebook") as server:
        write_notebook(server.root / "folder/seven.ipynb", torch_env=EINOPS)
        with server.session("folder/seven.ipynb", "torch") as session:
            extra, torch = session.execute(WHERE).stdout.split()
            assert "/torch-overlays/seven-" in extra
            assert "/torch-bases/" in torch


def test_a_server_with_the_synchronous_kernel_manager_keeps_its_sessions(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """It starts kernels on a thread of their own, on which its table of sessions must not come to life."""
    kind = "jupyter_server.services.kernels.kernelmanager.MappingKernelManager"
    options = [f"--ServerApp.kernel_manager_class={kind}"]
    with jupyter_server(tmp_path / "work", torch_base_home.environment(tmp_path), options=options) as server:
        write_notebook(server.root / "sync.ipynb", torch_env=EINOPS)
        started = server.request("POST", "api/kernels", {"name": "torch-cpu", "path": "sync.ipynb"})
        assert server.request("GET", "api/sessions") == []
        server.request("DELETE", f"api/kernels/{started['id']}")
        with server.session("sync.ipynb", "torch-cpu") as session:
            assert [one["path"] for one in server.request("GET", "api/sessions")] == ["sync.ipynb"]
            session.restart()
            assert "/torch-overlays/sync-" in session.execute(WHERE).stdout


def test_a_kernel_is_started_before_its_session(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """Agents do so: the path is enough, also at a restart. A directory is the base alone."""
    with jupyter_server(tmp_path / "work", torch_base_home.environment(tmp_path)) as server:
        write_notebook(server.root / "folder/agent.ipynb", torch_env=EINOPS)
        with server.kernel("folder/agent.ipynb", "torch-cpu") as kernel:
            extra, _ = kernel.execute(WHERE).stdout.split()
            assert "/torch-overlays/agent-" in extra
            kernel.restart()
            again, _ = kernel.execute(WHERE).stdout.split()
            assert Path(again).parents[5] == Path(extra).parents[5], "the overlays of the same notebook"
            body = {"path": "folder/agent.ipynb", "type": "notebook", "kernel": {"id": kernel.kernel_id}}
            assert server.request("POST", "api/sessions", body)["kernel"]["id"] == kernel.kernel_id
        with server.kernel("folder", "torch-cpu") as kernel:
            told = kernel.execute("import os; print(os.getcwd())")
            assert told.stdout.strip() == str(server.root / "folder")
            assert "no notebook is known to this kernel: it runs on the base alone" in told.text


def test_voila_serves_one_notebook(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """``voila NB``: the page shows what the cells print."""
    write_notebook(tmp_path / "page.ipynb", WHERE, torch_env=EINOPS)
    with _voila(tmp_path, torch_base_home, "page.ipynb") as voila:
        assert "/torch-overlays/page-" in voila.page("")


def test_voila_serves_a_folder(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """``voila FOLDER``: each page runs in its own notebook's overlay, and a failure is on the page."""
    write_notebook(tmp_path / "site/one.ipynb", WHERE, torch_env=EINOPS)
    write_notebook(tmp_path / "site/deep/two words.ipynb", WHERE, torch_env=EINOPS)
    write_notebook(tmp_path / "site/bad.ipynb", "1", torch_env={"extras": "einops"})
    with _voila(tmp_path, torch_base_home, "site", "--show_tracebacks=True") as voila:
        assert "/torch-overlays/one-" in voila.page("voila/render/one.ipynb")
        assert "/torch-overlays/two-words-" in voila.page("voila/render/deep/two%20words.ipynb")
        assert "torch_env.extras is a string, not a list" in voila.page("voila/render/bad.ipynb")


def test_voila_warms_kernels_for_the_right_notebook(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """A pool starts kernels before anybody asks; each is in its notebook's overlay."""
    for name, extra in (("red", "einops"), ("blue", "humanize")):
        cell = f"import sys, {extra}; print(sys.prefix)"
        write_notebook(tmp_path / f"{name}.ipynb", cell, torch_env={"extras": [extra]})
    options = (".", "--preheat_kernel=True", "--pool_size=1")
    with _voila(tmp_path, torch_base_home, *options) as voila:
        for name in ("red", "blue"):
            voila.says(f"Kernel pool of {name}.ipynb is filled")
            assert f"/torch-overlays/{name}-" in voila.page(f"voila/render/{name}.ipynb")
            used = [line for line in voila.log.read_text().splitlines() if "Using pre-heated kernel" in line]
            assert used[-1].endswith(f" for {name}.ipynb")


class _Voila:
    """A running voila server."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self.log = log

    def page(self, path: str) -> str:
        """The page at ``path``, with everything its notebook printed."""
        with urllib.request.urlopen(self.address + path, timeout=STARTS_WITHIN) as answer:
            return str(answer.read().decode())

    def says(self, words: str) -> None:
        """Wait until its log says so."""
        wait_for(lambda: words in self.log.read_text(), words, within=STARTS_WITHIN)


@contextlib.contextmanager
def _voila(home: Path, base: TorchBase, *words: str) -> Iterator[_Voila]:
    """``voila WORDS`` in ``home``, once it answers."""
    port = free_port()
    address, log = f"http://127.0.0.1:{port}/", home / "voila.log"
    command = [str(Path(sys.executable).parent / "voila"), *words, "--no-browser"]
    command += [f"--port={port}", "--Voila.ip=127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=base.environment(home),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}voila/static/voila.js"):
            return True
        return False

    try:
        wait_for(answers, "voila to answer", within=STARTS_WITHIN)
        yield _Voila(address, log)
    finally:
        end_with_children(process)
