"""The kernels of ours that Jupyter knows here, and which of them a notebook is for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..errors import BaseNotFound
from ..launch.preview import Outlook, preview
from ..notebook.find import FoundNotebook
from ..notebook.read import named_kernel, read_notebook
from ..overlay.sources import sources_of
from ..settings import Settings

PROVISIONER = "torch-overlay"
"""The entry point that our kernel specs name."""

_CHOOSES = "torch"


@dataclasses.dataclass(frozen=True)
class OurKernel:
    """A kernel spec of ours. ``tag`` is what it pins, empty for the one that chooses."""

    name: str
    tag: str
    directory: Path
    argv: tuple[str, ...] = ()


def our_kernels() -> dict[str, OurKernel]:
    """The kernels on Jupyter's path that our provisioner starts, by name."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = {}
    for name, entry in sorted(KernelSpecManager().get_all_specs().items()):
        spec: dict[str, Any] = entry["spec"]
        stanza = (spec.get("metadata") or {}).get("kernel_provisioner") or {}
        if stanza.get("provisioner_name") == PROVISIONER:
            tag = str((stanza.get("config") or {}).get("accelerator") or "")
            found[name] = OurKernel(name, tag, Path(entry["resource_dir"]), tuple(spec.get("argv") or ()))
    return found


def kernel_for(named: str, wanted: str = "") -> tuple[OurKernel, str]:
    """The kernel to run a notebook with, and a line to tell where that is not the notebook's own.

    ``wanted`` by name; else ``named``, the one that the notebook names, if it is one of ours and
    here; else ``torch``, which chooses. Raises BaseNotFound where there is no such kernel of ours.
    """
    kernels = our_kernels()
    name = wanted or (named if named in kernels else _CHOOSES)
    if name not in kernels:
        raise BaseNotFound(
            f"there is no shared torch kernel {name!r}",
            why=f"Jupyter finds these here: {', '.join(kernels) or 'none'}",
            fix="jupyter overlay base create TAG  makes the kernel torch-TAG"
            if name != _CHOOSES
            else "install kernel-provisioner into the environment that runs Jupyter; it contains this kernel",
        )
    elsewhere = not wanted and named.startswith(f"{_CHOOSES}-") and named != name
    return kernels[
        name
    ], f"the notebook's kernel {named} is not installed here: using {name}" if elsewhere else ""


@dataclasses.dataclass(frozen=True)
class Prospect:
    """What a notebook would run on if it were started now; ``named`` is the kernel that it names."""

    path: Path
    named: str
    kernel: OurKernel
    outlook: Outlook
    notices: tuple[str, ...]


def prospect(notebook: str | Path, wanted: str, settings: Settings) -> Prospect:
    """The prospect of a notebook file with a kernel, or with its own; raises OverlayError."""
    path = Path(notebook).absolute()
    read_notebook(path)  # refuses what a launch would only tell of
    named = named_kernel(path)
    kernel, notice = kernel_for(named, wanted)
    found = FoundNotebook(path, how="command line")
    outlook = preview(found, pinned=kernel.tag, settings=settings)
    wrong = filter(None, (one.notice() for one in sources_of(outlook.directory, outlook.request.extras)))
    notices = (*([notice] if notice else []), *outlook.request.warnings, *outlook.chosen.notices, *wrong)
    return Prospect(path, named, kernel, outlook, notices)
