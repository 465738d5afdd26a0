"""A kernel in an overlay lives as a plain ipykernel does, before its first cell and after."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.connect import port_names

from tests.conftest import TorchBase
from tests.support.client import (
    ENDS_WITHIN,
    Debugger,
    ask,
    connected,
    connection_file,
    launched,
    message,
    reply,
)
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import ANSWERS_WITHIN, Session
from tests.support.tiny import serve_extras
from tests.support.waiting import wait_for
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

TINY = {"accelerator": "cpu", "extras": ["tiny-extra"]}
HOSTILE = (
    "IPython",
    "comm",
    "ipykernel",
    "ipykernel_launcher",
    "jedi",
    "kernel_provisioner",
    "sitecustomize",
    "torch",
    "zmq",
)
FORKS = """if (child := os.fork()) == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: time.sleep(1)
print(child)"""
FOREVER = "import time\nprint('running', flush=True)\nwhile True: time.sleep(0.05)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's servers keep everything; every kernel runs a startup file of the user's."""
    home = tmp_path_factory.mktemp("kernel-life")
    startup = home / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00-mine.py").write_text("import sys\nsys.seen_at_startup = list(sys.path)\n")
    return home


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIndex]:
    """An index in front of the registry that also has two tiny packages, and can be made to hang."""
    wheels = tmp_path_factory.mktemp("wheels")
    with serve_extras(
        wheels, "tiny-extra", "late-extra", "later-extra", "last-extra", "ended-extra"
    ) as served:
        data = "full_extra-1.0.data"
        files = {
            "full_extra.py": "",
            f"{data}/data/lib/libfull.so": "",
            f"{data}/data/share/full.txt": "",
            f"{data}/scripts/say-full": "#!python\nimport full_extra; print(full_extra.__file__)",
        }
        served.publish(build_wheel(wheels, "full-extra", files=files))
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a user whose uv asks that index, and gives up on a silent one soon."""
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default, UV_HTTP_TIMEOUT="5")


@pytest.fixture(scope="module")
def server(home: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, as a user starts it."""
    with jupyter_server(home / "work", env) as running:
        yield running


@pytest.fixture(scope="module")
def shared(server: JupyterServer) -> Iterator[Session]:
    """An open notebook in which cells have run."""
    write_notebook(server.root / "shared.ipynb", torch_env=TINY)
    with server.session("shared.ipynb", "torch-cpu") as session:
        assert session.execute("import tiny_extra").status == "ok"
        yield session


