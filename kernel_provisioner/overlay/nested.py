"""What lets notebooks on torch kernels be started from inside one: papermill in a cell, ``!jupyter execute``.

jupyter_client there finds the provisioner by an entry point. It stands in the receipt of ipykernel, which
nothing replaces in an overlay, so that no list of packages shows more than a private environment has. It
leads to one module, and that to the installation that has made the overlay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.kernels import own_kernels
from ..system.files import make_directory, read_bytes, replace_text, write_new

MODULE = "_torch_overlay_provisioner"
_REAL = Path(__file__).parents[1] / "inkernel" / "nested.py"
_STUB = '''"""Starts notebooks by the installation of kernel-provisioner that has made this environment."""

import importlib.util

_spec = importlib.util.spec_from_file_location("_torch_overlay_nested", {real!r})
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
TorchOverlayProvisioner = _module.TorchOverlayProvisioner
'''
_ENTRY_POINT = f"[jupyter_client.kernel_provisioners]\ntorch-overlay = {MODULE}:TorchOverlayProvisioner\n"


def write_provisioner(prefix: Path, site: Path) -> None:
    """Let Jupyter in the overlay ``prefix``, with site-packages ``site``, start torch kernels.

    Raises OSError.
    """
    for receipt in site.glob("ipykernel-*.dist-info"):
        points = receipt / "entry_points.txt"
        text = f"{points.read_text(encoding='utf-8')}\n" if points.exists() else ""
        points.unlink(missing_ok=True)
        write_new(points, text + _ENTRY_POINT)
        if not text:
            with (receipt / "RECORD").open("a", encoding="utf-8") as record:
                record.write(f"{receipt.name}/{points.name},,\n")
    write_new(site / f"{MODULE}.py", _stub())
    for name, spec in own_kernels().items():
        directory = _kernels(prefix) / name
        make_directory(directory)
        write_new(directory / "kernel.json", _text(spec))


def renew_provisioner(prefix: Path, site: Path, *, always: bool) -> None:
    """Let Jupyter in an overlay that another installation made start torch kernels by this one.

    ``always``: whatever is there. Nothing where it could start none. Raises OSError.
    """
    module = site / f"{MODULE}.py"
    try:
        said = read_bytes(str(module))
    except FileNotFoundError:
        return
    if said == _stub().encode(errors="surrogateescape") and not always:
        return
    for name, spec in own_kernels().items():
        make_directory(_kernels(prefix) / name)
        replace_text(_kernels(prefix) / name / "kernel.json", _text(spec), durable=False)
    replace_text(module, _stub(), durable=False)  # last: it says that all is


def _stub() -> str:
    return _STUB.format(real=str(_REAL))


def _kernels(prefix: Path) -> Path:
    return prefix / "share" / "jupyter" / "kernels"


def _text(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, indent=1) + "\n"
