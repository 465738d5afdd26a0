"""A build leaves one processor to the kernel that it is for, for as long as it decides what to install."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from kernel_provisioner.builder.processors import one_left
from tests.support.bases import REPOSITORY, Bench
from tests.support.parts import need
from tests.support.waiting import WITHIN, wait_for


def test_one_processor_is_left_to_the_kernel_for_a_while() -> None:
    """Off one of those that there were, also for commands; afterwards on all of them again."""
    need(sys.platform == "linux", "only Linux lets a process choose among processors")
    there = os.sched_getaffinity(0)
    need(len(there) > 1, "this machine has one processor, which cannot be left to anybody")
    code = "import os; print(len(os.sched_getaffinity(0)))"
    with one_left():
        kept = os.sched_getaffinity(0)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert kept < there
    assert int(said) == len(kept) == len(there) - 1
    assert os.sched_getaffinity(0) == there


@pytest.mark.parametrize(
    ("phase", "path", "left"),
    [("deciding", "/simple/{name}/", 1), ("installing", "/simple/{name}-1.0-py3-none-any.whl", 0)],
    ids=["deciding", "installing"],
)
def test_uv_keeps_off_one_processor_while_a_build_decides(
    bench: Bench, phase: str, path: str, left: int
) -> None:
    """That falls together with the start of the kernel; the install may have all there are."""
    need(sys.platform == "linux", "only Linux lets a process choose among processors")
    there = os.sched_getaffinity(0)
    need(len(there) > 1, "this machine has one processor, which cannot be left to anybody")
    bench.publish(phase)
    bench.index.misbehave(path.format(name=phase), "wait")
    generation = bench.begin(bench.base(), phase)
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=bench.env, cwd=REPOSITORY) as builder:
        wait_for(lambda: any(one.path == path.format(name=phase) for one in bench.index.asked), "uv waits")
        started = psutil.Process(builder.pid).children(recursive=True)
        processors = [process.cpu_affinity() for process in started if process.name() == "uv"]
        bench.index.behave()
        assert builder.wait(WITHIN) == 0
    assert [len(there) - len(used) for used in processors if used is not None] == [left]
