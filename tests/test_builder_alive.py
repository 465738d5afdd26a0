"""A builder counts as alive from the moment when it is started, whatever its overlay waited for before."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.display import Line
from kernel_provisioner.inkernel.gate import Gate
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.heartbeat import is_frozen
from kernel_provisioner.inkernel.shared.info import Info
from kernel_provisioner.launch.acquire import start_builder
from kernel_provisioner.overlay.store import Generation
from kernel_provisioner.settings import Settings
from tests.support.waiting import wait_for

BUILDER = """\
import json, os, sys
overlay = sys.argv[1]
with open(os.path.join(overlay, "seen"), "w") as file:
    file.write(str(os.stat(os.path.join(overlay, "builder.lock")).st_mtime))
with open(os.path.join(overlay, "overlay.new"), "w") as file:
    json.dump({"installed": []}, file)
os.replace(file.name, os.path.join(overlay, "overlay.json"))
"""
"""Notes the time of its lock's file before it has given a sign of life, which it never does."""


class Screen:
    """In place of a notebook."""

    def publish(self, data: dict[str, str], metadata: dict[str, object], **how: object) -> None:
        """As IPython's display publisher."""


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """One whose builder has left it to the first cell, long ago; a second kernel has just taken it."""
    path = tmp_path / "0001"
    site = path / f"lib/python3.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True)
    (site / f"{layout.BASE_PATHS}.pth").touch()
    (path / layout.PROGRESS).write_text('{"phase": "needs-cell", "message": "waits"}\n')
    (path / layout.USE_LOCK).touch()
    (path / layout.BUILDER_LOCK).touch()
    os.utime(path / layout.BUILDER_LOCK, (0, 0))
    return path


def test_one_that_a_cell_starts_is_alive_at_once(overlay: Path, tmp_path: Path) -> None:
    """The launch of another kernel of the notebook would take it for frozen, and end it."""
    script = tmp_path / "builder.py"
    script.write_text(BUILDER)
    gate = Gate(Info(overlay=str(overlay), builder=(sys.executable, str(script))))
    asyncio.run(gate.enter(Line(Screen())))
    assert gate.open, gate.failure
    began = float((overlay / "seen").read_text())
    os.utime(overlay / layout.BUILDER_LOCK, (began, began))
    assert not is_frozen(overlay)


def test_one_that_a_command_starts_is_alive_at_once(overlay: Path) -> None:
    """Before its process is there."""
    start_builder(Generation(overlay), Settings(str(overlay.parent), "", ""), "--cell-ran")
    assert not is_frozen(overlay)
    log = overlay / layout.BUILDER_LOG
    wait_for(lambda: (overlay / layout.FAILED).exists() or log.stat().st_size > 0, "the builder's end")
