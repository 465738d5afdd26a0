"""A sibling, forked on each Python that there is: a child of the same parent, with all that a fork has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parts import need
from tests.support.pythons import Python

INKERNEL = Path(__file__).parents[1] / "kernel_provisioner/inkernel"
PREFIX = f"""
import importlib, json, os, sys, types
package = types.ModuleType("side")
package.__path__ = [{str(INKERNEL)!r}]
sys.modules["side"] = package
clone = importlib.import_module("side.clone")
"""
FORK = f"""{PREFIX}
import random, subprocess, threading
cloner, ran = clone.Cloner(), []
os.register_at_fork(after_in_child=lambda: ran.append("hook"))
for _ in range(2):
    pid = cloner.sibling()
    if pid == 0:
        thread = threading.Thread(target=ran.append, args=("thread",))
        thread.start()
        thread.join()
        ran.append(subprocess.run(["true"]).returncode)
        child = os.fork()
        if child == 0:
            os._exit(7)
        ran.append(os.waitpid(child, 0)[1] >> 8)
        ran += [os.getppid(), random.random()]
        os.write(1, (json.dumps(ran) + "\\n").encode())
        os._exit(5)
    os.write(2, f"{{pid}}\\n".encode())
"""
REST = f"""{PREFIX}
import threading
before = clone.threads()
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
during = clone.threads()
os.register_at_fork(before=lambda: (stop.set(), thread.join()))
clone.put_threads_away()
print(json.dumps([before, during, clone.threads()]))
"""


@pytest.fixture(autouse=True)
def linux() -> None:
    """Elsewhere every start is a normal one."""
    need(sys.platform == "linux", "warm starts need Linux")


def test_a_sibling_is_a_child_of_its_forkers_parent(each_python: Python) -> None:
    """It runs Python's hooks, threads and processes of its own, and its status is this process's to ask."""
    # From 3.12 on Python warns of forks beside a thread, also one that has just ended.
    command = [each_python.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one[:-1] for one in told] == [["hook", "thread", 0, 7, os.getpid()]] * 2
    assert told[0][-1] != told[1][-1], "each has random numbers of its own"
    for pid in done.stderr.split():
        assert os.waitstatus_to_exitcode(os.waitpid(int(pid), 0)[1]) == 5


def test_threads_that_end_before_a_fork_are_put_away(each_python: Python) -> None:
    """As OpenBLAS's do; then this process has a single one again."""
    command = [each_python.executable, "-W", "ignore", "-c", REST]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, 2, 1]
