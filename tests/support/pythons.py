"""Which Pythons this machine has: found by name, believed only when they have answered."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .waiting import WITHIN

OLDEST = (3, 10)

_ASK = """\
import json, platform, sys, sysconfig
print(json.dumps({
    "executable": getattr(sys, "_base_executable", sys.executable),
    "version": sys.version_info[:3],
    "kind": platform.python_implementation(),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "final": sys.version_info.releaselevel == "final",
}))
import ensurepip, venv
"""


@dataclasses.dataclass(frozen=True)
class Python:
    """An interpreter that can make environments: its true executable and version."""

    executable: str
    version: tuple[int, int, int]

    @property
    def xy(self) -> str:
        """The minor version, as in ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


@functools.cache
def find_pythons() -> tuple[Python, ...]:
    """Every CPython from 3.10 on, one for each minor version (the newest), oldest first.

    Looked for on PATH, among pyenv's versions and among those that uv manages. Left out are
    previews, free-threaded builds (ipykernel's wheels are made for the others) and those
    without ``venv``.
    """
    newest: dict[tuple[int, int], Python] = {}
    for candidate in sorted({os.path.realpath(path) for path in _candidates()}):  # most are links to one
        python = _ask(candidate)
        known = newest.get(python.version[:2]) if python else None
        if python and (known is None or python.version > known.version):
            newest[python.version[:2]] = python
    return tuple(newest[key] for key in sorted(newest))


_NAME = re.compile(r"python3(\.\d+)?")


def _candidates() -> Iterator[str]:
    for folder in os.get_exec_path():
        if Path(folder).is_dir():
            yield from (str(path) for path in Path(folder).glob("python3*") if _NAME.fullmatch(path.name))
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from (str(path) for path in pyenv.glob("versions/3.*/bin/python3"))
    yield from _managed_by_uv()


def _managed_by_uv() -> Iterator[str]:
    uv = shutil.which("uv")
    if uv is None:
        return
    command = [uv, "python", "dir", "--no-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    if done.returncode == 0:
        yield from (str(path) for path in Path(done.stdout.strip()).glob("cpython-3.*/bin/python3"))


def _ask(candidate: str) -> Python | None:
    """What ``candidate`` says of itself; None where it does not run or does not fit."""
    try:
        command = [candidate, "-I", "-c", _ASK]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    except OSError:
        return None
    if done.returncode != 0:  # a pyenv shim of a version that is not chosen, or no venv module
        return None
    says = json.loads(done.stdout)
    version = tuple(says["version"])
    fits = says["kind"] == "CPython" and says["final"] and not says["free_threaded"] and version >= OLDEST
    return Python(says["executable"], version) if fits else None
