"""What a forked process has of our pools, locks and kernels: its own, made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.bases import REPOSITORY
from tests.support.notebooks import write_notebook
from tests.support.runners import run_well
from tests.support.waiting import WITHIN

PER_PROCESS = """
import os, threading
from kernel_provisioner.system.forks import PerProcess
lock = PerProcess(threading.Lock)
assert lock() is lock()
before = lock()
before.acquire()
if os.fork() == 0:
    os._exit(0 if lock().acquire(blocking=False) and lock() is not before else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]), lock() is before)
"""

WAKER = """
import asyncio, os, select, signal
from kernel_provisioner.provisioner import _aside, _result

loop = asyncio.new_event_loop()
if (sibling := os.fork()) == 0:
    while True:
        select.select([loop._ssock], [], [])
        try:
            loop._ssock.recv(1)
        except BlockingIOError:
            pass  # the event loop was quicker

async def wait_for_many():
    for number in range(300):
        await _result(_aside(lambda: number))

loop.run_until_complete(wait_for_many())
os.kill(sibling, signal.SIGKILL)
print("done")
"""
"""A sibling reads what wakes the event loop, as it does where both have it from before a fork."""

POOL = """
import multiprocessing, sys
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

def execute(path):
    config = Config(KernelManager={"transport": "ipc", "ip": path})  # of TCP's ports two may get the same
    nb = nbformat.read(path, 4)
    resources = {"metadata": {"path": "."}}
    NotebookClient(nb, kernel_name="torch-cpu", resources=resources, config=config).execute()
    return "".join(output["text"] for output in nb.cells[0].outputs).strip()

print(execute(sys.argv[1]))
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(*pool.map(execute, sys.argv[1:]), sep="\\n")
print(execute(sys.argv[1]))
"""


def test_each_process_makes_its_own() -> None:
    """A lock that is held when a process forks is free in the child, and held in the parent."""
    done = subprocess.run(
        [sys.executable, "-c", PER_PROCESS], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("0 True\n", 0), done.stderr


def test_a_launch_goes_on_where_another_process_takes_what_wakes_its_event_loop() -> None:
    """jupyter_client keeps a thread's event loop, so that children of one fork share its waker."""
    done = subprocess.run(
        [sys.executable, "-c", WAKER], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        timeout=WITHIN,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


@pytest.mark.system
@pytest.mark.fault(36)
@pytest.mark.torch
@pytest.mark.slow
def test_kernels_start_in_a_process_that_forked_and_in_its_children(
    tmp_path: Path, torch_base_home: TorchBase
) -> None:
    """nbclient in a pool of ``multiprocessing``, in a program that has started a kernel before."""
    names = [f"forked-{number}.ipynb" for number in range(2)]
    for name in names:
        write_notebook(tmp_path / name, "import os, torch\nprint(torch.ones(2).sum().item())")
    env = torch_base_home.environment(tmp_path / "home")
    done = run_well([sys.executable, "-c", POOL, *names], tmp_path, env)
    assert done.stdout.split() == ["2.0"] * 4
