"""The provisioner in an overlay, for programs there that start notebooks on torch kernels.

Run by path from an overlay's stub, beside any jupyter_client. It starts the kernel spec's own command: the
installation that the spec names chooses, builds, and becomes the kernel (``launch/argv.py``). That process
cannot see who started it: it inherits a file that says which notebook it is for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Bool, Float, Unicode

CLIENT = "TORCH_OVERLAY_CLIENT"  # the file's descriptor; ``launch/argv.py`` has the name, too
_FRAMES = Path(__file__).resolve().parents[1] / "notebook" / "frames.py"
_NAMES = ("JPY_SESSION_NAME", "KERNEL_NOTEBOOK_PATH")  # of a notebook; inherited, of the surrounding one
_SURROUNDING = ("VIRTUAL_ENV", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONHOME", "TORCH_EXTENSIONS_DIR")
"""What belongs to the environment around, or would keep the other installation's Python from working."""
_KEYS = ("torch_env", "uv.lock")  # what a launch reads of a notebook's metadata
_SCRIPT = "# /// script"


class TorchOverlayProvisioner(LocalProvisioner):
    """Starts a kernel by the command in its spec, and hands it the notebook that it is started for."""

    accelerator = Unicode("", help="As in the kernel spec, whose command says it too.").tag(config=True)
    warm = Bool(False, help="Not here: for Jupyter servers.").tag(config=True)
    warm_idle = Float(0.0, help="Not here: for Jupyter servers.").tag(config=True)

    _told: IO[str] | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Find the notebook; called before every start and restart."""
        said = dict(kwargs.get("env") or {})
        client = _client(self.parent)  # before anything is awaited: who holds the notebook is gone then
        kwargs = await super().pre_launch(**kwargs)
        env = {name: value for name, value in kwargs["env"].items() if name not in _SURROUNDING}
        for name in _NAMES:
            if said.get(name, "") in ("", os.environ.get(name)):
                env.pop(name, None)
        own = os.path.join(sys.prefix, "bin")  # noqa: PTH118 - as PATH has it
        env["PATH"] = os.pathsep.join(
            place for place in env.get("PATH", os.defpath).split(os.pathsep) if place != own
        )
        if client is not None:
            self._told = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - launch_kernel closes it
            json.dump(client, self._told)
            self._told.seek(0)
            env[CLIENT] = str(self._told.fileno())
        kwargs["env"] = env
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the process, which inherits the file."""
        told, self._told = self._told, None
        if told is None:
            return await super().launch_kernel(cmd, **kwargs)
        with told:
            kwargs["pass_fds"] = (*kwargs.get("pass_fds", ()), told.fileno())
            return await super().launch_kernel(cmd, **kwargs)


def _client(kernel_manager: object) -> dict[str, Any] | None:
    """The program that starts this kernel and its notebook, as JSON; None where there is no such program."""
    spec = importlib.util.spec_from_file_location("_torch_overlay_frames", _FRAMES)
    assert spec is not None
    assert spec.loader is not None
    frames = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = frames  # its dataclasses ask for it
    spec.loader.exec_module(frames)
    stack = list(frames.calling_frames())
    client = None
    with contextlib.suppress(Exception):  # the insides of other programs change
        client = frames.running_client(stack, kernel_manager)
    stack.clear()  # it holds this very frame: a cycle that would keep every caller's values alive
    if client is None:
        return None
    return {
        "notebook": _read_part(client.notebook),
        "path": str(client.path) if client.path else None,
        "name": client.name,
        "in_cells": client.in_cells,
    }


def _read_part(notebook: Any) -> dict[str, Any] | None:
    """What a launch reads of a notebook in memory; None where that is none."""
    if not isinstance(notebook, Mapping):
        return None
    metadata = notebook.get("metadata") or {}
    cells = [
        {"cell_type": cell.get("cell_type"), "source": cell.get("source")}
        for cell in notebook.get("cells") or []
        if _SCRIPT in "".join(cell.get("source") or "")
    ]
    return {"metadata": {key: metadata[key] for key in _KEYS if key in metadata}, "cells": cells}
