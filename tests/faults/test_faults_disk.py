"""Rows 9 to 11: a full disk, a quota, no inodes, no file descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel import gate
from kernel_provisioner.overlay import store
from kernel_provisioner.system import os_errors
from kernel_provisioner.uv.messages import system_errors
from tests.support.oracle import explains
from tests.support.parts import need
from tests.support.pauses import Paused

from .scene import Scene, limited, nobody_left

LARGE = 6_000_000
"""Bytes of the package that does not fit."""

SmallDisk = Callable[[str], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mounts a disk of memory with these options (``size=3m``); called again, it changes them."""
    need(os.geteuid() == 0, "mounting a small disk takes root")
    place = tmp_path / "disk"

    def mount(options: str) -> Path:
        again = "remount," if place.exists() else ""
        place.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{again}mode=700,{options}", "tmpfs", place], check=True
        )
        return place

    yield mount
    if place.exists():
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    """Leave not a byte."""
    with contextlib.suppress(OSError), (disk / "ballast").open("ab", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def publish_large(scene: Scene) -> None:
    """A package of some size and of many files."""
    files: dict[str, str | bytes] = {f"large/part{number}.py": "" for number in range(200)}
    scene.bench.publish(
        "large", files={**files, "large/__init__.py": "", "large/data.bin": os.urandom(LARGE)}
    )


@pytest.mark.root
@pytest.mark.parametrize("variable", ["UV_CACHE_DIR", "TORCH_OVERLAY_ROOT"])
@pytest.mark.parametrize(
    ("options", "left"),
    [
        pytest.param("size=3m,nr_inodes=9000", "3.1 MB", marks=pytest.mark.fault(9)),
        pytest.param("size=60m,nr_inodes=150", "of 150 files", marks=pytest.mark.fault(11)),
    ],
)
def test_a_full_disk_is_named_with_what_is_needed(
    scene: Scene, small_disk: SmallDisk, variable: str, options: str, left: str
) -> None:
    """No bytes or no inodes, in uv's cache or among the overlays; with more of it the next try succeeds."""
    publish_large(scene)
    notebook, disk = scene.notebook("large"), small_disk(options)
    scene.env |= {"UV_CACHE_DIR": str(scene.home / "cache"), variable: str(disk), "UV_LINK_MODE": "copy"}
    scene.root = Path(scene.env["TORCH_OVERLAY_ROOT"])
    oracle = scene.oracle()
    told = scene.launch(notebook)
    assert told["state"] == store.State.FAILED.value
    explains(told["build"], cause=r"disk is full at .*6\.0 MB or more needed", path=disk, step=variable)
    assert left in told["build"]["why"]
    assert not any(scene.root.glob("*/*/staging")), "what was half unpacked gives its room back"
    oracle.unharmed()
    small_disk("size=60m,nr_inodes=9000")
    oracle.next_try(notebook, scene.env)


@pytest.mark.root
@pytest.mark.fault(9)
def test_a_ready_overlay_launches_on_a_full_disk(scene: Scene, small_disk: SmallDisk) -> None:
    """Not a byte is left: who needs nothing new starts as ever; a new notebook is told of the disk."""
    disk = small_disk("size=9m")
    scene.root = disk / "overlays"
    scene.env["TORCH_OVERLAY_ROOT"] = str(scene.root)
    scene.bench.publish("there")
    notebook, other = scene.notebook("there"), scene.notebook("there", "torch", name="other")
    overlay = scene.entered(notebook)
    oracle = scene.oracle()
    fill(disk)
    scene.serves(notebook, overlay, "there")
    told = scene.launch(other)
    explains(told["failure"], cause="disk is full at", path=disk, step="free space .* TORCH_OVERLAY_ROOT")
    oracle.unharmed()
    (disk / "ballast").unlink()
    oracle.next_try(other, scene.env)


@pytest.mark.root
@pytest.mark.fault(9)
@pytest.mark.parametrize("point", ["begun", "filled", "unpacked-wheel", "verified"])
def test_a_disk_that_fills_up_during_a_build(
    scene: Scene, small_disk: SmallDisk, tmp_path: Path, point: str
) -> None:
    """What was unpacked is given up and makes room for the reason; before that the kernel sees it itself."""
    disk, paused = small_disk("size=9m"), Paused(tmp_path, point)
    scene.root = disk / "overlays"
    scene.env |= {"TORCH_OVERLAY_ROOT": str(scene.root), "UV_LINK_MODE": "copy"}
    scene.bench.publish("late", files={"late/__init__.py": "", "late/data.bin": os.urandom(1_000_000)})
    notebook = scene.notebook("late")
    oracle = scene.oracle()
    with scene.launching(notebook, paused.env) as launch:
        paused.reached()
        fill(disk)
        paused.go()
        told = launch.result()
    nobody_left(scene.root)
    early = point == "begun"
    assert told["state"] == (store.State.ABANDONED if early else store.State.FAILED).value
    failure = gate._died(Path(told["overlay"])) if early else told["build"]
    explains(failure, cause="disk is full at", path=disk, step="TORCH_OVERLAY_ROOT")
    assert not list(scene.root.glob("*/0001/.*.json.*")), "no half of a state file stays"
    oracle.unharmed()
    (disk / "ballast").unlink()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(10)
@pytest.mark.parametrize("most", [1_000_000, 100])
def test_a_limit_on_the_size_of_files_is_named(scene: Scene, most: int) -> None:
    """One that uv runs into, and one that leaves no room for our own files; no core is dumped."""
    publish_large(scene)
    notebook = scene.notebook("large")
    oracle = scene.oracle()
    told = scene.launch(notebook, prefix=limited(fsize=most), UV_CACHE_DIR=str(scene.home / "cache"))
    failure = told["failure"] or told["build"]
    explains(failure, cause="may not grow any larger", path=scene.home, step="ulimit -f unlimited")
    assert not list(Path("/").glob("core*"))
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(11)
@pytest.mark.parametrize("most", [6, 9, 12, 14])
def test_too_few_file_descriptors_are_named(scene: Scene, most: int) -> None:
    """The launch explains itself in a kernel, or its build does; a ready overlay needs hardly any."""
    scene.bench.publish("many")
    notebook = scene.notebook("many")
    oracle = scene.oracle()
    told = scene.launch(notebook, prefix=limited(nofile=most))
    explains(told["failure"] or told["build"], cause="too many open files", step="ulimit -n 4096")
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    ("number", "cause", "step"),
    [
        (errno.EDQUOT, "disk is full", "free space"),
        (errno.ENOSPC, "disk is full", "free space"),
        (errno.EFBIG, "grow any larger", "ulimit -f"),
        (errno.EMFILE, "no more files", "ulimit -n"),
        (errno.EROFS, "nothing can be written", "TORCH_OVERLAY_ROOT"),
    ],
)
def test_our_own_errors_and_uvs_are_told_alike(tmp_path: Path, number: int, cause: str, step: str) -> None:
    """A quota is not available everywhere; its error can."""
    path = tmp_path / "gone" / "file"
    own = os_errors.lack_of(OSError(number, os.strerror(number), str(path)), Path("/"))
    said = f"failed to write to file `{path}`: {os.strerror(number)} (os error {number})"
    uvs = os_errors.lack_in(said, system_errors(said))
    assert own is not None
    assert uvs is not None
    for lack in (own, uvs):
        told = {"what": lack.what, "why": lack.why, "fix": lack.fix}
        explains(told, cause=cause, path=tmp_path, step=step)
    assert os_errors.lack_of(OSError(errno.ECONNREFUSED, "refused"), tmp_path) is None
    refused = "error sending request: connection refused (os error 111)"
    assert os_errors.lack_in(refused, system_errors(refused)) is None


@pytest.mark.root
@pytest.mark.fault(13)
def test_a_disk_that_runs_no_programs_is_told_with_the_extras(scene: Scene, small_disk: SmallDisk) -> None:
    """Mounted noexec: pure packages work, and why others do not stands in the first output."""
    scene.bench.publish("pure-enough")
    disk = small_disk("size=60m,noexec")
    told = scene.launch(scene.notebook("pure-enough"), TORCH_OVERLAY_ROOT=str(disk / "overlays"))
    assert told["state"] == "ready", told
    (notice,) = [line for line in told["notices"] if "noexec" in line]
    assert str(disk) in notice
    assert "TORCH_OVERLAY_ROOT" in notice
    without = scene.launch(scene.notebook(name="bare"), TORCH_OVERLAY_ROOT=str(disk / "overlays"))
    assert not [line for line in without["notices"] if "noexec" in line]
