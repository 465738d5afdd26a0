"""Many kernels in one server, and in two: all run, and the event loop stays free for everybody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.tiny import serve_extras
from tests.support.waiting import patient
from tests.support.watched import DISK, install, notes

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

USERS, NOTEBOOKS = 50, 10
LONGEST_STEP = 0.050  # seconds of the loop's thread
TINY = {"accelerator": "cpu", "extras": ["tiny-extra"]}
WHERE = "import tiny_extra; print(tiny_extra.__file__)"


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index that tells what it was asked."""
    with serve_extras(home / "wheels", "tiny-extra") as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a server with a kernel that notes what it does to the loop."""
    env = torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)
    return env | install(home / "plugin", Path(env["JUPYTER_DATA_DIR"]) / "kernels")


def run_all(sessions: list[Session], code: str) -> list[str]:
    """Run a cell in all of them at the same time; what each printed."""
    running = [session.begin(code) for session in sessions]
    done = [one.result(timeout=patient(280)) for one in running]
    assert [one.status for one in done] == ["ok"] * len(sessions), [one.text for one in done]
    return [one.stdout.splitlines()[-1] for one in done]


def linked(notebook: Path, count: int) -> list[str]:
    """Names under which a notebook can be opened so many times: a session has a path of its own."""
    names = [f"{notebook.stem}-link-{number}.ipynb" for number in range(count)]
    for name in names:
        (notebook.parent / name).symlink_to(notebook.name)
    return names


@contextlib.contextmanager
def opened(places: list[tuple[JupyterServer, str]], kernel: str) -> Iterator[list[Session]]:
    """A session for each of these notebooks, asked for all at once."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(places)) as threads:
        contexts = [server.session(name, kernel) for server, name in places]
        sessions = list(threads.map(lambda one: one.__enter__(), contexts))
        for one in contexts:
            stack.push(one.__exit__)
        yield sessions


@pytest.mark.fault(20)
def test_kernels_of_one_notebook_in_two_servers_share_one_overlay(
    home: Path, env: dict[str, str], index: LocalIndex
) -> None:
    """Three in each, started at the same moment, and six notebooks beside it that ask for the same."""
    shared = linked(write_notebook(home / "work/shared.ipynb", torch_env=TINY), 6)
    own = [write_notebook(home / f"work/own-{number}.ipynb", torch_env=TINY).name for number in range(6)]
    with jupyter_server(home / "work", env) as one, jupyter_server(home / "work", env) as other:
        places = [((one, other)[number % 2], name) for number, name in enumerate([*shared, *own])]
        with opened(places, "watched") as sessions:
            found = run_all(sessions, WHERE)
    assert len(set(found[:6])) == 1
    assert len(set(found)) == 7
    assert len([one for one in index.asked_for("tiny-extra") if one.path.endswith(".whl")]) == 1


def test_fifty_kernels_leave_the_event_loop_free(home: Path, env: dict[str, str]) -> None:
    """None of our steps has the loop for more than 50 ms, while a server starts and ends 50 kernels."""
    books = [
        write_notebook(home / f"work/user-{number}.ipynb", torch_env=TINY) for number in range(NOTEBOOKS)
    ]
    names = [linked(book, USERS // NOTEBOOKS) for book in books]
    before = len(notes(env))
    with jupyter_server(home / "work", env) as server, contextlib.ExitStack() as stack:
        sessions = []
        for wave in zip(*names, strict=True):
            sessions += stack.enter_context(opened([(server, name) for name in wave], "watched"))
        assert len({session.kernel_id for session in sessions}) == USERS
        assert len(set(run_all(sessions, WHERE))) == NOTEBOOKS
        stack.close()
    steps = notes(env)[before:]
    assert len([step for step in steps if step["what"] == "cleanup"]) >= USERS
    longest = max(steps, key=lambda step: step["cpu"])
    assert longest["cpu"] < LONGEST_STEP, longest


def test_nothing_of_ours_asks_the_disk_on_the_event_loop(home: Path, env: dict[str, str]) -> None:
    """Not at a start, a restart, after a rename, nor without a notebook: homes may lie on slow disks."""
    write_notebook(home / "work/quiet.ipynb", torch_env=TINY)
    before = len(notes(env))
    with jupyter_server(home / "work", {**env, DISK: "1"}) as server:
        with server.session("quiet.ipynb", "watched") as session:
            session.execute(WHERE)
            session.restart()
            (home / "work/quiet.ipynb").rename(home / "work/renamed.ipynb")
            session.rename("renamed.ipynb")
        with server.session("no notebook", "watched", "console") as session:
            session.execute("import torch")
    steps = notes(env)[before:]
    assert {step["what"] for step in steps} == {"pre_launch", "launch_kernel", "cleanup"}
    assert {step["thread"] for step in steps} == {"MainThread"}
    assert [step for step in steps if step["disk"]] == []
