"""The base with the real torch that all workers of one test run share: the first to need it makes it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .environ import clean_environment
from .waiting import patient

MADE_WITHIN = patient(1200.0)
"""Seconds for making the base: torch is some 200 MB to fetch, and its bytecode is compiled."""


def shared_base(place: Path) -> Path:
    """The Jupyter data directory that holds the base, made below ``place`` by the command that a user types.

    Workers that come meanwhile wait; where it could not be made, each raises AssertionError with the
    reason, and none tries again.
    """
    place.mkdir(exist_ok=True)
    reason = place / "failed"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not reason.exists():
            reason.write_text(_make(place / "home"))
    assert not reason.read_text(), f"no base with the real torch could be made:\n{reason.read_text()}"
    return place / "home/jupyter-data"


def remove_shared_base(place: Path) -> None:
    """Remove what ``shared_base`` has made, if it was asked: a base is read-only, and a gigabyte."""
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)


def _make(home: Path) -> str:
    """Make the base; what the command said where it failed, otherwise nothing."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "create", "cpu", "--user"]
    home.mkdir()
    done = subprocess.run(
        command,
        cwd=home,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=MADE_WITHIN,
        check=False,
    )
    return f"{done.stderr}{done.stdout}" if done.returncode else ""
