"""Kernel specs: what a user picks in JupyterLab, one for each tag that has a base."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from ..files import replace_text
from .registry import make_shared

_ARTWORK = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
# Not `-m kernel_provisioner.launch`: that looks in the working directory first, which is the
# notebook's, where anybody may have left a file of that name. (`-P` is Python 3.11 and newer.)
_ENTRY = (
    "import sys; sys.path = [p for p in sys.path if p]; from kernel_provisioner.launch import main; main()"
)
# Without it debugpy warns in each kernel's output that modules frozen into Python are being used. They
# are, as they start faster; so there are no breakpoints in io, abc, posixpath and the like.
# https://github.com/ipython/ipykernel/blob/main/ipykernel/kernelspec.py does the same for who wants them.
_ENV = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def kernel_name(tag: str) -> str:
    """The kernel's name as clients know it, for example ``torch-cu124``."""
    return f"torch-{tag}"


def kernel_spec(tag: str | None, *, python: str = sys.executable) -> dict[str, Any]:
    """The content of ``kernel.json``; without a tag, the kernel that chooses for itself.

    ``argv`` is for clients that know no provisioners (VS Code); all others ask the provisioner.
    """
    config = {"accelerator": tag} if tag else {}
    return {
        "argv": [python, "-c", _ENTRY, *(["--accelerator", tag] if tag else []), "-f", "{connection_file}"],
        "display_name": f"torch-{tag} (shared)" if tag else "torch (shared)",
        "language": "python",
        "interrupt_mode": "signal",
        "env": dict(_ENV),
        "metadata": {
            "debugger": True,
            "supported_encryption": "curve",
            "kernel_provisioner": {"provisioner_name": "torch-overlay", "config": config},
        },
    }


def register_kernel(tag: str, data_dir: Path) -> Path:
    """Write the kernel spec of ``tag`` under a Jupyter data directory and return its directory."""
    directory = data_dir / "kernels" / kernel_name(tag)
    make_shared(directory)
    for name in _ARTWORK:
        if source := _artwork(name):
            shutil.copyfile(source, directory / name)
            (directory / name).chmod(0o644)
    replace_text(directory / "kernel.json", json.dumps(kernel_spec(tag), indent=1) + "\n")
    return directory


def unregister_kernel(tag: str, data_dir: Path) -> None:
    """Remove the kernel spec of ``tag``, if it is one of ours."""
    directory = data_dir / "kernels" / kernel_name(tag)
    try:
        spec = json.loads((directory / "kernel.json").read_bytes())
        ours = spec["metadata"]["kernel_provisioner"]["provisioner_name"] == "torch-overlay"
    except (OSError, ValueError, KeyError, TypeError):
        return
    if ours:
        shutil.rmtree(directory)


def _artwork(name: str) -> Path | None:
    """A logo: from the installed kernel ``torch``, or from the source tree of an editable install."""
    candidates = (
        Path(sys.prefix) / "share/jupyter/kernels/torch" / name,
        Path(__file__).parents[2] / "share/jupyter/kernels/torch" / name,
    )
    return next((path for path in candidates if path.is_file()), None)
