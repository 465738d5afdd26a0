"""Kernels that start warm: which do, what they can do, and how they end."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import TorchBase
from tests.support.client import Debugger, ask, connected, connection_file
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.waiting import wait_for
from tests.support.warm import WARM, everywhere, fork_server, starts, warm_up

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

CPU = {"accelerator": "cpu"}
PID = "import os; print(os.getpid())"
FOREVER = "import time\nprint('running', flush=True)\nwhile True: time.sleep(0.05)"
WORKERS = """
import multiprocessing, os, sys
import torch
from torch.utils.data import DataLoader
def where(_): return os.getppid(), sys.prefix, sys.executable
multiprocessing.set_start_method({how!r}, force=True)
if {how!r} == "fork":
    with multiprocessing.Pool(2) as pool:
        assert set(pool.map(where, range(4))) == {{(os.getpid(), sys.prefix, sys.executable)}}
else:
    with multiprocessing.Pool(2) as pool:  # what runs there must come from a module
        assert set(pool.map(os.path.realpath, [sys.prefix])) == {{os.path.realpath(sys.prefix)}}
        assert pool.apply(eval, ("__import__('sys').prefix",)) == sys.prefix
        assert pool.apply(eval, ("__import__('os').getcwd()",)) == os.getcwd()
loaded = DataLoader(torch.arange(8), batch_size=4, num_workers=2)
assert torch.cat(list(loaded)).tolist() == list(range(8))
print("all well")
"""
TRAINED = """
import numpy, torch
layer = torch.nn.Linear(64, 64)
loss = layer(torch.ones(512, 64)).sum()
loss.backward()
product = numpy.ones((600, 600)) @ numpy.ones((600, 600))
print(layer.weight.grad.shape == layer.weight.shape, product[0, 0], torch.cuda.device_count() >= 0)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's servers keep everything, in a path with a blank."""
    return tmp_path_factory.mktemp("warm fork")


