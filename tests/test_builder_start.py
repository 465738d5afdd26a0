"""A cell waits for the builder to start: it imports nothing that takes long and that it can do without."""

from __future__ import annotations

import json
import subprocess
import sys

from kernel_provisioner.overlay import store
from tests.support.bases import REPOSITORY, Bench

SLOW = frozenset({
    "argparse", "asyncio", "concurrent.futures", "dataclasses", "email", "inspect", "logging", "packaging",
    "ssl", "tempfile", "traitlets", "unittest", "urllib.request",
})  # fmt: skip
BUILD = """
import json, sys
from kernel_provisioner.builder.command import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]))
"""


def test_a_build_of_which_nothing_is_known_imports_nothing_slow(bench: Bench) -> None:
    """From the start to the published overlay, resolution included. (Where uv keeps its cache is known.)"""
    bench.publish("first")
    assert bench.overlay(bench.base(), "first").ready
    bench.publish("light")
    generation = bench.begin(bench.base(), "light")
    command = [sys.executable, "-c", BUILD, str(generation.path)]
    said = subprocess.run(command, env=bench.env, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    status, modules = json.loads(said.stdout)
    assert status == 0
    assert generation.state() is store.State.READY
    assert "kernel_provisioner.index.pytorch" in modules  # which only a resolution needs
    assert sorted(SLOW.intersection(modules)) == []
