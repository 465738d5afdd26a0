"""What a command leaves that was killed while it tried out an order: prune removes it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kernel_provisioner.builder.trial import trial
from kernel_provisioner.collector import Policy, collect
from kernel_provisioner.collector.trials import left_trials
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.model.request import Request
from kernel_provisioner.overlay.store import Store
from kernel_provisioner.settings import Settings
from tests.support.bases import REPOSITORY, Bench

TRIES = """
import sys
from pathlib import Path
from kernel_provisioner.base.registry import read_register
from kernel_provisioner.builder.trial import trial
from kernel_provisioner.model.request import Request
from kernel_provisioner.overlay.store import Store
from kernel_provisioner.settings import Settings
root = sys.argv[1]
with trial(Request(), read_register().bases[0], Store(Path(root)), Settings(root, "https://host/{tag}", "")):
    print("tries", flush=True)
    sys.stdin.read()
"""
DAY = 86400.0


def test_prune_removes_what_a_killed_command_has_left(bench: Bench) -> None:
    """Not what a command uses that runs, and a dry run says what would go."""
    bench.base()
    root = bench.home / "tried"
    tries = subprocess.Popen(
        [sys.executable, "-c", TRIES, str(root)],
        env=bench.env,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert tries.stdout
        assert tries.stdout.readline() == b"tries\n"
        (left,) = root.glob("trial-*")
        assert collect(root, Policy(everything=True), now=time.time() + 9 * DAY).removed == []
    finally:
        tries.kill()
        tries.communicate()
    dry = bench.command("prune", "--dry-run", TORCH_OVERLAY_ROOT=str(root)).stdout
    assert f"would remove {left.name} (overlay): the command that made it was killed" in dry
    assert "1 overlay would be removed" in dry
    assert (left / "overlay" / layout.SPEC).exists()
    wet = bench.command("prune", TORCH_OVERLAY_ROOT=str(root)).stdout
    assert f"removing {left.name} (overlay): " in wet
    assert not left.exists()


def test_a_trial_that_ends_is_not_taken_for_one_that_was_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its directory goes it is still held."""
    base, root, seen = bench.base(), bench.home / "ends", []
    remove = tempfile.TemporaryDirectory.cleanup

    def watched(directory: tempfile.TemporaryDirectory[str]) -> None:
        seen.append(left_trials(root, time.time()))
        remove(directory)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", watched)
    with trial(Request(), base, Store(root), Settings(str(root), "https://host/{tag}", "")):
        pass
    assert seen == [[]]
    assert list(root.glob("trial-*")) == []


def test_what_an_earlier_version_left_goes_after_a_day_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    """That had no lock file to tell whether it is in use."""
    now = time.time()
    tmp_path.chmod(0o700)
    for name in ("trial-old", "trial-young"):
        (tmp_path / name / "overlay").mkdir(parents=True)
        (tmp_path / name / "overlay" / layout.SPEC).touch()
    os.utime(tmp_path / "trial-old", (now - 2 * DAY,) * 2)
    (tmp_path / "trial-of-mine").mkdir()
    os.utime(tmp_path / "trial-of-mine", (now - 2 * DAY,) * 2)
    removed = collect(tmp_path, Policy(), now=now).removed
    assert [one.path.parent.name for one in removed] == ["trial-old"]
    assert sorted(path.name for path in tmp_path.glob("trial-*")) == ["trial-of-mine", "trial-young"]
