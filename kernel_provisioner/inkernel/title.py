"""What the system shows as a process's command line and environment (``/proc/PID/cmdline``, ``ps``).

Linux keeps where in memory these lie. A fork's are its parent's, so they are laid down again, and
Linux is told. It asks for no privilege, but takes only a whole map of the process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_SAME_PROGRAM = 2**32 - 1  # in the place of a descriptor of another one


class _Map(ctypes.Structure):
    """``struct prctl_mm_map``; each name but the last three is a field of ``/proc/self/stat``, or ``brk``."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in (
            "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
            "arg_start", "arg_end", "env_start", "env_end", "auxv",
        )),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]  # fmt: skip


_STAT = {
    "start_code": 26,
    "end_code": 27,
    "start_stack": 28,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
}
_shown: list[object] = []  # memory that the system reads from now on


def retitle(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Show ``argv`` and ``environ`` as those of this process; raises OSError."""
    words = b"".join(os.fsencode(word) + b"\0" for word in argv)
    values = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environ.items())
    memory = ctypes.create_string_buffer(words + values)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # from the third field on
    start = ctypes.addressof(memory)
    layout = _Map(
        **{name: int(fields[number - 3]) for name, number in _STAT.items()},
        brk=libc.sbrk(0),
        arg_start=start,
        arg_end=start + len(words),
        env_start=start + len(words),
        env_end=start + len(words) + len(values),
        exe_fd=_SAME_PROGRAM,
    )
    size = ctypes.c_ulong(ctypes.sizeof(layout))
    if libc.prctl(_PR_SET_MM, ctypes.c_ulong(_PR_SET_MM_MAP), ctypes.byref(layout), size, ctypes.c_ulong(0)):
        error = ctypes.get_errno()
        raise OSError(error, f"the kernel's command line cannot be shown: {os.strerror(error)}")
    _shown[:] = [memory]
