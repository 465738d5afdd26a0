"""The fork server behind warm starts: who has one, who can reach it, and when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import psutil
import pytest

from kernel_provisioner.base.adopt import adopt_base
from kernel_provisioner.base.registry import RegisteredBase, read_register
from kernel_provisioner.builder.progress import Progress
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay.store import Generation
from kernel_provisioner.settings import load_settings
from kernel_provisioner.system import locks
from kernel_provisioner.warm import WarmContext, WarmUnavailable
from tests.conftest import TorchBase
from tests.support.environ import default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.launches import followed
from tests.support.notebooks import printed_in, write_notebook
from tests.support.pauses import Paused
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.waiting import WITHIN, wait_for
from tests.support.warm import WARM, fork_server, starts, warm_up
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

CPU = {"accelerator": "cpu"}
PID = "import os; print(os.getpid())"
OPTIONAL = """
import importlib.util, json, sys, torch
from torch.utils.data.datapipes import datapipe
from torch.utils.data.datapipes.utils import common
print(json.dumps([torch.hub.tqdm.__module__, common.DILL_AVAILABLE, datapipe.HAS_DILL, str(datapipe.dill),
                  sorted({"dill", "tqdm", "tqdm.std", "opt_einsum"} & set(sys.modules)),
                  torch.backends.opt_einsum.is_available()]))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIndex]:
    """An index with extras that torch imports, uses where they are there, or is extended by."""
    wheels = tmp_path_factory.mktemp("wheels")
    with serve_index(upstream=default_index()) as served:
        served.publish(build_wheel(wheels, "numpy", "99.0", files={"numpy/__init__.py": "mine = 1"}))
        served.publish(build_wheel(wheels, "needs-numpy", requires=["numpy>=99"]))
        served.publish(build_wheel(wheels, "plain-extra"))
        for name, entry_points in {
            "opt-einsum": {},
            "a-backend": {"torch.backends": {"mine": "a_backend:loaded"}},
        }.items():
            files = {f"{name.replace('-', '_')}.py": "def loaded():\n    print('loaded')\n"}
            served.publish(build_wheel(wheels, name, "99.0", files=files, entry_points=entry_points))
        yield served


@pytest.fixture(scope="module")
def env(
    tmp_path_factory: pytest.TempPathFactory, index: LocalIndex, torch_base_home: TorchBase
) -> dict[str, str]:
    """The environment of a user who turns warm starts on in our own configuration file."""
    home = tmp_path_factory.mktemp("warm-end")
    env = torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)
    config = Path(env["JUPYTER_CONFIG_DIR"], "jupyter_overlay_config.py")
    config.write_text("c.TorchOverlayProvisioner.warm = True\n")
    return env


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[JupyterServer]:
    """A server whose fork server is there."""
    with jupyter_server(Path(env["JUPYTER_CONFIG_DIR"]).parent / "work", env) as running:
        warm_up(running)
        yield running


@contextlib.contextmanager
def opened(server: JupyterServer, name: str, **torch_env: object) -> Iterator[Session]:
    """A new notebook, open."""
    write_notebook(server.root / name, torch_env={**CPU, **torch_env})
    with server.session(name, "torch-cpu") as session:
        yield session


