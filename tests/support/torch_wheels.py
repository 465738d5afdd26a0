"""Fake torch builds of every tag: tiny, for any Python, with the requirements of the real ones.

A cuda build asks for fake ``nvidia-*`` wheels that share the ``nvidia`` namespace, a rocm or
xpu build for its own triton, a cpu build for nothing but a plain dependency. Names and pins of
the accelerator packages follow what the real wheels of that tag declare in their metadata.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from .wheels import Files, build_wheel, module

PLAIN = {"torch-plain-dependency": "1.0"}
"""What torch of every tag needs from the default index; a name of no real package, so that a fake
torch and the real ipykernel can live in one environment."""

NVIDIA = {
    "cu118": {"nvidia-cuda-runtime-cu11": "11.8.89", "nvidia-cudnn-cu11": "9.1.0.70"},
    "cu121": {"nvidia-cuda-runtime-cu12": "12.1.105", "nvidia-cudnn-cu12": "9.1.0.70"},
    "cu124": {"nvidia-cuda-runtime-cu12": "12.4.127", "nvidia-cudnn-cu12": "9.1.0.70"},
    "cu126": {"nvidia-cuda-runtime-cu12": "12.6.77", "nvidia-cudnn-cu12": "9.5.1.17"},
    "cu128": {"nvidia-cuda-runtime-cu12": "12.8.90", "nvidia-cudnn-cu12": "9.10.2.21"},
    "cu129": {"nvidia-cuda-runtime-cu12": "12.9.79", "nvidia-cudnn-cu12": "9.10.2.21"},
    "cu130": {"cuda-toolkit": "13.0.2", "nvidia-cudnn-cu13": "9.15.1.9"},
    "cu132": {"cuda-toolkit": "13.2.0", "nvidia-cudnn-cu13": "9.15.1.9"},
}
"""What a cuda build needs besides; from CUDA 13 on the runtime hides behind ``cuda-toolkit``."""

TRITON = {"cuda": "triton", "rocm": "pytorch-triton-rocm", "xpu": "pytorch-triton-xpu"}


@dataclasses.dataclass(frozen=True)
class TorchBuild:
    """One fake torch: its wheel, and the wheels of what it needs, by the index they stand in."""

    torch: Path
    ecosystem: tuple[Path, ...]
    ordinary: tuple[Path, ...]


def build_torch(
    directory: Path,
    tag: str,
    version: str = "2.6.0",
    *,
    architectures: Sequence[str] = ("sm_70", "sm_80", "sm_90"),
    local_label: bool = True,
    wheel_tag: str = "py3-none-any",
) -> TorchBuild:
    """Write the fake torch of ``tag`` and all that it needs into ``directory``.

    The module answers ``torch.__version__``, ``torch.version.cuda``/``hip``/``xpu``,
    ``torch.cuda.is_available()`` (False) and ``torch._C._cuda_getArchFlags()``. Without
    ``local_label`` the version is the bare one, as the builds on PyPI have it.
    """
    family = family_of(tag)
    full = f"{version}+{tag}" if local_label else version
    requires = [f"{name}>=1" for name in PLAIN]
    ordinary = [build_wheel(directory, name, has) for name, has in PLAIN.items()]
    for name, has in NVIDIA.get(tag, {}).items():
        requires.append(_pin(name, has))
        ordinary += _nvidia_wheels(directory, name, has)
    ecosystem: list[Path] = []
    if family in TRITON:
        requires.append(f"{TRITON[family]}==3.2.0")
        ecosystem.append(build_wheel(directory, TRITON[family], "3.2.0", files=module("triton", "3.2.0")))
    torch = build_wheel(
        directory,
        "torch",
        full,
        files=_torch_files(full, tag, architectures if family in ("cuda", "rocm") else ()),
        requires=requires,
        entry_points={"console_scripts": {"torchrun": "torch:_say_version"}},
        requires_python=">=3.10",
        tag=wheel_tag,
    )
    return TorchBuild(torch, tuple(ecosystem), tuple(ordinary))


def build_torchvision(directory: Path, tag: str, version: str = "0.21.0", *, torch: str = "2.6.0") -> Path:
    """Write the fake torchvision of ``tag``, which pins ``torch`` by its public version as the real one."""
    full = f"{version}+{tag}"
    files = module("torchvision", full, "import torch\n")
    return build_wheel(directory, "torchvision", full, files=files, requires=[f"torch=={torch}"])


def family_of(tag: str) -> str:
    """``cpu``, ``cuda``, ``rocm`` or ``xpu``."""
    return "cuda" if tag.startswith("cu") else re.sub(r"[0-9.]+$", "", tag)


def _pin(name: str, version: str) -> str:
    if name != "cuda-toolkit":
        return f"{name}=={version}; platform_system == 'Linux'"
    return f"{name}[cudart]=={version}; platform_system == 'Linux'"


def _nvidia_wheels(directory: Path, name: str, version: str) -> list[Path]:
    """The wheel ``name``, and where it is a mere list of others, those too."""
    if name == "cuda-toolkit":
        runtime = _nvidia_wheels(directory, "nvidia-cuda-runtime", version)
        pins = [f"nvidia-cuda-runtime=={version}"]
        return [*runtime, build_wheel(directory, name, version, files={}, extras={"cudart": pins})]
    folder = re.sub(r"^nvidia-|-cu\d+$", "", name).replace("-", "_")
    files: Files = {f"nvidia/{folder}/lib/lib{folder}.so.0": b"\x7fELF not really"}
    return [build_wheel(directory, name, version, files=files)]


def _torch_files(version: str, tag: str, architectures: Sequence[str]) -> Files:
    numbers = tag.lstrip("curopmx")
    says = {
        "cuda": f"{numbers[:-1]}.{numbers[-1]}" if family_of(tag) == "cuda" else None,
        "hip": f"{numbers}.41133-dd7f95766" if family_of(tag) == "rocm" else None,
        "xpu": "20250000" if family_of(tag) == "xpu" else None,
    }
    facts = "".join(f"{name} = {value!r}\n" for name, value in says.items())
    return {
        "torch/__init__.py": f"__version__ = {version!r}\n{_TORCH}",
        "torch/version.py": f"__version__ = {version!r}\ndebug = False\n{facts}",
        "torch/cuda.py": "def is_available():\n    return False\n\n\ndef device_count():\n    return 0\n",
        "torch/_C.py": f"def _cuda_getArchFlags():\n    return {' '.join(architectures)!r} or None\n",
    }


_TORCH = """\
from . import _C, cuda, version


class Tensor(list):
    def sum(self):
        return sum(self)


def tensor(values):
    return Tensor(values)


def ones(count):
    return Tensor([1.0] * count)


def _say_version():
    print(__version__)
"""
