"""Kernels without a notebook: each has an environment of its own, and takes that and nothing else along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.kernel import remove_unused
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay.store import State
from tests.support.bases import REPOSITORY, Bench
from tests.support.holders import held
from tests.support.shelf import Shelf

STARTS = {
    "a client that knows no provisioners": """
from kernel_provisioner.launch.argv import main
main(["-f", "connection.json"])
""",
    "a fork server": """
from pathlib import Path
from kernel_provisioner.base import registry
from kernel_provisioner.settings import load_settings
from kernel_provisioner.warm.fork_request import WarmContext
from kernel_provisioner.warm.server import _place
(base,) = registry.read_register().bases
Path(load_settings().overlay_root).mkdir(exist_ok=True, mode=0o700)
_place(WarmContext(base, load_settings()))
""",
}
SAME_PID = "import os; os.getpid = lambda: 7\n"
"""As in containers, one after the other, and on hosts that share a home."""


@pytest.mark.parametrize("how", STARTS)
def test_two_processes_with_one_pid_share_nothing(bench: Bench, how: str) -> None:
    """The second would get what was installed by hand for the first, or lose it with that."""
    bench.base()
    root = bench.home / how.replace(" ", "-")
    env = {**bench.env, "TORCH_OVERLAY_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
    for _ in range(2):
        words = [sys.executable, "-c", SAME_PID + STARTS[how]]
        done = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, check=False)
        assert "overlay" not in done.stderr, done.stderr
    found = sorted(root.glob("scratch-*/*"))
    assert [path.name for path in found if path.name.isdigit()] == ["0001", "0001"], found


def test_a_kernel_takes_its_environment_along_unless_another_uses_it(tmp_path: Path) -> None:
    """Nor while another one is launched there."""
    shelf = Shelf(tmp_path)
    directory = shelf.store.scratch_dir("one")
    generation = shelf.fill(shelf.store.begin(directory), State.READY)
    (directory / layout.LAUNCH_LOCK).touch()
    with held(generation.path / layout.USE_LOCK):
        remove_unused(directory)
        assert generation.path.exists()
    with held(directory / layout.LAUNCH_LOCK, "exclusive"):
        remove_unused(directory)
        assert generation.path.exists()
    remove_unused(directory)
    assert not os.path.lexists(directory)
    remove_unused(directory)  # and one that is gone is no error
