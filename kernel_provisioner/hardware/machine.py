"""The whole machine, asked part by part; no part can spoil the others' answers."""

from __future__ import annotations

import os
import platform as platform_module
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from .nvidia import Nvidia, find_nvidia
from .nvml import BoundedNvml, Nvml, SystemNvml
from .others import find_amd, find_intel
from .value import Hardware, Tree

DEADLINE = 2.0
"""Seconds to wait for NVIDIA's driver; it answers in some ten milliseconds where it is kept loaded."""

_T = TypeVar("_T")


def detect(
    *,
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    nvml: Nvml | None = None,
    platform: str = sys.platform,
    machine: str = "",
) -> Hardware:
    """What a kernel started with ``environ`` could compute on.

    Takes DEADLINE and a few milliseconds at most, never raises, never imports torch, starts no
    process. The file system below ``root`` and ``nvml`` can be recordings; an ``nvml`` handed in
    is asked as it is, without that deadline.
    """
    machine = machine or platform_module.machine()
    if platform == "darwin":
        # PyTorch's builds for Macs with Intel processors ended with 2.2, and had no use for their GPUs.
        return Hardware(platform=platform, machine=machine, mps=machine == "arm64")
    if not platform.startswith("linux"):
        return Hardware(platform=platform, machine=machine)
    tree = Tree(root)
    notes: list[str] = []

    def ask(what: str, question: Callable[[], _T], nothing: _T) -> _T:
        try:
            return question()
        except Exception as error:
            notes.append(f"looking for {what} failed: {type(error).__name__}: {error}")
            return nothing

    asked = nvml or BoundedNvml(SystemNvml(), DEADLINE)
    nvidia = ask("NVIDIA GPUs", lambda: find_nvidia(tree, environ, asked), Nvidia(complete=False))
    no_amd: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    no_intel: tuple[bool, tuple[str, ...]] = (False, ())
    amd, amd_notes = ask("AMD GPUs", lambda: find_amd(tree, environ), no_amd)
    xpu, intel_notes = ask("Intel GPUs", lambda: find_intel(tree), no_intel)
    return Hardware(
        platform=platform,
        machine=machine,
        driver=nvidia.driver,
        gpus=nvidia.gpus,
        amd=amd,
        xpu=xpu,
        wsl=tree.has("dev/dxg") or "microsoft" in tree.read("proc/version").lower(),
        container=_in_container(tree, environ),
        notes=(*nvidia.notes, *amd_notes, *intel_notes, *notes),
        complete=nvidia.complete,
    )


def _in_container(tree: Tree, environ: Mapping[str, str]) -> bool:
    marks = (".dockerenv", "run/.containerenv", "singularity.d", ".singularity.d")
    return "KUBERNETES_SERVICE_HOST" in environ or any(tree.has(mark) for mark in marks)