@pytest.fixture(scope="module")
def env(home: Path, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a user who has kernels with variables of their own."""
    env = torch_base_home.environment(home)
    spec = json.loads((torch_base_home.data_dir / "kernels/torch-cpu/kernel.json").read_bytes())
    for name, more in {
        "late": {"CUDA_VISIBLE_DEVICES": "1", "KERNEL_LONG": "x" * 100_000},
        "early": {"OMP_NUM_THREADS": "1"},
    }.items():
        directory = Path(env["JUPYTER_DATA_DIR"], "kernels", name)
        directory.mkdir(parents=True)
        (directory / "kernel.json").write_text(json.dumps({**spec, "env": more}))
    return env


@pytest.fixture(scope="module")
def server(home: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """A server that has been running for a while: its fork server is there."""
    with jupyter_server(home / "work", env, options=[WARM]) as running:
        warm_up(running)
        yield running


@pytest.fixture(scope="module")
def shared(server: JupyterServer) -> Iterator[Session]:
    """An open notebook whose kernel started warm."""
    write_notebook(server.root / "shared.ipynb", torch_env=CPU)
    with server.session("shared.ipynb", "torch-cpu") as session:
        assert starts(server)[-1] == "warm"
        yield session


def test_the_first_start_is_a_normal_one_and_the_next_is_warm(home: Path, env: dict[str, str]) -> None:
    """Nobody waits for a fork server; the log says how each kernel started, and why so."""
    with jupyter_server(home / "first", env, options=[WARM]) as new:
        write_notebook(new.root / "nb.ipynb", torch_env=CPU)
        with new.session("nb.ipynb", "torch-cpu") as session:
            imported = session.execute("import sys; print('torch' in sys.modules)").stdout
            how = "warm" if everywhere() else "normally: its fork server is started now"
            assert (starts(new)[-1], imported) == (how, f"{everywhere()}\n")
            warm_up(new)
            session.restart()
            assert starts(new)[-1] == "warm"
            assert session.execute("import sys; print('torch' in sys.modules)").stdout == "True\n"


def test_its_a_child_of_the_server_with_a_session_and_a_name_of_its_own(
    server: JupyterServer, shared: Session
) -> None:
    """``ps`` and whoever limits or watches a server's processes see it as any other kernel."""
    pid = int(shared.execute(PID).stdout)
    kernel, other = psutil.Process(pid), fork_server(server)
    prefix = shared.execute("import sys; print(sys.prefix)").stdout.strip()
    assert kernel.ppid() == server.process.pid
    assert kernel.name() == other.name()
    assert kernel.cmdline()[0] == f"{prefix}/bin/python"
    assert kernel.cmdline()[1:3] == [other.cmdline()[1], "-f"]
    assert kernel.environ()["VIRTUAL_ENV"] == prefix
    assert len(kernel.cmdline()) == 4
    assert "--fork-server" in other.cmdline()


def test_it_shares_its_memory_with_others(server: JupyterServer, shared: Session) -> None:
    """What torch takes is there once: a kernel's own is less than half of the fork server's whole."""
    kernel = psutil.Process(int(shared.execute(PID).stdout))
    assert kernel.memory_full_info().uss < 0.5 * fork_server(server).memory_info().rss


def test_torch_and_numpy_compute_in_it(shared: Session) -> None:
    """Libraries that keep threads ready start them again."""
    assert shared.execute(TRAINED).stdout == "True 600.0 True\n"


@pytest.mark.parametrize("how", ["spawn", "fork", "forkserver"])
def test_processes_of_its_own_run_in_its_overlay(how: str, shared: Session) -> None:
    """multiprocessing, each way, and torch's DataLoader with workers."""
    done = shared.execute(WORKERS.format(how=how))
    assert done.stdout.endswith("all well\n"), done.text


def test_a_running_cell_is_interrupted_and_the_kernel_goes_on(shared: Session) -> None:
    """The stop button ends the cell, and a process that it runs, with the state kept."""
    shared.execute("kept = 42")
    for cell in (
        FOREVER,
        "import subprocess, sys; print('running', flush=True)\nsubprocess.run(['sleep', '600'])",
    ):
        running = shared.begin(cell)
        running.until(lambda seen: "running" in seen.stdout)
        shared.interrupt()
        assert running.result().error.startswith("KeyboardInterrupt")
    assert shared.execute("print(kept)").stdout == "42\n"


def test_it_asks_for_input(shared: Session) -> None:
    """``input()`` is answered in the frontend."""
    assert shared.execute("print(input('name? '))", answers=["Ada"]).stdout == "Ada\n"


def test_the_debugger_stops_at_a_breakpoint(server: JupyterServer, shared: Session) -> None:
    """debugpy, imported before the fork, serves the fork."""
    code = "def double(number):\n    twice = 2 * number\n    return twice\nprint(double(21))"
    with connected(connection_file(server, shared)) as client:
        debug = Debugger(client)
        debug.set_breakpoint(code, line=3)
        running = shared.begin(code)
        wait_for(lambda: debug("debugInfo")["body"]["stoppedThreads"], "the debugger to stop")
        (thread, *_) = debug("debugInfo")["body"]["stoppedThreads"]
        assert debug("continue", threadId=thread)["success"]
        assert running.result().stdout == "42\n"
        assert debug("disconnect", restart=False, terminateDebuggee=False)["success"]


def test_a_restart_is_warm_and_forgets(server: JupyterServer) -> None:
    """A new process in the same overlay; what the last one did to its modules is gone."""
    write_notebook(server.root / "again.ipynb", torch_env=CPU)
    with server.session("again.ipynb", "torch-cpu") as session:
        before = session.execute(f"import torch; torch.mine = 1; {PID}").stdout
        session.restart()
        assert starts(server)[-1] == "warm"
        assert session.execute(PID).stdout != before
        assert session.execute("import torch; print(hasattr(torch, 'mine'))").stdout == "False\n"


@pytest.mark.parametrize("how", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_crash_is_noticed_and_the_kernel_restarts(how: str, server: JupyterServer) -> None:
    """As for any kernel that dies: the server starts another, warm, and no process is left behind."""
    write_notebook(server.root / "crash.ipynb", torch_env=CPU)
    with server.session("crash.ipynb", "torch-cpu") as session:
        before, pid = len(starts(server)), int(session.execute(PID).stdout)
        session.begin(f"import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); {how}")
        wait_for(lambda: len(starts(server)) > before, "the server to restart the kernel")
        assert starts(server)[-1] == "warm"
        with connected(connection_file(server, session)) as client:
            cell = {"code": "", "silent": True, "user_expressions": {"pid": "__import__('os').getpid()"}}
            told = ask(client, "shell", "execute_request", cell)["user_expressions"]["pid"]
        assert int(told["data"]["text/plain"]) != pid
        assert not psutil.pid_exists(pid)


def test_a_shut_down_kernel_leaves_nothing(server: JupyterServer) -> None:
    """The server has waited for it: no zombie."""
    write_notebook(server.root / "ends.ipynb", torch_env=CPU)
    with server.session("ends.ipynb", "torch-cpu") as session:
        pid = int(session.execute(PID).stdout)
    wait_for(lambda: not psutil.pid_exists(pid), "the kernel's end")


def test_limits_are_the_servers_own_at_that_moment(server: JupyterServer) -> None:
    """A limit that was set on the server since counts for the next kernel."""
    process = psutil.Process(server.process.pid)
    before = process.rlimit(psutil.RLIMIT_STACK)
    process.rlimit(psutil.RLIMIT_STACK, (4 << 20, before[1]))
    write_notebook(server.root / "limits.ipynb", torch_env=CPU)
    try:
        with server.session("limits.ipynb", "torch-cpu") as session:
            done = session.execute("import resource; print(resource.getrlimit(resource.RLIMIT_STACK)[0])")
            assert starts(server)[-1] == "warm"
            assert done.stdout == f"{4 << 20}\n"
    finally:
        process.rlimit(psutil.RLIMIT_STACK, before)


def test_a_server_with_many_open_files_starts_kernels_warm(home: Path, env: dict[str, str]) -> None:
    """Descriptors beyond 1024, which ``select`` does not take, are those of any large server."""
    need(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 2000, "2000 open files (ulimit -n)")
    config = home / "many.py"
    config.write_text("import os\n_kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]\n")
    with jupyter_server(home / "many", env, options=[WARM, f"--config={config}"]) as new:
        warm_up(new)
        write_notebook(new.root / "nb.ipynb", torch_env=CPU)
        with new.session("nb.ipynb", "torch-cpu") as session:
            assert starts(new)[-1] == "warm"
            session.execute("1")
            assert psutil.Process(new.process.pid).num_fds() > 1100


def test_variables_that_are_read_late_may_differ(server: JupyterServer) -> None:
    """Which GPU a kernel sees is decided when it looks, so that such kernels start warm too."""
    write_notebook(server.root / "late.ipynb", torch_env=CPU)
    with server.session("late.ipynb", "late") as session:
        assert starts(server)[-1] == "warm"
        done = session.execute(
            "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], len(os.environ['KERNEL_LONG']))"
        )
        assert done.stdout == "1 100000\n"


def test_variables_that_an_import_reads_may_not(server: JupyterServer) -> None:
    """Such a kernel starts normally, and the log names the variable."""
    write_notebook(server.root / "early.ipynb", torch_env=CPU)
    with server.session("early.ipynb", "early") as session:
        assert starts(server)[-1] == "normally: its environment is not the fork server's: OMP_NUM_THREADS"
        assert session.execute("import torch; print(torch.get_num_threads())").stdout == "1\n"


@pytest.mark.parametrize("where", ["overlay", "folder"])
def test_what_would_be_imported_instead_is_respected(where: str, server: JupyterServer) -> None:
    """A module of the user's that hides one of the base's: a normal start, in which it does."""
    notebook = f"{where}/nb.ipynb"
    write_notebook(server.root / notebook, torch_env=CPU)
    with server.session(notebook, "torch-cpu") as session:
        assert starts(server)[-1] == "warm"
        place = {"overlay": "sysconfig.get_path('purelib')", "folder": "os.getcwd()"}[where]
        session.execute(f"import os, sysconfig; open({place} + '/torchgen.py', 'w').write('mine = 1')")
        session.restart()
        assert starts(server)[-1].startswith("normally: ")
        assert starts(server)[-1].endswith("torchgen.py is its own, and the base's torchgen is imported")
        assert session.execute("import torchgen; print(torchgen.mine)").stdout == "1\n"
