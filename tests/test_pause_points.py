"""The points at which other tests hold this program: silent unless asked, and real when asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.pauses import Paused
from tests.support.waiting import WITHIN

CODE = "from kernel_provisioner.system.pause_points import pause; pause('here'); print('went on')"


def test_nothing_happens_unless_the_environment_names_the_point(tmp_path: Path) -> None:
    """Neither for another point nor for none."""
    other = Paused(tmp_path, "there")
    for env in ({}, other.env):
        done = subprocess.run(
            [sys.executable, "-c", CODE], env={**os.environ, **env}, check=True, timeout=WITHIN
        )
        assert done.returncode == 0
    assert other.waiting == []


def test_a_process_waits_there_until_it_is_let_go(tmp_path: Path) -> None:
    """It says who it is, and goes on only then."""
    point = Paused(tmp_path, "here")
    with subprocess.Popen(
        [sys.executable, "-c", CODE], env={**os.environ, **point.env}, stdout=subprocess.PIPE, text=True
    ) as child:
        assert point.reached() == child.pid
        assert child.poll() is None
        point.go()
        assert child.communicate(timeout=WITHIN)[0] == "went on\n"
