"""Verify a base, and remove one that nobody runs on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from .. import locks, records
from ..errors import BaseInUse, BaseNotFound, LockTimeout
from . import registry
from .create import fingerprint, make_writable
from .kernels import unregister_kernel
from .photograph import probe
from .registry import RegisteredBase


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What ``verify`` found: faults of files, and what ``import torch`` said."""

    distributions: int
    faults: tuple[str, ...]
    torch: str

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify_base(base: RegisteredBase) -> Verdict:
    """Check every file of a base against RECORD and import its torch; changes nothing."""
    faults: list[str] = []
    count = 0
    for site_dir in base.manifest.site_dirs:
        for dist_info in records.dist_infos(Path(site_dir)):
            count += 1
            faults += map(str, records.check(dist_info))
    torch = ""
    try:
        python = Path(base.manifest.prefix) / "bin/python"
        said = probe(python, torch=True)["torch"]
        torch = said.get("version", "")
        if "error" in said:
            faults.append(f"import torch: {said['error']}")
    except BaseNotFound as error:
        faults.append(str(error))
    if base.manifest.adopted and fingerprint(base.manifest.site_dirs) != base.manifest.fingerprint:
        faults.append(
            f"{base.manifest.prefix} changed since it was adopted; "
            f"jupyter overlay base adopt {base.manifest.prefix}  takes it as it is now"
        )
    return Verdict(count, tuple(faults), torch)


def remove_base(base: RegisteredBase, *, data_dir: Path) -> list[str]:
    """Remove a base, its aliases and its kernel; an adopted environment itself stays.

    Returns what was removed, a line each. Raises BaseInUse, naming the kernels, where any runs.
    """
    try:
        lock = locks.exclusive(base.lock_path)
    except LockTimeout as error:
        raise BaseInUse(
            f"{base.manifest.id} is in use",
            why="\n".join(describe_holders(base)) or "a kernel of another user runs on it",
            fix="shut these kernels down, then try again; new kernels of the tag follow another base "
            "after  jupyter overlay base default TAG ID",
        ) from error
    with lock:
        done = [f"base {base.manifest.id}"]
        (base.directory / registry.MANIFEST).unlink()  # from here on it is no base any more
        tags = registry.remove_alias(base.directory.parent, base.manifest.id)
        done += [f"alias {tag}" for tag in tags]
        left = registry.read_register([base.directory.parent])
        heir = [other.manifest.id for other in left.bases if other.manifest.tag == base.manifest.tag]
        if heir and base.manifest.tag in tags:
            registry.set_alias(base.directory.parent, base.manifest.tag, heir[-1])
            done.append(f"{base.manifest.tag} now means {heir[-1]}")
        if not heir:
            unregister_kernel(base.manifest.tag, data_dir)
            done.append(f"kernel torch-{base.manifest.tag}")
        make_writable(base.directory)
        shutil.rmtree(base.directory)
        with contextlib.suppress(OSError):
            os.unlink(base.directory.parent / f"{base.manifest.id}.new.lock")
    return done


def describe_holders(base: RegisteredBase) -> list[str]:
    """A line for each process that holds the base: its pid and its command, as far as we may see."""
    lines = []
    for pid in locks.holders(base.lock_path):
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            notebook = _notebook_of(words[0])
            lines.append(f"pid {pid}: " + (f"kernel of {notebook}" if notebook else " ".join(words).strip()))
    return lines


def _notebook_of(python: str) -> str:
    """The notebook whose overlay an interpreter path lies in, or nothing."""
    with contextlib.suppress(OSError):
        return (Path(python).parents[2] / "notebook.txt").read_text(encoding="utf-8").strip()
    return ""
