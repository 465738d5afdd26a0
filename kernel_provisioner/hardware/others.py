"""AMD's and Intel's GPUs, from what the Linux kernel shows of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .value import Tree


def find_amd(tree: Tree, environ: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The gfx names of the AMD GPUs that ROCm would use, and notes.

    Source: the kernel's kfd topology, where ``gfx_target_version`` is major x 10000 + minor x 100
    + stepping (ROCm's own ``rocminfo`` prints the stepping in hexadecimal: 90010 is gfx90a).
    """
    found = []
    for name in tree.names("sys/class/kfd/kfd/topology/nodes/*/properties"):
        lines = (line.partition(" ") for line in tree.read(name).splitlines())
        facts = {key: value for key, _, value in lines}
        version = _int(facts.get("gfx_target_version", ""))
        minor = _int(facts.get("drm_render_minor", ""))
        # A processor's node says 0. A container sees each node but opens only its own devices.
        if version and (not minor or tree.has(f"dev/dri/renderD{minor}")):
            found.append(_gfx(version // 10000, version // 100 % 100, version % 100))
    if not found:
        return (), ()
    if not tree.has("dev/kfd"):
        return (), (f"AMD {found[0]} is in the host, but /dev/kfd was not given to this system",)
    override = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", environ.get("HSA_OVERRIDE_GFX_VERSION", ""), re.ASCII)
    if override:  # how people use GPUs that ROCm does not name
        found = [_gfx(*map(int, override.groups()))] * len(found)
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        wanted = environ.get(variable)
        if wanted is not None and found:
            kept = _visible(found, wanted)
            if not kept:
                return (), (f"{variable}={wanted!r} hides this machine's AMD GPUs",)
            found = kept
    return tuple(found), ()


# PCI device ids by the kernel's names. Source: Linux, include/drm/intel/pciids.h; which of them torch
# supports: PyTorch's note "Getting Started on Intel GPU" (Arc A and B series, Data Center GPUs, and
# Core Ultra with Arc graphics, not the many other integrated ones).
_ALCHEMIST = {*range(0x5690, 0x5698), *range(0x56A0, 0x56A7), *range(0x56B0, 0x56B4), *range(0x56BA, 0x56C0)}
_FLEX = {0x56C0, 0x56C1, 0x56C2}
_PONTE_VECCHIO = {0x0B69, 0x0B6E, *range(0x0BD4, 0x0BDC), 0x0BE0, 0x0BE1, 0x0BE5}
_BATTLEMAGE = {0xE202, 0xE209, 0xE20B, 0xE20C, 0xE20D, 0xE210, 0xE211, 0xE212, 0xE216, *range(0xE220, 0xE224)}
_METEOR_LAKE_H = {0x7D55}
_ARROW_LAKE_H = {0x7D51, 0x7DD1}
_LUNAR_LAKE = {0x6420, 0x64A0, 0x64B0}
_PANTHER_LAKE = {*range(0xB080, 0xB088), 0xB08F, 0xB090, 0xB0A0, 0xB0B0}
_SUPPORTED = frozenset(
    _ALCHEMIST
    | _FLEX
    | _PONTE_VECCHIO
    | _BATTLEMAGE
    | _METEOR_LAKE_H
    | _ARROW_LAKE_H
    | _LUNAR_LAKE
    | _PANTHER_LAKE
)


def find_intel(tree: Tree) -> tuple[bool, tuple[str, ...]]:
    """Whether an Intel GPU is here that torch supports, and notes.

    Most laptops and desktops have an Intel GPU for their screen; few of those are worth gigabytes
    of an xpu build, and none before Arc is supported.
    """
    others = []
    for name in tree.names("sys/class/drm/renderD*"):
        vendor, device = _int(tree.read(f"{name}/device/vendor")), _int(tree.read(f"{name}/device/device"))
        if vendor == 0x8086 and tree.has(f"dev/dri/{name.rpartition('/')[2]}"):
            if device in _SUPPORTED:
                return True, ()
            others.append(device)
    return False, tuple(
        f"torch does not support Intel's integrated GPU {device:#06x}" for device in others[:1]
    )


def _gfx(major: int, minor: int, stepping: int) -> str:
    return f"gfx{major}{minor:x}{stepping:x}"


def _visible(gpus: list[str], wanted: str) -> list[str]:
    """What a list of indexes leaves; all of them where it names devices in another way."""
    kept = []
    for entry in (part.strip() for part in wanted.split(",")):
        if re.match(r"GPU-", entry):
            return gpus
        if not re.fullmatch(r"\d+", entry, re.ASCII) or int(entry) >= len(gpus):
            break
        kept.append(gpus[int(entry)])
    return kept


def _int(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