@pytest.fixture
def waiting(server: JupyterServer, index: LocalIndex, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A notebook just opened, whose build waits for an index that does not answer."""
    name = request.param
    index.misbehave(f"/simple/{name}/", "hang")
    write_notebook(server.root / f"{name}.ipynb", torch_env={"accelerator": "cpu", "extras": [name]})
    with server.session(f"{name}.ipynb", "torch-cpu") as session:
        wait_for(lambda: index.asked_for(name), "the builder to ask for the extra")
        yield session
    index.behave()


def test_a_running_cell_is_interrupted_and_the_kernel_goes_on(shared: Session) -> None:
    """The stop button ends the cell with KeyboardInterrupt; the next cell runs, with the state kept."""
    shared.execute("kept = 42")
    running = shared.begin(FOREVER)
    running.until(lambda seen: "running" in seen.stdout)
    shared.interrupt()
    assert running.result().error.startswith("KeyboardInterrupt")
    assert shared.execute("print(kept)").stdout == "42\n"


def test_a_restart_forgets_variables_and_keeps_packages(server: JupyterServer) -> None:
    """A new process in the same overlay: names are gone, the extra is there without a wait."""
    write_notebook(server.root / "again.ipynb", torch_env=TINY)
    with server.session("again.ipynb", "torch-cpu") as session:
        before = session.execute(
            "import os, sys, tiny_extra; mine = 1; print(os.getpid(), sys.prefix)"
        ).stdout.split()
        session.restart()
        after = session.execute("import os, sys; print(os.getpid(), sys.prefix)").stdout.split()
        assert before[-2] != after[-2]
        assert before[-1] == after[-1]
        assert session.execute("mine").error.startswith("NameError")
        assert session.execute("import tiny_extra").text == ""


def test_a_restart_succeeds_where_a_child_of_the_old_kernel_holds_its_ports(server: JupyterServer) -> None:
    """A process that was forked in a cell, and goes on, listens where the kernel did."""
    write_notebook(server.root / "child.ipynb", torch_env=TINY)
    with server.session("child.ipynb", "torch-cpu") as session:
        file = connection_file(server, session)
        before = json.loads(file.read_text())
        session.execute("import os, signal, time")
        child = psutil.Process(int(session.execute(FORKS).stdout))
        try:
            session.restart()
            assert session.execute("print(6 * 7)").stdout == "42\n"
            assert child.is_running()
            after = json.loads(file.read_text())
            assert {key for key in before if before[key] != after[key]} <= {*port_names}
            assert before["shell_port"] != after["shell_port"]
        finally:
            child.kill()


def test_the_kernel_is_the_servers_own_child(server: JupyterServer, shared: Session) -> None:
    """No wrapper stands between: signals, memory limits and pids are those of the kernel itself."""
    pid = int(shared.execute("import os; print(os.getpid())").stdout)
    assert psutil.Process(pid).ppid() == server.process.pid


def test_input_asks_the_user(shared: Session) -> None:
    """``input()`` and ``getpass`` are answered in the frontend."""
    done = shared.execute(
        "import getpass; print(input('name? ') + getpass.getpass())", answers=["Ada ", "Lovelace"]
    )
    assert done.stdout == "Ada Lovelace\n"


def test_history_remembers_the_session(shared: Session) -> None:
    """The cells of this session can be asked for."""
    shared.execute("remembered = 'this line'")
    reply = shared.ask("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True})
    assert reply["history"][-1][2] == "remembered = 'this line'"


def test_the_debugger_stops_at_a_breakpoint(server: JupyterServer, shared: Session) -> None:
    """As JupyterLab drives it: dump the cell, set a breakpoint, run, look at the stack, go on."""
    code = "def double(number):\n    twice = 2 * number\n    return twice\nprint(double(21))"
    with connected(connection_file(server, shared)) as client:
        debug = Debugger(client)
        debug.set_breakpoint(code, line=3)
        running = shared.begin(code)
        wait_for(lambda: debug("debugInfo")["body"]["stoppedThreads"], "the debugger to stop")
        threads = debug("debugInfo")["body"]["stoppedThreads"]
        stacks = [debug("stackTrace", threadId=thread)["body"]["stackFrames"] for thread in threads]
        assert ("double", 3) in [(frame["name"], frame["line"]) for stack in stacks for frame in stack]
        assert debug("continue", threadId=threads[0])["success"]
        assert running.result().stdout == "42\n"
        assert debug("disconnect", restart=False, terminateDebuggee=False)["success"]


def test_a_subshell_runs_while_the_main_shell_is_busy(server: JupyterServer, shared: Session) -> None:
    """A subshell answers during a long cell and shares its variables."""
    with connected(connection_file(server, shared)) as client:
        ask(client, "control", "create_subshell_request", {})
        subshell = ask(client, "control", "list_subshell_request", {})["subshell_id"][-1]
        running = shared.begin("flag = []\nprint('running', flush=True)\nwhile not flag: pass\nprint(flag)")
        running.until(lambda seen: "running" in seen.stdout)
        cell = {"code": "flag.append('from the subshell')", "silent": False}
        assert ask(client, "shell", "execute_request", cell, subshell)["status"] == "ok"
        assert "from the subshell" in running.result().stdout
        assert ask(client, "control", "delete_subshell_request", {"subshell_id": subshell})["status"] == "ok"


def test_every_file_of_an_extra_arrives(server: JupyterServer) -> None:
    """Modules, scripts, and what belongs in the environment's own folders, as MKL's libraries do."""
    write_notebook(server.root / "full.ipynb", torch_env={"accelerator": "cpu", "extras": ["full-extra"]})
    with server.session("full.ipynb", "torch-cpu") as session:
        done = session.execute(
            "!say-full && cd $VIRTUAL_ENV && ls lib/libfull.so share/full.txt && uv pip check"
        )
        assert done.stdout.splitlines()[0].endswith("/site-packages/full_extra.py"), done.text
        assert "lib/libfull.so" in done.stdout
        assert "share/full.txt" in done.stdout
        assert "compatible" in done.stdout


def test_widgets_talk_to_the_frontend(server: JupyterServer) -> None:
    """ipywidgets as an extra: the widget opens a comm, and what the frontend sets arrives."""
    write_notebook(server.root / "widgets.ipynb", torch_env={"accelerator": "cpu", "extras": ["ipywidgets"]})
    with server.session("widgets.ipynb", "torch-cpu") as session:
        done = session.execute("import ipywidgets\nslider = ipywidgets.IntSlider(3)\nslider")
        assert done.status == "ok", done.text
        view = done.outputs[-1]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        comms = session.ask("comm_info_request", {"target_name": "jupyter.widget"})["comms"]
        assert comms[view] == {"target_name": "jupyter.widget"}
        session._send(
            "shell", "comm_msg", {"comm_id": view, "data": {"method": "update", "state": {"value": 7}}}
        )
        assert session.execute("print(slider.value)").stdout == "7\n"


@pytest.mark.parametrize("waiting", ["late-extra"], indirect=True)
def test_everything_but_a_cell_answers_while_the_overlay_is_built(waiting: Session) -> None:
    """Completion, inspection and the rest need no overlay; a client's silent code neither waits nor opens."""
    assert "print" in waiting.ask("complete_request", {"code": "pri", "cursor_pos": 3})["matches"]
    assert waiting.ask("inspect_request", {"code": "print", "cursor_pos": 5, "detail_level": 0})["found"]
    assert waiting.ask("is_complete_request", {"code": "for i in x:"})["status"] == "incomplete"
    assert waiting.ask("comm_info_request", {})["comms"] == {}
    assert (
        waiting.ask("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True})[
            "status"
        ]
        == "ok"
    )
    silent = waiting.execute("import sys; looked = sys.prefix", silent=True, store_history=False)
    assert (silent.status, silent.text) == ("ok", "")
    running = waiting.begin("1")
    seen = running.until(lambda seen: bool(seen.outputs))
    assert seen.status == "", "the cell waits: the silent code has not opened the gate"
    assert "packages" in seen.text
    waiting.interrupt()
    running.result()


@pytest.mark.parametrize("waiting", ["later-extra"], indirect=True)
def test_the_wait_for_packages_can_be_interrupted(waiting: Session, index: LocalIndex) -> None:
    """The stop button ends the wait and not the build: the cell can be run again, and then works."""
    running = waiting.begin("print('ran')")
    running.until(lambda seen: bool(seen.outputs))
    waiting.interrupt()
    done = running.result()
    assert done.error.startswith("KeyboardInterrupt")
    assert done.stdout == ""
    index.behave()  # uv asks again once its patience has ended
    done = waiting.execute("import later_extra; print('ran')")
    assert done.stdout == "ran\n", done.text


@pytest.mark.fault(35)
@pytest.mark.parametrize("waiting", ["ended-extra"], indirect=True)
def test_a_kernel_that_is_told_to_end_answers_its_waiting_cell_first(
    server: JupyterServer, waiting: Session
) -> None:
    """A batch system, or somebody with ``kill``, sends SIGTERM; nobody waits for an answer for ever."""
    running = waiting.begin("print('ran')")
    running.until(lambda seen: bool(seen.outputs))
    children = psutil.Process(server.process.pid).children()
    (kernel,) = [one for one in children if waiting.kernel_id in " ".join(one.cmdline())]
    kernel.terminate()
    done = running.result()
    assert done.error.startswith("KeyboardInterrupt")
    assert "ran" not in done.stdout
    kernel.wait(ENDS_WITHIN)


@pytest.mark.parametrize("waiting", ["last-extra"], indirect=True)
def test_a_subshells_first_cell_waits_as_any_other(
    server: JupyterServer, waiting: Session, index: LocalIndex
) -> None:
    """The first execution of all happens in a subshell: it waits for the overlay and opens it for both."""
    with connected(connection_file(server, waiting)) as client:
        subshell = ask(client, "control", "create_subshell_request", {})["subshell_id"]
        cell = message(client, "execute_request", {"code": "import last_extra", "silent": False}, subshell)
        client.shell_channel.send(cell)
        while client.get_iopub_msg(timeout=ANSWERS_WITHIN)["msg_type"] != "display_data":
            pass
        index.behave()
        assert reply(client, "shell", cell)["status"] == "ok"
    assert waiting.execute("import last_extra; print('here')").stdout == "here\n"


def test_startup_files_and_cells_find_modules_beside_the_notebook(
    server: JupyterServer, shared: Session
) -> None:
    """The working directory is the notebook's, and first on the path after the standard library, as ever."""
    (server.root / "beside.py").write_text("here = True\n")
    done = shared.execute(
        "import beside, sys, os; print('' in sys.path, '' in sys.seen_at_startup, os.getcwd())"
    )
    assert done.stdout.split() == ["True", "True", str(server.root)]
    done = shared.execute(
        "import sysconfig; print(sys.path.index('') < sys.path.index(sysconfig.get_path('purelib')))"
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("client", ["server", "argv"])
def test_opening_a_notebook_runs_no_file_that_lies_beside_it(
    client: str, server: JupyterServer, env: dict[str, str], torch_base_home: TorchBase
) -> None:
    """Files named like the kernel's own modules leave no trace until a cell imports them."""
    folder = server.root / f"hostile-{client}"
    write_notebook(folder / "nb.ipynb", torch_env=TINY)
    ran = folder / "ran"
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name + ' '!r})\n")
    if client == "server":
        with server.session(f"{folder.name}/nb.ipynb", "torch-cpu") as session:
            assert not ran.exists(), ran.read_text()
            assert session.execute("import tiny_extra; print('ran')").stdout == "ran\n"
    else:
        spec = torch_base_home.data_dir / "kernels/torch-cpu"
        with launched(spec, folder / "nb.ipynb", env) as (_, file), connected(file):
            assert not ran.exists(), ran.read_text()


