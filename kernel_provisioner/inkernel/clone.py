"""Fork a process that is this one's sibling: a child of the same parent.

That is ``clone`` with ``CLONE_PARENT``, which neither Python nor libc offers. What ``os.fork`` and
libc's ``fork`` do around the system call is done here as far as a process with a single thread
needs it: Python's own hooks, and where the C library keeps its thread's number. The hooks of
other libraries (``pthread_atfork``) do not run, so that each must have come to rest before:
``put_threads_away`` lets them, and ``threads`` tells whether they have.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time

# Numbers of system calls: clone, get_robust_list, set_robust_list; whether clone's last two arguments
# are (child's tid, thread area), or the other way round.
_CALLS = {"x86_64": (56, 274, 273, True), "aarch64": (220, 100, 99, False)}
_CLONE_PARENT, _CHILD_CLEARTID, _CHILD_SETTID = 0x00008000, 0x00200000, 0x01000000
_PR_GET_TID_ADDRESS = 40
_GONE_WITHIN = 1.0  # seconds


class CannotClone(Exception):
    """This machine cannot do it; the message says why."""


class Cloner:
    """Knows what the machine needs for a sibling; raises CannotClone where it has none."""

    def __init__(self) -> None:
        machine = platform.machine()
        if not (os.path.exists("/proc/self/task") and machine in _CALLS):
            raise CannotClone(f"warm starts need Linux on {' and '.join(_CALLS)}, not for {machine}")
        self._clone, get_robust_list, self._set_robust_list, self._tid_first = _CALLS[machine]
        self._libc = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: nothing runs in between
        self._libc.syscall.restype = ctypes.c_long
        self._tid = ctypes.c_void_p()
        if self._libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(self._tid), 0, 0, 0) or not self._tid.value:
            raise CannotClone(
                "this Linux does not tell where libc keeps a thread's number (PR_GET_TID_ADDRESS)"
            )
        self._robust, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call(get_robust_list, 0, ctypes.addressof(self._robust), ctypes.addressof(self._size))

    def sibling(self) -> int:
        """As ``os.fork``: 0 in the new process, its pid here; raises OSError."""
        flags = _CLONE_PARENT | _CHILD_SETTID | _CHILD_CLEARTID | signal.SIGCHLD
        tid = self._tid.value or 0
        words = (flags, 0, 0, tid, 0) if self._tid_first else (flags, 0, 0, 0, tid)
        python = ctypes.pythonapi
        python.PyOS_BeforeFork()
        pid = int(self._libc.syscall(*map(ctypes.c_long, (self._clone, *words))))
        if pid == 0:
            python.PyOS_AfterFork_Child()
            self._call(self._set_robust_list, self._robust.value or 0, self._size.value)
            return 0
        error = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(error, os.strerror(error))
        return pid

    def _call(self, number: int, *words: int) -> None:
        if self._libc.syscall(*map(ctypes.c_long, (number, *words))) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def threads() -> int:
    """How many threads this process has, Python's and others'."""
    return len(os.listdir("/proc/self/task"))


def put_threads_away() -> None:
    """Let libraries end the threads that they keep ready, as they do before any fork: OpenBLAS above all.

    They start them again, here or in what was forked, once there is work. A thread that was joined is
    still listed for a moment: it is waited for, but not for long.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + _GONE_WITHIN
    while threads() != 1 and time.monotonic() < deadline:
        time.sleep(0.001)
