"""Write the environment of an overlay, in milliseconds and without a subprocess.

A plain venv (PEP 405) that adds the base's site directories after its own. uv and pip count the
base's distributions as installed, because each has a receipt here; nothing they do reaches the
base, because these are files of the overlay's own.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase
from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.packages import canonical
from ..model.manifest import BaseManifest
from ..system.files import make_directory, read_bytes, replace_text, write_new
from .guards import BUILD_CONSTRAINTS, CONSTRAINTS, Terms, write_guards
from .lent import is_served_by_us, lent_script, renew_receipt, renew_uv
from .nested import renew_provisioner, write_provisioner

PREFIX_MARK = "@overlay@"
# Import lines in .pth files end with Python 3.18; a .start file takes their place from 3.15 on, and
# switches them off: https://peps.python.org/pep-0829/
HOOK = "_torch_base_site"
_GUARD = Path(__file__).parents[1] / "inkernel" / "bytecode.py"
_HOOK_MODULE = '''import os
import site
import sys


def extend():
    """Let site.getsitepackages() list the base, which some packages search for libraries."""
    if {prefix!r} not in site.PREFIXES:
        site.PREFIXES.append({prefix!r})
    words = sys.orig_argv[1:]  # before pip installs here, packages that are links become files
    if "install" in words and os.path.exists({free!r}):
        import runpy

        runpy.run_path({free!r})["before_pip"]({overlay!r}, words)
'''
_FREE = Path(__file__).parents[1] / "inkernel" / "free.py"
_PLAIN = Terms()
_LONGEST_SHEBANG = 127  # bytes; what Linux and macOS are sure to read of a first line


def write_skeleton(prefix: Path, base: RegisteredBase, terms: Terms = _PLAIN, *, uv: str) -> None:
    """Make ``prefix`` (an existing, empty directory) an overlay of ``base`` without extras.

    ``uv`` is the program to lend. Raises CorruptState where the base's ``skeleton.json`` is damaged,
    OSError where the disk does not take the files.
    """
    write_interpreter(prefix, base)
    write_receipts(prefix, base, terms, uv=uv)


def write_interpreter(prefix: Path, registered: RegisteredBase) -> None:
    """The part of a skeleton that a kernel needs to start: a dozen files, a millisecond."""
    base = registered.manifest
    python = prefix / "bin" / "python"
    site = _site_packages(prefix, base)
    make_directory(site)
    make_directory(python.parent)
    link_lib64(prefix)
    python.symlink_to(base.interpreter)
    for alias in ("python3", f"python{base.python_xy}"):
        (python.parent / alias).symlink_to("python")
    write_new(prefix / "pyvenv.cfg", _pyvenv_cfg(base))
    write_new(site / f"{HOOK}.py", _hook_module(registered, prefix))
    hook = f"import {HOOK}; {HOOK}.extend()"
    write_new(site / f"{layout.BASE_PATHS}.pth", "\n".join([*base.site_dirs, hook]) + "\n")
    write_new(site / f"{layout.BASE_PATHS}.start", f"{HOOK}:extend\n")


def has_guards(prefix: Path) -> bool:
    """Whether an overlay has all of ``write_receipts``; one of an earlier version lacks the guards."""
    return (prefix / BUILD_CONSTRAINTS).exists()


def write_receipts(prefix: Path, base: RegisteredBase, terms: Terms, *, uv: str) -> None:
    """The part that installers need: receipts, scripts, guards. Some hundred files; once written, kept.

    Raises as ``write_skeleton``.
    """
    site = _site_packages(prefix, base.manifest)
    if (prefix / CONSTRAINTS).exists():
        if not has_guards(prefix):  # made when guards were variables of the kernel
            write_guards(prefix, site, base, terms, uv=uv)
        return
    skeleton = _read(str(base.skeleton_path), base.skeleton_path.stat().st_mtime_ns)
    shebang = shebang_for(prefix / "bin" / "python")
    made: set[str] = set()
    for path, mode, text in skeleton["files"]:
        target = f"{prefix}/{path}"
        folder = target.rpartition("/")[0]
        if folder not in made:
            make_directory(Path(folder))
            made.add(folder)
        write_new(target, text.replace(PREFIX_MARK, shebang, 1) if mode & 0o100 else text, mode)
    for path, goal in skeleton["links"]:
        (prefix / path).symlink_to(goal)
    if terms.kernel:
        write_provisioner(prefix, site)
    write_guards(prefix, site, base, terms, uv=uv)


def link_again(prefix: Path, base: RegisteredBase) -> None:
    """Write again what a Python needs to start and to find the base, over what is left of it."""
    for name in ("bin/python", "bin/python3", f"bin/python{base.manifest.python_xy}", "lib64"):
        if (prefix / name).is_symlink():
            (prefix / name).unlink()
    write_interpreter(prefix, base)


def renew_hook(prefix: Path, base: RegisteredBase) -> None:
    """Let an overlay of an earlier version start as one of today does; raises OSError."""
    path = f"{_site_packages(prefix, base.manifest)}/{HOOK}.py"
    text = _hook_module(base, prefix)
    if read_bytes(path) != text.encode(errors="surrogateescape"):
        replace_text(Path(path), text, durable=False)


def renew_lent(prefix: Path, base: RegisteredBase) -> None:
    """Let an overlay use this installation where it names another, which may be gone; one small read if not.

    Never where that is a uv of its user's. Raises OSError, and UvUnusable where there is no uv to lend.
    """
    script = lent_script(prefix)
    if is_served_by_us(script):
        return
    site = _site_packages(prefix, base.manifest)
    renew_provisioner(prefix, site, always=bool(script))
    if not script:
        return
    if "uv" not in base.manifest.distributions and (version := renew_receipt(site)):
        constraints = prefix / CONSTRAINTS
        text = constraints.read_text(encoding="utf-8", errors="surrogateescape")
        replace_text(constraints, re.sub(r"(?m)^uv==.*$", f"uv=={version}", text), durable=False)
    renew_uv(prefix, script, base.manifest)  # last: it says that all is


def missing_receipts(prefix: Path, base: RegisteredBase) -> list[str]:
    """Lay the receipts again of base distributions that are not there in any version; their names."""
    skeleton = _read(str(base.skeleton_path), base.skeleton_path.stat().st_mtime_ns)
    shebang = shebang_for(prefix / "bin" / "python")
    there = {canonical(path.name.partition("-")[0]) for path in site_packages(prefix).glob("*.dist-info")}
    laid = set()
    for path, mode, text in skeleton["files"]:
        folder = path.rpartition("/")[0]
        if folder.endswith(".dist-info"):
            name = canonical(folder.rpartition("/")[2].partition("-")[0])
            if name in there:
                continue
            laid.add(name)
        elif os.path.lexists(prefix / path):
            continue
        make_directory(prefix / folder)
        write_new(prefix / path, text.replace(PREFIX_MARK, shebang, 1) if mode & 0o100 else text, mode)
    for path, goal in skeleton["links"]:
        if not os.path.lexists(prefix / path):
            (prefix / path).symlink_to(goal)
    return sorted(laid)


def receipt_of_torch(base: RegisteredBase) -> str:
    """The file of torch's receipt in an overlay: without it uv and pip would install another torch.

    One of what torch needs, or of what is built for it, is found again where torch is.
    """
    skeleton = _read(str(base.skeleton_path), base.skeleton_path.stat().st_mtime_ns)
    paths: list[str] = [path for path, _, _ in skeleton["files"]]
    return next(path for path in paths if "/torch-" in path and path.endswith("/METADATA"))


def link_lib64(prefix: Path) -> None:
    """Let ``lib64``, where some Pythons (Fedora's) have compiled packages, be ``lib``, as venv does."""
    if sys.maxsize > 2**32 and sys.platform != "darwin":
        (prefix / "lib64").symlink_to("lib")


def is_intact(prefix: Path, base: BaseManifest) -> bool:
    """Whether a kernel can start in the overlay: its interpreter is there, and finds the base."""
    try:
        paths = read_bytes(f"{_site_packages(prefix, base)}/{layout.BASE_PATHS}.pth").splitlines()
        config = read_bytes(f"{prefix}/pyvenv.cfg")
    except OSError:
        return False
    finds = {*map(os.fsencode, base.site_dirs)} <= {*paths} and config.startswith(b"home = ")
    return finds and os.access(f"{prefix}/bin/python", os.X_OK)


def site_packages(prefix: Path) -> Path:
    """The overlay's own site-packages; raises CorruptState where there is none."""
    for pth in sorted(prefix.glob(f"lib/python*/site-packages/{layout.BASE_PATHS}.pth")):
        return pth.parent
    raise CorruptState(f"{prefix} is no overlay", why=f"it holds no {layout.BASE_PATHS}.pth")


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
    return prefix / f"lib/python{base.python_xy}{suffix}/site-packages"


def _hook_module(registered: RegisteredBase, prefix: Path) -> str:
    """What runs at each start; on a base that this user could write to, with what keeps it as it is.

    Bytecode of an adopted environment, which may hold none, is kept where the base is registered, so that
    what is compiled once serves every overlay. A base of our own holds all that is needed.
    """
    base = registered.manifest
    text = _HOOK_MODULE.format(prefix=base.prefix, free=str(_FREE), overlay=str(prefix))
    if not any(os.access(place, os.W_OK) for place in base.site_dirs):
        return text
    cache = f"{registered.directory}/bytecode" if base.adopted else os.devnull
    return f"{_guard()}\n\n{text}    keep_elsewhere({tuple(base.site_dirs)!r}, {cache!r})\n"


@functools.cache
def _guard() -> str:
    return _GUARD.read_text(encoding="utf-8")


def _pyvenv_cfg(base: BaseManifest) -> str:
    # uv and ty read extends-environment: https://docs.astral.sh/ty/ (ephemeral environments)
    return (
        f"home = {Path(base.interpreter).parent}\n"
        "include-system-site-packages = false\n"
        f"version_info = {base.python}\n"
        f"extends-environment = {base.prefix}\n"
    )


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
            fix="create the base again: jupyter overlay base create or adopt",
        ) from error


def remove_tree(path: Path) -> None:
    """Remove an overlay or a part of one; a tree that is gone is no error."""
    if os.path.lexists(path):
        import shutil  # a new overlay, which a cell waits for, has nothing to remove

        shutil.rmtree(path, ignore_errors=True)
