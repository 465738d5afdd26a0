"""Which accelerators this machine offers to a kernel, without importing torch and in bounded time."""

from __future__ import annotations

from .cache import CachedDetection, cached_detect
from .machine import detect
from .nvml import Nvml, NvmlAnswer, NvmlUnavailable
from .value import Gpu, Hardware

__all__ = [
    "CachedDetection",
    "Gpu",
    "Hardware",
    "Nvml",
    "NvmlAnswer",
    "NvmlUnavailable",
    "cached_detect",
    "detect",
]
