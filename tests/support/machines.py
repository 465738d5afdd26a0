"""Machines as they were recorded: NVIDIA's GPUs and NVML's answers, trees of /sys, /proc and /dev;
and the bases that one may find on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from kernel_provisioner.hardware import Gpu, Hardware, NvmlAnswer, NvmlUnavailable
from kernel_provisioner.model.manifest import BaseManifest

GIB = 2**30

V100 = Gpu("Tesla V100-SXM2-16GB", (7, 0), 16 * GIB, 16 * GIB, "GPU-11111111-aaaa")
P100 = Gpu("Tesla P100-PCIE-16GB", (6, 0), 16 * GIB, 16 * GIB, "GPU-22222222-bbbb")
H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB, 79 * GIB, "GPU-33333333-cccc")
B200 = Gpu("NVIDIA B200", (10, 0), 180 * GIB, 180 * GIB, "GPU-44444444-dddd")
RTX = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 * GIB, 20 * GIB, "GPU-55555555-eeee")


@dataclasses.dataclass
class RecordedNvml:
    """NVML's answer on some machine, given at once; ``asked`` counts."""

    answer: NvmlAnswer | NvmlUnavailable
    asked: int = 0

    def read(self) -> NvmlAnswer:
        """The recorded answer."""
        self.asked += 1
        if isinstance(self.answer, NvmlUnavailable):
            raise self.answer
        return self.answer


NO_LIBRARY = RecordedNvml(NvmlUnavailable("NVIDIA's library libnvidia-ml.so.1 is not installed"))


def answering(driver: str, *gpus: Gpu) -> RecordedNvml:
    """An NVML that knows ``gpus``."""
    return RecordedNvml(NvmlAnswer(driver, gpus))


def record(root: Path, files: Mapping[str, str]) -> Path:
    """A file system with ``files`` (name: content) in it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def nvidia_files(driver: str, *models: str) -> dict[str, str]:
    """What /sys, /proc and /dev show where NVIDIA's driver serves ``models``."""
    version = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\n"
    files = {"sys/module/nvidia/version": f"{driver}\n", "proc/driver/nvidia/version": version}
    for number, model in enumerate(models):
        files[f"dev/nvidia{number}"] = ""
        files[f"proc/driver/nvidia/gpus/0000:{number + 1:02x}:00.0/information"] = (
            f"Model: \t\t {model}\nIRQ:   \t\t 191\nGPU UUID: \t GPU-{number}\nDevice Minor: \t {number}\n"
        )
    return files


def kfd_files(number: int, target: int, render: int) -> dict[str, str]:
    """One node of the kfd topology, as the kernel words it."""
    facts = f"cpu_cores_count 0\nsimd_count 304\ngfx_target_version {target}\ndrm_render_minor {render}\n"
    return {f"sys/class/kfd/kfd/topology/nodes/{number}/properties": facts}


def drm_files(render: int, vendor: int, device: int) -> dict[str, str]:
    """One GPU that the kernel's graphics drivers serve."""
    node = f"sys/class/drm/renderD{render}/device"
    return {
        f"{node}/vendor": f"0x{vendor:04x}\n",
        f"{node}/device": f"0x{device:04x}\n",
        f"dev/dri/renderD{render}": "",
    }


def base(tag: str, torch: str, python: str = "3.11.9", **more: object) -> BaseManifest:
    """A registered base, as far as choosing looks at it."""
    python_xy = "".join(python.split(".")[:2])
    made = BaseManifest(
        id=f"{tag}-torch{torch.partition('+')[0]}-py{python_xy}",
        tag=tag,
        torch=torch,
        python=python,
        prefix="/bases/venv",
        interpreter="/usr/bin/python3",
        site_dirs=(),
        distributions={"ipykernel": "7.0", "torch": torch},
        fixed=frozenset({"torch"}),
        modules={"torch": "torch"},
    )
    return made._replace(**more)  # type: ignore[arg-type]


CPU = base("cpu", "2.13.0+cpu")
CU118 = base("cu118", "2.6.0+cu118")
CU124 = base("cu124", "2.6.0+cu124")
CU126 = base("cu126", "2.13.0+cu126")
CU130 = base("cu130", "2.13.0")  # as PyPI names it
ROCM = base("rocm6.4", "2.9.0+rocm6.4")
XPU = base("xpu", "2.9.0+xpu")
EVERY = (CPU, CU118, CU124, CU126, CU130, ROCM, XPU)

LAPTOP = Hardware()
OLD_DRIVER = Hardware(driver="550.54.15", gpus=(H100,))
NEW_DRIVER = Hardware(driver="580.65.06", gpus=(H100,))
