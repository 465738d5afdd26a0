"""Whether a base can still start kernels, and is what was recorded of it. Every launch asks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from ..errors import BaseNotFound
from .registry import RegisteredBase


def is_current(base: RegisteredBase) -> bool:
    """Whether the snapshot still shows the environment; a base of our own making never changes."""
    manifest = base.manifest
    if not manifest.adopted:
        return True
    return broken(base) is None and fingerprint(manifest.site_dirs) == manifest.fingerprint


def broken(base: RegisteredBase) -> BaseNotFound | None:
    """Why no kernel can start on the base any more; None where one can, as far as microseconds tell.

    A Python that was upgraded is gone from where it was, and so is a disk that is not mounted.
    """
    manifest = base.manifest
    if not os.access(manifest.interpreter, os.X_OK):
        lost = f"its Python, {manifest.interpreter}, is gone"
        why = "that Python was removed, or replaced by another version, since the base was made"
    else:
        gone = next((path for path in needed(base) if not os.path.exists(path)), "")  # noqa: PTH110 - at each launch
        if not gone:
            return None
        lost = f"{gone} is gone"
        why = "it was deleted, or lies on a disk that is not mounted"
    remove = f"jupyter overlay base remove {manifest.id}"
    return BaseNotFound(
        f"{manifest.id} can start no kernel: {lost}",
        why=why,
        fix=f"{remove}  then  jupyter overlay base adopt  with an environment that runs"
        if manifest.adopted
        else f"{remove}  then  jupyter overlay base create {manifest.tag}",
    )


def needed(base: RegisteredBase) -> tuple[str, ...]:
    """The paths without which a base is gone, beside its Python."""
    manifest = base.manifest
    return (manifest.prefix, *(() if manifest.adopted else manifest.site_dirs), str(base.skeleton_path))


def fingerprint(site_dirs: tuple[str, ...]) -> str:
    """A cheap mark of an environment's content: names and times of its site directories' entries.

    Installing, upgrading or removing a distribution changes it; running the environment does not.
    """
    seen = []
    for directory in site_dirs:
        with contextlib.suppress(OSError):
            seen += [
                (entry.name, entry.stat(follow_symlinks=False).st_mtime_ns)
                for entry in os.scandir(directory)
                if entry.name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link"))
            ]
    return hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()[:16]
