"""Kernel specs: what a user picks in JupyterLab, one for each tag that has a base."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from ..model.accelerators import TAGS, family_of
from ..system.files import replace_text
from .registry import make_shared

_ARTWORK = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
_BADGES = {
    "cpu": ("#1f3a5f", "CPU"),
    "cuda": ("#3f6b00", "CUDA"),
    "rocm": ("#a3142b", "ROCm"),
    "xpu": ("#0055a5", "XPU"),
}
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
            "torch_overlay": {"description": _description(tag)},
        },
    }


def own_kernels() -> dict[str, dict[str, Any]]:
    """Name → kernel spec of those that lie in this installation's own environment, where no other looks.

    That of the kernel which chooses for itself is always among them.
    """
    found = {"torch": kernel_spec(None)}
    for file in Path(sys.prefix).glob("share/jupyter/kernels/torch-*/kernel.json"):
        if (spec := _ours(file)) is not None:
            found[file.parent.name] = spec
    return found


def register_kernel(tag: str, data_dir: Path) -> Path:
    """Write the kernel spec of ``tag`` under a Jupyter data directory and return its directory."""
    directory = data_dir / "kernels" / kernel_name(tag)
    make_shared(directory)
    for name in _ARTWORK:
        if source := _artwork(name):
            shutil.copyfile(source, directory / name)
            (directory / name).chmod(0o644)
    logo = directory / "logo-svg.svg"
    if logo.is_file():
        replace_text(logo, logo.read_text(encoding="utf-8").replace("</svg>", f"{_badge(tag)}</svg>"))
    replace_text(directory / "kernel.json", json.dumps(kernel_spec(tag), indent=1) + "\n")
    return directory


def unregister_kernel(tag: str, data_dir: Path) -> None:
    """Remove the kernel spec of ``tag``, if it is one of ours."""
    directory = data_dir / "kernels" / kernel_name(tag)
    if _ours(directory / "kernel.json") is not None:
        shutil.rmtree(directory)


def _ours(file: Path) -> dict[str, Any] | None:
    """The kernel spec in a file, where it is one of ours."""
    try:
        spec: dict[str, Any] = json.loads(file.read_bytes())
        ours = spec["metadata"]["kernel_provisioner"]["provisioner_name"] == "torch-overlay"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return spec if ours else None


def _spoken(tag: str) -> str:
    """A tag as people say it: cu126 is CUDA 12.6."""
    known = TAGS.get(tag)
    version = ".".join(map(str, known.version)) if known else ""
    words = {"cpu": "CPU", "cuda": f"CUDA {version}", "rocm": f"ROCm {version}", "xpu": "XPU"}
    return words[known.family] if known else tag


def _description(tag: str | None) -> str:
    """What a launcher tells of the kernel."""
    own = "Each notebook has packages of its own, on a torch that all share."
    if not tag:
        return f"{own} The notebook and this machine decide which build: CPU, CUDA, ROCm or XPU."
    return f"{own} Here: its build for {_spoken(tag)}."


def _badge(tag: str) -> str:
    """The family of a tag, written on the logo."""
    family = family_of(tag) or ""
    colour, text = _BADGES.get(family, ("#444444", tag))
    return (
        f'<rect x="8" y="42" width="56" height="22" rx="5" fill="{colour}"/><text x="36" y="58.5" fill="#fff"'
        f' font-family="sans-serif" font-size="16" font-weight="bold" text-anchor="middle">{text}</text>'
    )


def _artwork(name: str) -> Path | None:
    """A logo: from the installed kernel ``torch``, or from the source tree of an editable install."""
    candidates = (
        Path(sys.prefix) / "share/jupyter/kernels/torch" / name,
        Path(__file__).parents[2] / "share/jupyter/kernels/torch" / name,
    )
    return next((path for path in candidates if path.is_file()), None)
