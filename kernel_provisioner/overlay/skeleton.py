"""Write the environment of an overlay, in milliseconds and without a subprocess.

A plain venv (PEP 405) that adds the base's site directories after its own. uv and pip count the
base's distributions as installed, because each has a receipt here; nothing they do reaches the
base, because these are files of the overlay's own.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from ..errors import CorruptState
from ..manifest import BaseManifest

PREFIX_MARK = "@overlay@"
BASE_PATHS = "zzz_torch_base"  # sorts last, so that packages of the overlay come first
CONSTRAINTS = "constraints.txt"
# Import lines in .pth files end with Python 3.18; a .start file takes their place from 3.15 on, and
# switches them off: https://peps.python.org/pep-0829/
HOOK = "_torch_base_site"
_HOOK_MODULE = '''"""Lets site.getsitepackages() list the base, which some packages search for libraries."""

import site


def extend():
    if {prefix!r} not in site.PREFIXES:
        site.PREFIXES.append({prefix!r})
'''
_LONGEST_SHEBANG = 127  # bytes; what Linux and macOS are sure to read of a first line

# `%uv` runs `python -m uv`. The base holds no uv (50 MB), the server's own serves.
_UV_MODULE = '''"""Runs the uv that came with kernel-provisioner, as `python -m uv`."""

import os
import sys

os.execv({uv!r}, [{uv!r}, *sys.argv[1:]])
'''


def write_skeleton(prefix: Path, base: BaseManifest, skeleton_file: Path, *, uv: str) -> None:
    """Make ``prefix`` (an existing, empty directory) an overlay of ``base`` without extras.

    ``skeleton_file`` is the base's ``skeleton.json``. Raises CorruptState where that is damaged,
    OSError where the disk does not take the files.
    """
    write_interpreter(prefix, base)
    write_receipts(prefix, base, skeleton_file, uv=uv)


def write_interpreter(prefix: Path, base: BaseManifest) -> None:
    """The part of a skeleton that a kernel needs to start: a dozen files, a millisecond."""
    python = prefix / "bin" / "python"
    site = _site_packages(prefix, base)
    _make(site)
    _make(python.parent)
    python.symlink_to(base.interpreter)
    for alias in ("python3", f"python{base.python_xy}"):
        (python.parent / alias).symlink_to("python")
    _write(prefix / "pyvenv.cfg", _pyvenv_cfg(base))
    hook = f"import {HOOK}; {HOOK}.extend()"
    _write(site / f"{BASE_PATHS}.pth", "\n".join([*base.site_dirs, hook]) + "\n")
    _write(site / f"{BASE_PATHS}.start", f"{HOOK}:extend\n")
    _write(site / f"{HOOK}.py", _HOOK_MODULE.format(prefix=base.prefix))


def write_receipts(prefix: Path, base: BaseManifest, skeleton_file: Path, *, uv: str) -> None:
    """The part that installers need: receipts, scripts, constraints. Some hundred files; once written, kept.

    Raises as ``write_skeleton``.
    """
    if (prefix / CONSTRAINTS).exists():
        return
    skeleton = _read(str(skeleton_file), skeleton_file.stat().st_mtime_ns)
    site = _site_packages(prefix, base)
    shebang = shebang_for(prefix / "bin" / "python")
    made: set[str] = set()
    for path, mode, text in skeleton["files"]:
        target = f"{prefix}/{path}"
        folder = target.rpartition("/")[0]
        if folder not in made:
            _make(Path(folder))
            made.add(folder)
        _write(target, text.replace(PREFIX_MARK, shebang, 1) if mode & 0o100 else text, mode)
    for path, goal in skeleton["links"]:
        (prefix / path).symlink_to(goal)
    _lend_uv(prefix, site, uv)
    _write(prefix / CONSTRAINTS, "\n".join(base.constraints) + "\n")  # last: it says that all is there


def site_packages(prefix: Path) -> Path:
    """The overlay's own site-packages; raises CorruptState where there is none."""
    for pth in sorted(prefix.glob(f"lib/python*/site-packages/{BASE_PATHS}.pth")):
        return pth.parent
    raise CorruptState(f"{prefix} is no overlay", why=f"it holds no {BASE_PATHS}.pth")


def shebang_for(python: Path) -> str:
    """The first line of a script for ``python``; paths with blanks or too long go through sh.

    The two-line form reads as one string in Python and as a command in sh; pip and uv write the
    same: https://bitbucket.org/pypa/distlib/issues/32
    """
    plain, through_sh = shebangs_for(python)
    path = os.fspath(python)
    fits = len(os.fsencode(path)) + 2 <= _LONGEST_SHEBANG and not any(char.isspace() for char in path)
    return plain if fits else through_sh


def shebangs_for(python: Path) -> tuple[str, str]:
    """Both forms that a script's first line for ``python`` may have, the plain one first."""
    path = os.fspath(python)
    quoted = path.replace("'", "'\"'\"'")
    return f"#!{path}", f"#!/bin/sh\n'''exec' '{quoted}' \"$0\" \"$@\"\n' '''"


def _site_packages(prefix: Path, base: BaseManifest) -> Path:
    suffix = "t" if base.site_dirs and f"python{base.python_xy}t" in base.site_dirs[0] else ""
    return prefix / "lib" / f"python{base.python_xy}{suffix}" / "site-packages"


def _pyvenv_cfg(base: BaseManifest) -> str:
    # uv and ty read extends-environment: https://docs.astral.sh/ty/ (ephemeral environments)
    return (
        f"home = {Path(base.interpreter).parent}\n"
        "include-system-site-packages = false\n"
        f"version_info = {base.python}\n"
        f"extends-environment = {base.prefix}\n"
    )


def _lend_uv(prefix: Path, site: Path, uv: str) -> None:
    bin_uv = prefix / "bin" / "uv"
    if not bin_uv.exists():
        bin_uv.symlink_to(uv)
        _make(site / "uv")
        _write(site / "uv" / "__init__.py", "")
        _write(site / "uv" / "__main__.py", _UV_MODULE.format(uv=uv))


def _make(directory: Path) -> None:
    """Make a directory and its missing parents, writable for nobody else whatever the umask."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(mode=0o755, exist_ok=True)


def _write(path: str | Path, text: str, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        view = memoryview(text.encode())
        while view:  # a disk that is nearly full takes a part, and says so at the next try only
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


@functools.lru_cache(maxsize=8)
def _read(path: str, mtime_ns: int) -> dict[str, Any]:  # noqa: ARG001 - part of the cache's key
    """The skeleton file, parsed once for as long as it does not change."""
    try:
        data = json.loads(Path(path).read_bytes())
        return {
            "files": [tuple(row) for row in data["files"]],
            "links": [tuple(row) for row in data["links"]],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptState(
            f"{path} cannot be read",
            why=str(error),
            fix="make the base anew: jupyter overlay base create or adopt",
        ) from error


def remove_tree(path: Path) -> None:
    """Remove an overlay or a part of one; a tree that is gone is no error."""
    if os.path.lexists(path):
        import shutil  # a new overlay, which a cell waits for, has nothing to remove

        shutil.rmtree(path, ignore_errors=True)
