"""What lets notebooks on torch kernels be started from inside one: papermill in a cell, ``!jupyter execute``.

jupyter_client there finds the provisioner by an entry point. It stands in the receipt of ipykernel, which
nothing replaces in an overlay, so that no list of packages shows more than a private environment has. It
leads to one module, and that to the installation that has made the overlay.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..base.kernels import own_kernels
from ..system.files import make_directory, write_new

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
    write_new(site / f"{MODULE}.py", _STUB.format(real=str(_REAL)))
    for name, spec in own_kernels().items():
        directory = prefix / "share" / "jupyter" / "kernels" / name
        make_directory(directory)
        write_new(directory / "kernel.json", json.dumps(spec, indent=1) + "\n")
