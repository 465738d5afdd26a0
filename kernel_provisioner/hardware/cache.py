"""Detection for a server that starts many kernels: asked again only when something may have changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..system.forks import PerProcess
from .machine import DEADLINE, detect
from .nvml import BoundedNvml, Nvml, SystemNvml
from .value import Hardware, Tree

MAX_AGE = 300.0
"""Seconds after which an answer is asked for again."""

RETRY_AGE = 10.0
"""The same for an answer that is not complete."""


class CachedDetection:
    """``detect``, remembered.

    An answer holds until it is MAX_AGE old or until what is cheap to look at differs: the driver's
    version, the device nodes, the environment variables that hide GPUs. ``clock`` counts seconds
    and never goes back.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        nvml: Nvml | None = None,
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._nvml = BoundedNvml(nvml or SystemNvml(), deadline)
        self._clock = clock
        self._lock = threading.Lock()
        self._last: tuple[object, float, Hardware] | None = None

    def __call__(self, environ: Mapping[str, str] = os.environ) -> Hardware:
        """What a kernel started with ``environ`` could compute on; as ``detect`` otherwise."""
        with self._lock:
            key = _fingerprint(Tree(self._root), environ)
            if self._last is not None:
                known, when, hardware = self._last
                age = self._clock() - when
                if known == key and age < (MAX_AGE if hardware.complete else RETRY_AGE):
                    return hardware
            hardware = detect(root=self._root, environ=environ, nvml=self._nvml)
            self._last = (key, self._clock(), hardware)
            return hardware

    def forget(self) -> None:
        """Ask again next time."""
        with self._lock:
            self._last = None


_detection = PerProcess(CachedDetection)


def cached_detect(environ: Mapping[str, str] = os.environ) -> Hardware:
    """What this process's own ``CachedDetection`` says."""
    return _detection()(environ)


_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
)


def _fingerprint(tree: Tree, environ: Mapping[str, str]) -> object:
    return (
        tree.read("sys/module/nvidia/version"),
        [name for name in tree.listing("dev") if name.startswith("nvidia")],
        tree.listing("dev/dri"),
        [tree.has(name) for name in ("dev/kfd", "dev/dxg")],
        [environ.get(name) for name in _VARIABLES],
    )
