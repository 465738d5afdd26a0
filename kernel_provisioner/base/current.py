"""Whether an adopted environment is still what was recorded of it. Every launch asks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from .registry import RegisteredBase


def is_current(base: RegisteredBase) -> bool:
    """Whether the photograph still shows the environment; a base of our own making never changes."""
    manifest = base.manifest
    return not manifest.adopted or fingerprint(manifest.site_dirs) == manifest.fingerprint


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
