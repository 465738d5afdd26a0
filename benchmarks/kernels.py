"""What benchmarks start: notebooks, this package's kernel for them, and ipykernel alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from kernel_provisioner.base.kernels import kernel_spec


def ours(tag: str) -> KernelSpec:
    """The kernel that this package offers for the base of that tag."""
    told = kernel_spec(tag)
    return KernelSpec(argv=told["argv"], display_name=f"torch-{tag}", metadata=told["metadata"])


def ipykernel(python: str) -> KernelSpec:
    """The kernel of the environment whose interpreter that is."""
    return KernelSpec(
        argv=[python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="Python 3"
    )


def write_notebook(path: Path, torch_env: Mapping[str, Any] | None = None, *, script: str = "") -> Path:
    """Write a notebook, with the packages that it declares, and with a script as its only cell; its path."""
    metadata = {} if torch_env is None else {"torch_env": torch_env}
    cell = {"cell_type": "code", "id": "script", "metadata": {}, "source": script, "outputs": []}
    cells = [{**cell, "execution_count": None}] if script else []
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path