def test_the_connection_can_be_encrypted(home: Path, env: dict[str, str]) -> None:
    """With jupyter_client's transport encryption required, the kernel starts and answers encrypted."""
    option = "--KernelManager.transport_encryption=required"
    with jupyter_server(home / "curve", env, options=[option]) as server:
        write_notebook(server.root / "nb.ipynb", torch_env=TINY)
        with server.session("nb.ipynb", "torch-cpu") as session:
            assert session.execute("import tiny_extra; print('secretly')").stdout == "secretly\n"
            assert '"curve_secretkey"' in connection_file(server, session).read_text()


@pytest.mark.parametrize(
    ("how", "status"), [("shutdown", 0), ("exit", 0), ("SIGTERM", -signal.SIGTERM), ("os._exit", 3)]
)
def test_the_exit_status_is_the_kernels_own(
    how: str, status: int, server: JupyterServer, env: dict[str, str], torch_base_home: TorchBase
) -> None:
    """Whoever started the kernel sees how it ended."""
    notebook = write_notebook(server.root / f"ends-{how}.ipynb", torch_env=TINY)
    spec = torch_base_home.data_dir / "kernels/torch-cpu"
    with launched(spec, notebook, env) as (process, file), connected(file) as client:
        client.execute("import tiny_extra", reply=True, timeout=ANSWERS_WITHIN)
        if how == "shutdown":
            client.shutdown()
        elif how == "SIGTERM":
            os.kill(process.pid, signal.SIGTERM)
        else:
            client.execute({"exit": "exit", "os._exit": "import os; os._exit(3)"}[how])
        assert process.wait(ENDS_WITHIN) == status
