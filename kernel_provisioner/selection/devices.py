"""What a machine can do with a torch build: the verdict, and its words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Protocol

from ..model.accelerators import family_of, minimum_driver


class Gpu(Protocol):
    """What selection must know of one NVIDIA GPU."""

    @property
    def name(self) -> str:
        """As the driver words it."""

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """None where nobody could say; the driver's version alone then decides."""


class Machine(Protocol):
    """What selection must know of the machine; ``hardware.Hardware`` is one."""

    @property
    def platform(self) -> str:
        """As in ``sys.platform``."""

    @property
    def machine(self) -> str:
        """As in ``platform.machine()``."""

    @property
    def driver(self) -> str:
        """NVIDIA's, as in 550.54.15; empty: none, or not known."""

    @property
    def gpus(self) -> Sequence[Gpu]:
        """NVIDIA's, only those that a kernel would see."""

    @property
    def amd(self) -> Sequence[str]:
        """AMD's, as gfx names."""

    @property
    def xpu(self) -> bool:
        """Whether there is an Intel GPU that torch supports."""

    @property
    def mps(self) -> bool:
        """Whether there is an Apple GPU."""

    @property
    def wsl(self) -> bool:
        """Whether this Linux runs under Windows, with Windows' driver."""

    @property
    def notes(self) -> Sequence[str]:
        """Why devices that one might expect cannot be used."""


@dataclasses.dataclass(frozen=True)
class Use:
    """What a machine can do with a build: all of its devices of that kind, some, or none; and why."""

    possible: bool
    why: str
    left_out: tuple[str, ...] = ()


def use(tag: str, built_for: Sequence[str], hardware: Machine) -> Use:
    """What ``hardware`` can do with a build of ``tag`` holding kernels for ``built_for`` (empty: unknown)."""
    family = family_of(tag)
    if family == "cuda":
        return _cuda(tag, built_for, hardware)
    if family == "rocm":
        return _rocm(built_for, hardware)
    if family == "xpu":
        return Use(hardware.xpu, "an Intel GPU runs it" if hardware.xpu else _absent("Intel GPU", hardware))
    if family == "cpu":
        return Use(
            possible=True, why="Apple's GPU runs it through MPS" if hardware.mps else "any machine runs it"
        )
    return Use(possible=False, why=f"this version does not know its tag {tag!r}")


def in_words(hardware: Machine) -> str:
    """The machine's accelerators; empty: it has none."""
    found = [_named(gpu) for gpu in hardware.gpus[:1]] + [f"AMD {name}" for name in hardware.amd[:1]]
    return " or ".join(found + (["the Intel GPU"] if hardware.xpu else []))


def none_in_words(hardware: Machine) -> str:
    """That there is no accelerator, and why where that is known."""
    return _absent("GPU", hardware)


def _cuda(tag: str, built_for: Sequence[str], hardware: Machine) -> Use:
    if not hardware.gpus:
        return Use(possible=False, why=_absent("NVIDIA GPU", hardware))
    least = minimum_driver(tag, windows=hardware.wsl)
    driver = tuple(int(part) for part in re.findall(r"\d+", hardware.driver, re.ASCII))
    if least and driver and driver < least:
        needed = ".".join(map(str, least))
        why = f"it needs NVIDIA driver {needed} or newer, this machine has {hardware.driver}"
        return Use(possible=False, why=why)
    can = [gpu for gpu in hardware.gpus if _runs(built_for, gpu.compute_capability)]
    cannot = tuple(_named(gpu) for gpu in hardware.gpus if gpu not in can)
    if not can:
        why = f"its torch has no kernels for {cannot[0]}: it was built for {', '.join(built_for)}"
        return Use(possible=False, why=why)
    facts = [f"driver {hardware.driver}"] if hardware.driver else []
    if can[0].compute_capability:
        facts.append("compute capability {}.{}".format(*can[0].compute_capability))
    about = f" ({', '.join(facts)})" if facts else ""
    more = f" and {len(can) - 1} more" if len(can) > 1 else ""
    verb = "run" if more else "runs"
    return Use(possible=True, why=f"{can[0].name}{about}{more} {verb} it", left_out=cannot)


def _runs(built_for: Sequence[str], capability: tuple[int, int] | None) -> bool:
    """Whether code for ``built_for`` runs on ``capability``; yes where either is unknown.

    ``sm_80`` runs on 8.0 and later 8.x, ``compute_80`` (PTX) on 8.0 and anything later; with an
    ``a`` behind it, on just that one; with an ``f``, on that major version. Source: NVIDIA, CUDA
    C++ Programming Guide, "Application Compatibility" and "Family-Specific Features".
    """
    targets = [found for name in built_for if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name))]
    if capability is None or not targets:
        return True
    for target in targets:
        least = int(target[2]), int(target[3])
        portable = target[1] == "compute" and not target[4]
        later = least <= capability and target[4] != "a" and (portable or least[0] == capability[0])
        if least == capability or later:
            return True
    return False


def _rocm(built_for: Sequence[str], hardware: Machine) -> Use:
    if not hardware.amd:
        return Use(possible=False, why=_absent("AMD GPU", hardware))
    known = {name.partition(":")[0] for name in built_for}  # gfx90a:xnack- words a feature too
    can = [name for name in hardware.amd if name in known or not known]
    cannot = tuple(f"AMD {name}" for name in hardware.amd if name not in can)
    if not can:
        why = f"its torch has no kernels for {cannot[0]}: it was built for {', '.join(sorted(known))}"
        return Use(possible=False, why=why)
    return Use(possible=True, why=f"AMD {can[0]} runs it", left_out=cannot)


def _absent(what: str, hardware: Machine) -> str:
    vendor = what.removesuffix("GPU").strip()
    notes = [note for note in hardware.notes if vendor in note]
    return f"no usable {what} was found" + (f" ({'; '.join(notes)})" if notes else "")


def _named(gpu: Gpu) -> str:
    if gpu.compute_capability is None:
        return gpu.name
    return gpu.name + " (compute capability {}.{})".format(*gpu.compute_capability)
