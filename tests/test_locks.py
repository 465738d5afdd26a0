"""Locks that last as long as any process holds them, and end with it however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kernel_provisioner.errors import LockTimeout
from kernel_provisioner.inkernel.shared import flock
from kernel_provisioner.system import locks
from tests.support.waiting import WITHIN, wait_for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock file will be."""
    return tmp_path / "a.lock"


def test_shared_locks_go_together_and_an_exclusive_one_waits(path: Path) -> None:
    """Two kernels on one base; whoever wants to remove it does not get in."""
    with locks.shared(path), locks.shared(path), pytest.raises(LockTimeout, match=r"a\.lock is locked"):
        locks.exclusive(path)
    locks.exclusive(path).release()


def test_an_exclusive_lock_is_alone(path: Path) -> None:
    """Two builders, one overlay."""
    with locks.exclusive(path):
        for again in (locks.shared, locks.exclusive):
            with pytest.raises(LockTimeout):
                again(path)


def test_a_lock_is_waited_for(path: Path) -> None:
    """Whoever gives a time-out gets the lock once it is free."""
    first = locks.exclusive(path)
    threading.Timer(0.2, first.release).start()
    locks.exclusive(path, timeout=WITHIN).release()


def test_a_timeout_names_who_holds_it(path: Path) -> None:
    """By pid, where the system tells."""
    with locks.exclusive(path), pytest.raises(LockTimeout) as caught:
        locks.exclusive(path, timeout=0.05)
    assert str(os.getpid()) in caught.value.why or not Path("/proc").exists()


@pytest.mark.fault(25)
def test_a_child_that_was_handed_the_lock_holds_it_for_its_life(path: Path) -> None:
    """The parent lets go, the child goes on holding; even killed it lets go at once."""
    lock = locks.shared(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.fd,))
    lock.release()
    assert locks.is_held(path)
    assert child.pid in flock.holders(path)
    child.kill()
    child.wait()
    wait_for(lambda: not locks.is_held(path), "the lock is free")
    assert flock.holders(path) == []


def test_a_child_that_was_not_handed_the_lock_does_not_hold_it(path: Path) -> None:
    """Descriptors are not inherited by chance."""
    lock = locks.exclusive(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock.release()
    assert not locks.is_held(path)
    child.kill()
    child.wait()


def test_a_lock_file_that_was_replaced_meanwhile_is_not_believed(path: Path) -> None:
    """Two who waited on files of one name must not both hold it: the file in place counts."""
    stale = locks.exclusive(path)
    path.unlink()
    with locks.exclusive(path) as fresh:
        assert os.fstat(fresh.fd).st_ino == path.stat().st_ino
        stale.release()
        assert locks.is_held(path)


def test_a_missing_file_is_not_held_and_not_made(path: Path) -> None:
    """Looking changes nothing."""
    assert not locks.is_held(path)
    assert not path.exists()


def test_a_file_of_another_user_can_be_held_shared(path: Path) -> None:
    """A system base: its lock file can only be read."""
    path.touch(mode=0o444)
    with locks.shared(path):
        assert locks.is_held(path)


def test_a_link_in_the_place_of_a_lock_is_refused(path: Path) -> None:
    """In a directory that others can write, a link could make us create files elsewhere."""
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        locks.exclusive(path)
    assert not (path.parent / "elsewhere").exists()


def test_letting_go_twice_is_harmless(path: Path) -> None:
    """And never closes somebody else's descriptor."""
    lock = locks.exclusive(path)
    lock.release()
    with path.open() as other:
        lock.release()
        assert other.read() == ""


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("options", "alone"),
    [
        ("nfs disk:/home rw,vers=3,nolock,local_lock=all", True),
        ("nfs disk:/home rw,vers=3,local_lock=none", False),
        ("lustre 10.0.0.1@tcp:/work rw,localflock", True),
        ("lustre 10.0.0.1@tcp:/work rw,flock", False),
        ("ext4 /dev/sda1 rw,nolockdown", False),
    ],
)
def test_a_disk_whose_locks_other_machines_do_not_see_is_known(
    path: Path, tmp_path: Path, options: str, *, alone: bool
) -> None:
    """By how it is mounted: there a lock that nobody holds here says nothing."""
    path.touch()
    device = path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:0 / / rw - tmpfs tmpfs rw,nolock\n"
        f"36 22 {os.major(device)}:{os.minor(device)} / {tmp_path} rw,noatime shared:1 - {options}\n"
    )
    assert locks.of_this_machine(path, mounts) is alone
    assert not locks.of_this_machine(path, tmp_path / "none")
    assert not locks.of_this_machine(tmp_path / "gone", mounts)
