"""Consoles have no notebook: they run on the base alone, and leave nothing behind."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.conftest import TorchBase
from tests.support.server import jupyter_server
from tests.support.session import ANSWERS_WITHIN
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture
def console(torch_base_home: TorchBase, tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    """A console on "torch-cpu (shared)" at its first prompt."""
    # A notebook in the working directory is not the console's.
    (tmp_path / "Untitled.ipynb").write_text(
        '{"metadata": {"torch_env": {"extras": 5}}, "cells": [], "nbformat": 4, "nbformat_minor": 5}'
    )
    child = pexpect.spawn(
        str(Path(sys.executable).parent / "jupyter-console"),
        ["--kernel", "torch-cpu", "--simple-prompt"],
        cwd=tmp_path,
        env=torch_base_home.environment(tmp_path, TERM="dumb"),
        encoding="utf-8",
        timeout=ANSWERS_WITHIN,
        echo=False,
    )
    child.logfile_read = io.StringIO()
    try:
        child.expect_exact("In [1]: ")
        yield child
    finally:
        child.close(force=True)


def test_a_console_runs_on_the_base_and_leaves_nothing(console: pexpect.spawn[str], tmp_path: Path) -> None:
    """One line says that no notebook is known; torch is there; the overlay goes with the console."""
    # Not "until the next prompt": an idle message of an earlier request makes the console show it too early.
    console.sendline("import sys, torch; print('torch from', torch.__file__)")
    console.expect_exact("no notebook is known to this kernel: it runs on the base alone")
    console.expect(r"torch from (\S+)\r")
    assert "/torch-bases/" in str(console.match[1])
    console.sendline("print('at', sys.prefix)")
    console.expect(r"at (\S+)\r")
    assert str(console.match[1]).startswith(str(tmp_path / "cache"))
    assert "Debugger warning" not in str(console.logfile_read.getvalue())
    console.sendline("exit")
    console.expect(pexpect.EOF)
    console.wait()
    assert console.exitstatus == 0
    overlays = tmp_path / "cache/torch-overlays"
    wait_for(lambda: not list(overlays.glob("scratch-*")), "the kernel's end")


@pytest.mark.network
def test_a_console_in_jupyterlab_keeps_its_packages_over_a_restart(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """What ``%pip`` asks its user to restart for is there after the restart, and gone with the console."""
    env = torch_base_home.environment(tmp_path)
    overlays = tmp_path / "cache/torch-overlays"
    with jupyter_server(tmp_path / "work", env) as server:
        with server.session("Console 1", "torch-cpu", kind="console") as session:
            assert "no notebook is known" in session.execute("1").text
            assert session.execute("%pip install -q humanize").status == "ok"
            session.restart()
            assert session.execute("import humanize").status == "ok"
            assert len([*overlays.glob("scratch-[!w]*")]) == 1  # no fork server's
        assert not [*overlays.glob("scratch-[!w]*")]
