"""Programs that run notebooks with no frontend, as a shell or a job starts them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .waiting import patient

RUNS_WITHIN = patient(240.0)
"""Seconds for one runner among four, its kernel and a build of two small wheels, on a busy machine."""


def installed(script: str) -> str:
    """A console script of this environment, whatever is on PATH."""
    return str(Path(sys.executable).parent / script)


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command to its end, good or bad, in ``cwd``."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=RUNS_WITHIN,
        check=False,
    )


def run_well(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command to its good end; fails with what it said on standard error."""
    done = run(command, cwd, env)
    assert done.returncode == 0, done.stderr
    return done