def test_nobody_else_can_reach_it(server: JupyterServer) -> None:
    """It listens nowhere: its one socket has no name, and its other end is the server's."""
    process = fork_server(server)
    assert process.net_connections("inet") == []
    (line,) = process.net_connections("unix")
    assert line.laddr == line.raddr == ""
    assert process.uids().real == os.getuid()
    leads = {str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert len([one for one in leads if one.startswith("socket:")]) == 1
    assert not [one for one in leads if "nvidia" in one]


def test_list_and_doctor_name_it(server: JupyterServer, env: dict[str, str]) -> None:
    """Its overlay is in use by no notebook, and doctor knows its process."""
    assert "(a fork server)" in command(env, "list").stdout
    assert (
        f"a fork server for warm starts runs (process {fork_server(server).pid})"
        in command(env, "doctor").stdout
    )
    pruned = command(env, "prune").stdout
    assert "warm" not in pruned, "the collector leaves it alone"
    with opened(server, "after.ipynb"):
        assert starts(server)[-1] == "warm"


def test_a_new_overlay_starts_warm_once_it_is_built(
    tmp_path: Path, index: LocalIndex, torch_base_home: TorchBase
) -> None:
    """With the gate closed: no package is moved in before a cell runs."""
    paused = Paused(tmp_path, "waits-for-overlay")
    env = torch_base_home.environment(tmp_path / "home", UV_DEFAULT_INDEX=index.default, **paused.env)
    with jupyter_server(tmp_path / "work", env, options=[WARM]) as server, ThreadPoolExecutor(1) as pool:
        warm_up(server)

        def let_go_when_it_is_ready() -> Path:
            paused.reached()
            (overlay,) = tmp_path.glob("home/cache/torch-overlays/new-*/0001")
            wait_for((overlay / "overlay.json").exists, "the overlay")
            paused.go()
            return overlay

        built = pool.submit(let_go_when_it_is_ready)
        with opened(server, "new.ipynb", extras=["plain-extra"]) as session:
            assert starts(server)[-1] == "warm"
            assert not (built.result() / "entered").exists()
            assert (
                session.execute("import plain_extra, torch; print(torch.ones(2).sum())").stdout
                == "tensor(2.)\n"
            )


def test_an_overlay_that_nobody_builds_is_not_waited_for(tmp_path: Path) -> None:
    """The start is a normal one at once."""
    base = cast("RegisteredBase", None)  # is not asked
    context = WarmContext(base, load_settings({}), building=Generation(tmp_path))
    with pytest.raises(WarmUnavailable, match="its overlay is not ready"):
        context.wait_for_overlay(3600.0)


@pytest.mark.parametrize("phase", ["fetch", "wait", "needs-cell"])
def test_an_overlay_that_takes_longer_is_not_waited_for(tmp_path: Path, phase: str) -> None:
    """A normal kernel boots meanwhile, as ever."""
    Progress(tmp_path / layout.PROGRESS).say(phase, "Downloading torch-friend (1.0GiB)")
    base = cast("RegisteredBase", None)  # is not asked
    context = WarmContext(base, load_settings({}), building=Generation(tmp_path))
    with locks.exclusive(tmp_path / layout.BUILDER_LOCK), pytest.raises(WarmUnavailable):
        context.wait_for_overlay(3600.0)


def test_an_overlay_that_replaces_what_is_imported_starts_normally(server: JupyterServer) -> None:
    """Also while the replacement still waits for the first cell, and no interpreter sees it."""
    with opened(server, "replaces.ipynb", extras=["needs-numpy"]) as session:
        overlay = following(server, "replaces")
        for entered in (False, True):
            session.restart()
            assert (overlay / "entered").exists() is entered
            assert starts(server)[-1].startswith("normally: ")
            assert starts(server)[-1].endswith("is its own, and the base's numpy is imported")
            assert session.execute("import numpy; print(numpy.mine)").stdout == "1\n"


@pytest.mark.parametrize(
    ("extra", "because", "shown"),
    [
        ("opt-einsum", "torch uses opt_einsum where it is there, and was imported without it", "true]"),
        ("a-backend", "torch loads mine when it is imported, and was imported without it", "loaded"),
    ],
)
def test_what_torch_would_have_used_starts_normally(
    extra: str, because: str, shown: str, server: JupyterServer
) -> None:
    """A module that an import looks for, or a plugin; also while it waits for the first cell."""
    with opened(server, f"uses-{extra}.ipynb", extras=[extra]) as session:
        overlay = following(server, f"uses-{extra}")
        for entered in (False, True):
            session.restart()
            assert (overlay / "entered").exists() is entered
            assert starts(server)[-1] == f"normally: {because}"
            assert shown in session.execute(OPTIONAL).stdout


def test_torch_has_in_a_warm_kernel_what_most_packages_bring(server: JupyterServer) -> None:
    """It takes tqdm's bars and dill where they are there: before the first cell, and not before."""
    with opened(server, "bars.ipynb", extras=["tqdm", "dill"]) as session:
        normal = session.execute(OPTIONAL)
        assert normal.status == "ok", normal.text
        session.restart()
        assert starts(server)[-1] == "warm"
        warm = session.execute(OPTIONAL).stdout
        assert re.sub(r"/\d{4}/", "/N/", warm) == re.sub(r"/\d{4}/", "/N/", normal.stdout)
        assert json.loads(normal.stdout)[:3] == ["tqdm.std", True, True]
    with opened(server, "none.ipynb") as session:
        assert json.loads(session.execute(OPTIONAL).stdout)[:3] == ["torch.hub", False, False]


def test_an_extra_that_waits_for_the_first_cell_arrives_in_a_warm_kernel(server: JupyterServer) -> None:
    """The gate works as in a normal start."""
    with opened(server, "adds.ipynb", extras=["einops"]) as session:
        overlay = following(server, "adds")
        session.restart()
        assert starts(server)[-1] == "warm"
        assert not (overlay / "entered").exists()
        assert session.execute("import einops, torch; print(einops.__file__)").stdout.startswith(str(overlay))


def following(server: JupyterServer, notebook: str) -> Path:
    """The overlay that a notebook's next start takes, once it is built behind the first."""
    (first,) = server.log.parent.parent.glob(f"cache/torch-overlays/{notebook}-*/0001")
    wait_for((first / "overlay.json").exists, "the overlay")
    return followed(Generation(first)).path


def test_kernels_outlive_it_and_the_next_one_starts_normally(server: JupyterServer) -> None:
    """Killed, it takes nobody along; another is started for those that come."""
    with opened(server, "outlives.ipynb") as session:
        before = session.execute(PID).stdout
        process = fork_server(server)
        process.kill()
        process.wait(WITHIN)
        assert session.execute(PID).stdout == before
        session.restart()
        assert starts(server)[-1].startswith("normally: its fork server ")
        assert session.execute("import torch; print(torch.ones(1).item())").stdout == "1.0\n"
        warm_up(server)
        session.restart()
        assert starts(server)[-1] == "warm"
        overlays = Path(fork_server(server).cmdline()[0]).parents[3]
        assert len([*overlays.glob("scratch-warm-*")]) == 1, "what the killed one left is cleared away"


def test_it_ends_once_it_has_been_idle(env: dict[str, str]) -> None:
    """Not while a kernel lives; then soon, with its overlay, and the next kernel starts normally."""
    root = Path(env["JUPYTER_CONFIG_DIR"]).parent / "idle"
    with jupyter_server(root, env, options=["--TorchOverlayProvisioner.warm_idle=1"]) as server:
        with opened(server, "nb.ipynb") as session:
            warm_up(server)
            session.restart()
            process = fork_server(server)
            overlay = Path(process.cmdline()[0]).parents[2]
            assert session.execute("import time; time.sleep(3)").status == "ok"
            assert process.is_running()
        wait_for(lambda: not process.is_running(), "the fork server's end")
        assert not overlay.exists()
        with opened(server, "later.ipynb"):
            assert starts(server)[-1].startswith("normally: its fork server ")


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_it_ends_with_its_server(how: str, env: dict[str, str]) -> None:
    """However that ends; and a warm kernel notices it as a normal one does."""
    root = Path(env["JUPYTER_CONFIG_DIR"]).parent / how
    gone = contextlib.suppress(OSError)  # nobody is there who could end the session
    with gone, jupyter_server(root, env) as server, opened(server, "nb.ipynb") as session:
        warm_up(server)
        session.restart()
        assert starts(server)[-1] == "warm"
        kernel, process = psutil.Process(int(session.execute(PID).stdout)), fork_server(server)
        overlay = Path(process.cmdline()[0]).parents[2]
        getattr(server.process, how)()
        server.process.wait()
        wait_for(lambda: not process.is_running(), "the fork server's end")
        wait_for(lambda: not kernel.is_running(), "the kernel's end")
        assert not overlay.exists()


def test_it_keeps_no_base_from_being_removed(env: dict[str, str], torch_base_home: TorchBase) -> None:
    """``base remove`` refuses for kernels alone; the fork server goes by itself."""
    mine = {**env, "JUPYTER_PATH": ""}
    (theirs,) = read_register([torch_base_home.data_dir / "torch-bases"]).bases
    adopt_base(
        Path(theirs.manifest.prefix), data_dir=Path(env["JUPYTER_DATA_DIR"]), tag="cpu", progress=quiet
    )
    root = Path(env["JUPYTER_CONFIG_DIR"]).parent / "removes"
    with jupyter_server(root, mine, options=["--TorchOverlayProvisioner.warm_idle=20"]) as server:
        with opened(server, "nb.ipynb") as session:
            warm_up(server)
            session.restart()
            assert starts(server)[-1] == "warm"
            process = fork_server(server)
            refused = command(mine, "base", "remove", "cpu", check=False)
            assert refused.returncode == 2
            assert str(process.pid) not in refused.stderr
        assert process.is_running()
        wait_for(
            lambda: command(mine, "base", "remove", "cpu", check=False).returncode == 0, "the base's removal"
        )
        wait_for(lambda: not process.is_running(), "the fork server's end")


def test_a_client_that_runs_one_notebook_has_none(env: dict[str, str]) -> None:
    """``jupyter execute`` would be gone before it is of use."""
    notebook = write_notebook(Path(env["JUPYTER_CONFIG_DIR"]).parent / "once.ipynb", CHILDREN, torch_env=CPU)
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "execute",
        "--inplace",
        "--kernel_name=torch-cpu",
        str(notebook),
    ]
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert printed_in(notebook) == "['_torch_overlay']\n"


CHILDREN = """
import psutil, sys
others = [one for one in psutil.Process().parent().children() if "--fork-server" in one.cmdline()]
print([name for name in sys.modules if name == "_torch_overlay" or name == "torch"] + others)
"""


def command(env: dict[str, str], *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """``jupyter overlay`` with these words."""
    line = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
    return subprocess.run(line, env=env, cwd="/", capture_output=True, text=True, check=check)


def quiet(message: str, done: float = 0, total: int = 0, /) -> None:
    """A progress that is shown to nobody."""
