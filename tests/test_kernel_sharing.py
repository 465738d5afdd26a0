"""Kernels, builders and bases side by side: who shares what, who holds what, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.inkernel.shared import flock
from kernel_provisioner.overlay.store import Generation
from kernel_provisioner.system import locks
from tests.conftest import TorchBase
from tests.support.client import ENDS_WITHIN, ask, connected, launched
from tests.support.index import LocalIndex
from tests.support.launches import followed
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import serve_extras
from tests.support.waiting import patient, wait_for

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index in front of the registry that also has tiny packages, and can be made to hang."""
    names = ("shared-extra", "killed-extra", "held-extra", "corrected-extra")
    with serve_extras(home / "wheels", *names) as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a user whose uv asks that index, and gives up on a silent one soon."""
    seconds = str(int(patient(3)))  # of which a whole build has twenty times as many
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default, UV_HTTP_TIMEOUT=seconds)


@pytest.fixture(scope="module")
def server(home: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, as a user starts it."""
    with jupyter_server(home / "work", env) as running:
        yield running


@pytest.mark.fault(19)
def test_two_kernels_of_one_notebook_share_one_build(
    server: JupyterServer, env: dict[str, str], index: LocalIndex, home: Path, torch_base_home: TorchBase
) -> None:
    """Opened in two clients while the build still runs: both wait for the same one, and both work."""
    index.misbehave("/simple/shared-extra/", "hang")
    notebook = write_notebook(server.root / "twice.ipynb", torch_env=asking_for("shared-extra"))
    spec = torch_base_home.data_dir / "kernels/torch-cpu"
    where = "import shared_extra; print(shared_extra.__file__)"
    with server.session("twice.ipynb", "torch-cpu") as first, launched(spec, notebook, env) as (_, file):
        with connected(file) as second:
            running = first.begin(where)
            running.until(lambda seen: bool(seen.outputs))
            index.behave()
            assert ask(second, "shell", "execute_request", {"code": where, "silent": False})["status"] == "ok"
            done = running.result()
        assert done.status == "ok", done.text
    built = [Generation(path.parent) for path in home.glob("cache/torch-overlays/twice-*/*/overlay.json")]
    assert [one.path.name for one in built if one.behind is None] == ["0001"]
    assert str(overlay_of(home, "twice")) in done.stdout
    assert len([one for one in index.asked_for("shared-extra") if one.path.endswith(".whl")]) == 1


def test_a_killed_kernel_is_restarted_in_its_overlay(server: JupyterServer) -> None:
    """The server starts it again by itself, and the extra is there."""
    write_notebook(server.root / "killed.ipynb", torch_env=asking_for("killed-extra"))
    with server.session("killed.ipynb", "torch-cpu") as session:
        pid = int(session.execute("import os, killed_extra; print(os.getpid())").stdout.split()[-1])
        killed = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not killed.is_running(), "the server to notice")
        session.connect()
        done = session.execute("import os, killed_extra; print(os.getpid())")
        assert done.status == "ok", done.text
        assert int(done.stdout) != pid


def test_a_killed_builder_fails_the_cell_and_a_restart_builds_anew(
    server: JupyterServer, index: LocalIndex, home: Path
) -> None:
    """The waiting cell ends with cause and fix; the half-built overlay is never used again."""
    index.misbehave("/simple/corrected-extra/", "hang")
    write_notebook(server.root / "corrected.ipynb", torch_env=asking_for("corrected-extra"))
    with server.session("corrected.ipynb", "torch-cpu") as session:
        running = session.begin("import corrected_extra; print('ran')")
        running.until(lambda seen: bool(seen.outputs))
        builder = builder_of(overlay_of(home, "corrected"))
        family = [builder, *builder.children(recursive=True)]
        for process in family:
            process.kill()
        done = running.result()
        assert done.error.startswith("BuildFailed")
        assert "restart the kernel" in done.text
        assert session.execute("print('ran')").error.startswith("BuildFailed"), "every cell tells"
        index.behave()
        session.restart()
        assert session.execute("import corrected_extra; print('ran')").stdout == "ran\n"
    built = [path.parent.name for path in home.glob("cache/torch-overlays/corrected-*/*/overlay.json")]
    assert min(built) == "0002"


def test_a_kernel_holds_its_overlay_and_its_base_for_its_life(
    server: JupyterServer, home: Path, torch_base_home: TorchBase
) -> None:
    """The collector and ``base remove`` can see the kernel, and after its end they see nobody."""
    (base,) = [path.parent for path in torch_base_home.data_dir.glob("torch-bases/*/base.json")]
    base_lock = base.with_name(f"{base.name}.lock")
    write_notebook(server.root / "held.ipynb", torch_env=asking_for("held-extra"))
    with server.session("held.ipynb", "torch-cpu") as session:
        session.execute("import held_extra")
        use_lock = followed(Generation(overlay_of(home, "held"))).path / "use.lock"
        session.restart()
        pid = int(session.execute("import os; print(os.getpid())").stdout)
        assert locks.is_held(use_lock)
        assert locks.is_held(base_lock)
        assert flock.holders(use_lock) == [pid], "nobody else, not even the server or the kernel's children"
        session.execute("!sleep 600 &")
        session.restart()
        new_pid = int(session.execute("import os; print(os.getpid())").stdout)
        assert flock.holders(use_lock) == [new_pid]
    wait_for(lambda: not locks.is_held(use_lock), "the overlay to be let go")
    assert new_pid not in flock.holders(base_lock)


@pytest.mark.fault(23)
def test_a_base_in_use_is_not_removed_and_its_kernel_is_named(
    tmp_path: Path, torch_base_home: TorchBase
) -> None:
    """``base remove`` names the notebook that is open; after its shutdown the base can go."""
    env = torch_base_home.environment(tmp_path)
    listed = json.loads(overlay_command(env, "base", "list", "--json").stdout)
    del env["JUPYTER_PATH"]  # from here on the adopted base is the only one
    adopted = json.loads(overlay_command(env, "base", "adopt", listed[0]["path"], "--user", "--json").stdout)
    notebook = write_notebook(tmp_path / "open one.ipynb")
    spec = Path(env["JUPYTER_DATA_DIR"]) / "kernels/torch-cpu"
    with launched(spec, notebook, env) as (kernel, file), connected(file) as client:
        refused = overlay_command(env, "base", "remove", adopted["id"])
        assert refused.returncode != 0
        assert f"{adopted['id']} is in use" in refused.stderr
        assert str(notebook) in refused.stderr
        assert str(kernel.pid) in refused.stderr
        client.shutdown()
        kernel.wait(ENDS_WITHIN)
        removed = overlay_command(env, "base", "remove", adopted["id"])
        assert removed.returncode == 0, removed.stderr
    assert Path(listed[0]["path"], "bin/python").exists(), "an adopted environment itself stays"


def asking_for(extra: str) -> dict[str, object]:
    """The metadata of a notebook with one extra on the cpu base."""
    return {"accelerator": "cpu", "extras": [extra]}


def overlay_of(home: Path, notebook: str) -> Path:
    """The first overlay of a notebook, by its name without suffix."""
    (found,) = home.glob(f"cache/torch-overlays/{notebook}-*/0001")
    return found


def builder_of(overlay: Path) -> psutil.Process:
    """The process that builds an overlay now."""
    (pid,) = flock.holders(overlay / "builder.lock")
    return psutil.Process(pid)


def overlay_command(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``jupyter overlay`` with these words."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
