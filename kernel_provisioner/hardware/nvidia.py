"""NVIDIA's GPUs as CUDA would see them: NVML, with /proc and /dev as the fall-back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from .nvml import Nvml, NvmlAnswer, NvmlUnavailable
from .value import Gpu, Tree


@dataclasses.dataclass(frozen=True)
class Nvidia:
    """The driver's version, the GPUs that CUDA would see, and why there are no more."""

    driver: str = ""
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = True


def find_nvidia(tree: Tree, environ: Mapping[str, str], nvml: Nvml) -> Nvidia:
    """What CUDA would find. A driver alone is no GPU: /sys shows a container its host's driver."""
    driver = _driver(tree)
    silent: tuple[str, ...] = ()
    try:
        answer = nvml.read()
    except NvmlUnavailable as error:
        if error.refused:
            return Nvidia(driver, notes=(str(error),) if _has_device(tree) else _why_none(tree, driver))
        answer = NvmlAnswer(driver, _listed(tree))
        silent = (str(error),) if error.late else ()
    else:
        if not _has_device(tree):
            answer = NvmlAnswer(answer.driver, ())
    driver = answer.driver or driver
    if not answer.gpus:
        return Nvidia(driver, notes=silent or _why_none(tree, driver), complete=not silent)
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return Nvidia(driver, answer.gpus, complete=not silent)
    gpus = visible(answer.gpus, wanted, pci_order=environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    notes = () if gpus else (f"CUDA_VISIBLE_DEVICES={wanted!r} hides this machine's NVIDIA GPUs",)
    return Nvidia(driver, gpus, notes, complete=not silent)


def visible(gpus: Sequence[Gpu], wanted: str, *, pci_order: bool = False) -> tuple[Gpu, ...]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES=wanted`` leaves, in its order.

    Entries are indexes, or beginnings of UUIDs of GPUs or MIG instances; the first one that fits
    no device ends the list, a GPU named twice empties it. Indexes count from the fastest GPU on
    unless ``pci_order``; what CUDA calls fast is not published: the newest, then the largest, comes
    close. Source: NVIDIA, CUDA C++ Programming Guide, "CUDA Environment Variables"; MIG User Guide.
    """
    ordered = list(gpus)
    if not pci_order:
        ordered.sort(key=lambda gpu: (gpu.compute_capability or (0, 0), gpu.memory), reverse=True)
    found: list[Gpu] = []
    for entry in wanted.split(","):
        gpu = _named(ordered, entry.strip())
        if gpu is None:
            break
        if gpu in found and not entry.strip().startswith("MIG-"):
            return ()
        if gpu not in found:
            found.append(gpu)
    return tuple(found)


def _named(ordered: Sequence[Gpu], entry: str) -> Gpu | None:
    if entry.isascii() and entry.isdigit():
        return ordered[int(entry)] if int(entry) < len(ordered) else None
    if entry.startswith("MIG-GPU-"):  # drivers before 470: MIG-GPU-<uuid>/<instance>/<instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    fitting = [gpu for gpu in ordered if any(uuid.startswith(entry) for uuid in (gpu.uuid, *gpu.partitions))]
    return fitting[0] if len(fitting) == 1 else None


def _driver(tree: Tree) -> str:
    version = tree.read("sys/module/nvidia/version")
    if not version:
        told = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", tree.read("proc/driver/nvidia/version"))
        version = told[1] if told else ""
    return version if re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII) else ""


def _has_device(tree: Tree) -> bool:
    # /dev/dxg is WSL's, nvhost-ctrl-gpu that of Jetson boards.
    nodes = ("dev/dxg", "dev/nvhost-ctrl-gpu", *tree.names("dev/nvidia[0-9]*"))
    return any(tree.has(node) for node in nodes)


def _listed(tree: Tree) -> tuple[Gpu, ...]:
    """The GPUs that the kernel module lists and whose device this environment was given."""
    found = []
    for name in tree.names("proc/driver/nvidia/gpus/*/information"):
        lines = (line.partition(":") for line in tree.read(name).splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
        if tree.has(f"dev/nvidia{facts.get('Device Minor', '0')}"):
            model = facts.get("Model", "") or "an NVIDIA GPU"
            found.append(Gpu(model, capability_of(model), uuid=facts.get("GPU UUID", "")))
    if found or tree.has("proc/driver/nvidia/gpus"):
        return tuple(found)
    return tuple(Gpu("an NVIDIA GPU") for _ in tree.names("dev/nvidia[0-9]*"))


# For when NVML is silent. Source: NVIDIA, "CUDA GPU Compute Capability". The first that matches.
_CAPABILITIES = (
    (r"GB10\b", (12, 1)),
    (r"RTX 50\d\d|RTX PRO \d+.*Blackwell", (12, 0)),
    (r"G?B300\b", (10, 3)),
    (r"G?B[12]00\b", (10, 0)),
    (r"G?H[12]00|H800|H20\b", (9, 0)),
    (r"L4\b|L40S?\b|RTX 40\d\d|\bAda\b", (8, 9)),
    (r"\bA2\b|A10[GM]?\b|A16\b|A40\b|RTX A\d{3,4}|RTX 30\d\d", (8, 6)),
    (r"A100|A30\b|A800", (8, 0)),
    (r"\bT4\b|RTX 20\d\d|GTX 16\d\d|Quadro RTX|TITAN RTX|\bT\d{3,4}\b", (7, 5)),
    (r"V100|TITAN V|GV100", (7, 0)),
    (r"P100|GP100", (6, 0)),
    (r"P40\b|\bP4\b|P6\b|GTX 10\d\d|TITAN Xp?\b|Quadro P\d+", (6, 1)),
    (r"M40\b|M60\b|GTX 9\d\d|Quadro M\d+", (5, 2)),
    (r"K80", (3, 7)),
)


def capability_of(name: str) -> tuple[int, int] | None:
    """The compute capability of a model by its name; None if this table does not have it."""
    return next((capability for pattern, capability in _CAPABILITIES if re.search(pattern, name)), None)


def _why_none(tree: Tree, driver: str) -> tuple[str, ...]:
    if tree.has("dev/dxg"):
        return ("Windows gives this WSL no NVIDIA GPU",) if tree.has("usr/lib/wsl/lib/libcuda.so.1") else ()
    if driver and not _has_device(tree):
        return (
            f"NVIDIA driver {driver} is loaded on the host, but no /dev/nvidia0 was given to this system",
        )
    return (f"NVIDIA driver {driver} shows no GPU",) if driver else ()
