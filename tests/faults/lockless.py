"""A disk that keeps no locks: programs for which ``flock`` there fails, or excludes nobody."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.parts import need

REPOSITORY = Path(__file__).parents[2]

_FLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int flock(int fd, int how) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < (ssize_t) strlen(DISK) || strncmp(path, DISK, strlen(DISK)))
        return ((int (*)(int, int)) dlsym(RTLD_NEXT, "flock"))(fd, how);
    if (!ERROR) return 0;
    errno = ERROR;
    return -1;
}
"""
# Also the builder, whose environment the launch makes again, starts over with the library.
_AGAIN = """\
import os, sys
if os.environ.get("LD_PRELOAD") != {library!r}:
    os.execve(sys.executable, sys.orig_argv, {{**os.environ, "LD_PRELOAD": {library!r}}})
"""


class Lockless:
    """Everything below ``disk`` keeps no locks for what runs with ``python``, and for all that it starts.

    ``error`` is what ``flock`` fails with there; with 0 it lets everybody have every lock.
    """

    def __init__(self, home: Path, disk: Path, error: int) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        need(compiler and sys.platform == "linux", "Linux and a C compiler (apt install gcc)")
        assert compiler
        home.mkdir()
        disk.mkdir(exist_ok=True)
        source, library = home / "flock.c", home / "flock.so"
        source.write_text(_FLOCK)
        defines = [f'-DDISK="{disk.resolve()}/"', f"-DERROR={error}"]
        subprocess.run([compiler, "-shared", "-fPIC", *defines, "-o", library, source, "-ldl"], check=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
        self.python = str(home / "venv/bin/python")
        site = next((home / "venv").glob("lib/python*/site-packages"))
        site.joinpath("lockless.py").write_text(_AGAIN.format(library=str(library)))
        places = [str(REPOSITORY), *{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]
        site.joinpath("lockless.pth").write_text("\n".join([*places, "import lockless"]) + "\n")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command of ``sys.executable``, which let it run with ``python``."""
        return ("/bin/sh", "-c", f'shift; exec {self.python} "$@"', "sh")
