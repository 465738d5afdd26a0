"""A model overlay for each base, which uv is shown in place of a notebook's own.

uv starts an interpreter that it has not met before, to ask it where things are, and remembers the
answer by the interpreter's path. That takes as long as a whole resolution, and every new overlay's
path is new. So uv is shown the model: an overlay of the same base without extras, at a path that
stays, which nothing is ever installed into. Nor does uv ever run the interpreter of an overlay
whose extras nobody has entered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from ..base.registry import RegisteredBase
from ..system import locks
from .skeleton import remove_tree, write_skeleton

MODELS = ".models"
_COMPLETE = "complete"
_WAIT = 30.0  # seconds for another builder to write the same model


def model_of(base: RegisteredBase, root: Path, *, uv: str) -> Path:
    """The interpreter of the model overlay of ``base`` among the overlays in ``root``, made if need be.

    Raises OSError where the disk does not take it, LockTimeout, and CorruptState of a damaged base.
    """
    manifest = base.manifest
    said = json.dumps([manifest.id, manifest.fingerprint, str(base.skeleton_path), manifest.created, uv])
    prefix = root / MODELS / f"{manifest.id}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    if not (prefix / _COMPLETE).exists():
        prefix.parent.mkdir(mode=0o700, exist_ok=True)
        with locks.exclusive(prefix.with_name(f"{prefix.name}.lock"), timeout=_WAIT):
            if not (prefix / _COMPLETE).exists():
                remove_tree(prefix)  # what was cut short is never repaired
                prefix.mkdir(mode=0o700)
                write_skeleton(prefix, base, uv=uv)
                (prefix / _COMPLETE).touch()
    return prefix / "bin" / "python"


def sweep_models(root: Path) -> None:
    """Remove the models among the overlays in ``root`` whose base is gone; they come back by themselves."""
    for config in (root / MODELS).glob("*/pyvenv.cfg"):
        with contextlib.suppress(OSError):
            base = config.read_text(encoding="utf-8").rpartition("extends-environment = ")[2].strip()
            if not Path(base).exists():
                remove_tree(config.parent)
