"""Accelerator tags: what each one is, which driver and which devices its torch builds can use.

A tag names one variant of torch's builds as PyTorch's index spells it: ``cpu``, ``cu126``,
``rocm6.4``, ``xpu``. What a base's own torch says of itself (its manifest) is believed before
these tables; they decide where it is silent, and what to advise somebody who has no base yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FAMILIES = ("cpu", "cuda", "rocm", "xpu")
"""What builds differ in. ``cuda`` and ``rocm`` are also words that a notebook may ask for."""

DEFAULT_INDEX_TEMPLATE = "https://download.pytorch.org/whl/{tag}"
"""PyTorch's own index. Mirrors keep the shape ``<prefix>/whl/{tag}``."""

# fmt: off
ECOSYSTEM = frozenset({
    "fbgemm-gpu", "fbgemm-gpu-genai", "pytorch-triton", "pytorch-triton-rocm", "pytorch-triton-xpu", "torch",
    "torch-tensorrt", "torchao", "torcharrow", "torchaudio", "torchcodec", "torchcsprng", "torchdistx",
    "torchrec", "torchserve", "torchtext", "torchtune", "torchvision", "triton", "triton-rocm", "triton-xpu",
    "xformers",
})
# fmt: on
"""Canonical names of the projects that PyTorch's indexes are the home of.

Source: the list that uv applies ``--torch-backend`` to. Anything else found on those indexes is
a stale copy and never taken from there; ``nvidia-*`` and ``cuda-*`` belong to the default index.
"""


BESIDE_TORCH = tuple(
    sorted(
        name for name in ECOSYSTEM if name != "torch" and not name.startswith(("triton", "pytorch-triton"))
    )
)
"""Those of them that people import, and whose builds fit one torch."""


def is_accelerator_library(name: str) -> bool:
    """Whether a canonical name is that of an accelerator's libraries, or of what drives them."""
    return name.startswith(("nvidia-", "cuda-", "triton", "pytorch-triton"))


class Tag(NamedTuple):
    """One accelerator tag; ``family`` is one of FAMILIES."""

    name: str
    family: str

    @property
    def version(self) -> tuple[int, ...]:
        """The toolkit's version, ``(12, 6)`` for ``cu126``, for ordering; empty for cpu and xpu."""
        if self.family == "cuda":
            digits = self.name.removeprefix("cu")
            return int(digits[:-1]), int(digits[-1])
        if self.family == "rocm":
            return tuple(int(part) for part in self.name.removeprefix("rocm").split("."))
        return ()


# Source: the back ends of uv's `--torch-backend`, which are the trees of download.pytorch.org/whl.
# Newest first within a family.
# fmt: off
_NAMES = (
    "cpu",
    "cu132", "cu130", "cu129", "cu128", "cu126", "cu125", "cu124", "cu123", "cu122", "cu121", "cu120",
    "cu118", "cu117", "cu116", "cu115", "cu114", "cu113", "cu112", "cu111", "cu110", "cu102", "cu101",
    "cu100", "cu92", "cu91", "cu90", "cu80",
    "rocm7.2", "rocm7.1", "rocm7.0", "rocm6.4", "rocm6.3", "rocm6.2.4", "rocm6.2", "rocm6.1", "rocm6.0",
    "rocm5.7", "rocm5.6", "rocm5.5", "rocm5.4.2", "rocm5.4", "rocm5.3", "rocm5.2", "rocm5.1.1", "rocm4.2",
    "rocm4.1", "rocm4.0.1",
    "xpu",
)
# fmt: on


def family_of(name: str) -> str | None:
    """The family of anything shaped like a tag, also one newer than this table; else None."""
    if name in ("cpu", "xpu"):
        return name
    if re.fullmatch(r"cu\d{2,3}", name, re.ASCII):
        return "cuda"
    if re.fullmatch(r"rocm\d+(\.\d+){1,2}", name, re.ASCII):
        return "rocm"
    return None


TAGS: Mapping[str, Tag] = MappingProxyType({name: Tag(name, family_of(name) or "") for name in _NAMES})
"""Every known tag by name, newest first within its family."""


def parse_tag(name: str) -> Tag:
    """The tag called ``name``; raises InvalidRequest, listing what exists, where there is none."""
    tag = TAGS.get(name.strip().lower())
    if tag is None:
        raise InvalidRequest(
            f"there is no accelerator tag {name!r}",
            field="accelerator",
            why="the tags are " + ", ".join(TAGS),
            fix="write one of these tags; on most machines that is cpu, cu126 or cu130",
        )
    return tag


def index_url(template: str, tag: str) -> str:
    """The index that holds the builds of ``tag``; raises InvalidRequest if ``template`` has no {tag}."""
    if "{tag}" not in template:
        raise InvalidRequest(
            f"the PyTorch index {template!r} has no {{tag}} in it",
            field="index_template",
            why="each accelerator's builds have an index of their own, and mixing them gives the wrong torch",
            fix=f"set it to a template such as {DEFAULT_INDEX_TEMPLATE}",
        )
    return template.replace("{tag}", tag)


def available_on(tag: str, platform: str) -> bool:
    """Whether builds of ``tag`` exist for ``platform`` (as in ``sys.platform``).

    macOS has one build, on PyPI, with MPS inside: it counts as ``cpu``. ROCm is Linux only.
    Source: uv's guide "Using uv with PyTorch".
    """
    family = family_of(tag)
    if platform == "darwin":
        return family == "cpu"
    return platform.startswith("linux") or family != "rocm"


# CUDA's toolkits run on any driver of their major version or later ("minor version compatibility").
# Source: NVIDIA, CUDA Toolkit release notes, tables "CUDA Toolkit and Minimum Required Driver
# Version". From the tag's version on: minimum driver on Linux, on Windows. Newest first.
_DRIVERS: tuple[tuple[tuple[int, int], tuple[int, ...], tuple[int, ...]], ...] = (
    ((13, 0), (580,), (580,)),
    ((12, 0), (525, 60, 13), (528, 33)),
    ((11, 1), (450, 80, 2), (452, 39)),
    ((11, 0), (450, 36, 6), (451, 22)),
    ((10, 2), (440, 33), (441, 22)),
    ((10, 1), (418, 39), (418, 96)),
    ((10, 0), (410, 48), (411, 31)),
    ((9, 2), (396, 26), (398, 26)),
    ((9, 1), (390, 46), (391, 29)),
    ((9, 0), (384, 81), (385, 54)),
    ((8, 0), (375, 26), (376, 51)),
)


def minimum_driver(tag: str, *, windows: bool = False) -> tuple[int, ...] | None:
    """The lowest NVIDIA driver that runs builds of ``tag``; None if it needs none or we do not know.

    ``windows`` also where the driver is Windows' own, as under WSL.
    """
    if family_of(tag) != "cuda":
        return None
    wanted = Tag(tag, "cuda").version
    for version, linux, win in _DRIVERS:
        if wanted >= version:
            known = wanted[0] <= _DRIVERS[0][0][0]
            return (win if windows else linux) if known else None
    return None


_MAXWELL = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
_VOLTA = "7.0 7.5 8.0 8.6 9.0 10.0 12.0"
_TURING = "7.5 8.0 8.6 9.0 10.0 12.0"
_AMPERE_ARM = "8.0 9.0 10.0 11.0 12.0"

_Builds = tuple[tuple[tuple[int, int], Mapping[str, str]], ...]

# Compute capabilities that PyTorch's Linux x86-64 builds hold kernels for, by the torch release
# from which a row holds (until the next row). "+PTX" also holds portable code, which later GPUs
# translate. Source: PyTorch's `.ci/manywheel/build_cuda.sh` of each release, its RELEASE.md
# ("PyTorch CUDA Support Matrix") and the release RFCs. Newest first.
_BUILDS_X86: _Builds = (
    ((2, 12), {"cu132": _TURING + "+PTX", "cu130": _TURING + "+PTX", "cu126": _MAXWELL}),
    ((2, 11), {"cu130": _TURING + "+PTX", "cu128": _TURING, "cu126": _MAXWELL}),
    ((2, 9), {"cu130": _TURING, "cu128": _VOLTA, "cu126": _MAXWELL}),
    ((2, 8), {"cu129": _VOLTA, "cu128": _VOLTA, "cu126": _MAXWELL}),
    ((2, 7), {"cu128": _TURING, "cu126": _MAXWELL, "cu118": _MAXWELL}),
    ((2, 6), {"cu126": _MAXWELL, "cu124": _MAXWELL, "cu118": _MAXWELL}),
    ((2, 4), {"cu124": _MAXWELL + "+PTX", "cu121": _MAXWELL, "cu118": "3.7 " + _MAXWELL}),
)
# The newest release known here; also the last with CUDA 12.6, whose builds alone still know
# Maxwell, Pascal and Volta.
_NEWEST = (2, 15)

# The same for Linux on 64-bit Arm. Source: RELEASE.md, as above.
_BUILDS_ARM: _Builds = (
    ((2, 12), {"cu132": _AMPERE_ARM + "+PTX", "cu130": _AMPERE_ARM + "+PTX", "cu126": "8.0 9.0"}),
)

# What each ROCm build adds to the one before. Source: uv's table of AMD GPUs, after PyTorch's
# `.ci/docker/libtorch/build.sh` (PYTORCH_ROCM_ARCH). 6.2 was built without gfx1101.
_ROCM_BUILDS = {
    "rocm6.0": "gfx900 gfx906 gfx908 gfx90a gfx942 gfx1030 gfx1100",
    "rocm6.1": "gfx900 gfx906 gfx908 gfx90a gfx942 gfx1030 gfx1100 gfx1101",
    "rocm6.2": "gfx900 gfx906 gfx908 gfx90a gfx942 gfx1030 gfx1100",
    "rocm6.2.4": "gfx900 gfx906 gfx908 gfx90a gfx942 gfx1030 gfx1100 gfx1101 gfx1102 gfx1200 gfx1201",
}
_ROCM_BUILDS["rocm6.3"] = _ROCM_BUILDS["rocm6.4"] = _ROCM_BUILDS["rocm6.2.4"]
_ROCM_BUILDS["rocm7.0"] = _ROCM_BUILDS["rocm7.1"] = _ROCM_BUILDS["rocm6.4"] + " gfx950"
_ROCM_BUILDS["rocm7.2"] = _ROCM_BUILDS["rocm7.1"] + " gfx1150 gfx1151"


def architectures(torch_version: str, tag: str, *, machine: str = "x86_64") -> tuple[str, ...] | None:
    """What PyTorch's Linux build of ``torch_version`` for ``tag`` holds kernels for.

    In torch's words: ``sm_90`` runs on compute capability 9.0, ``compute_90`` is PTX, ``gfx942``
    an AMD GPU. None: not known, for example a build that was never published.
    """
    from packaging.version import InvalidVersion, Version

    if family_of(tag) == "rocm":
        return tuple(_ROCM_BUILDS[tag].split()) if tag in _ROCM_BUILDS else None
    try:
        release = (*Version(torch_version).release, 0)[:2]
    except InvalidVersion:
        return None
    if tag == "cu126" and release > _NEWEST:
        return None
    for since, builds in _builds(machine):
        if release >= since:
            return _as_torch_says(builds[tag]) if tag in builds else None
    return None


def published(machine: str = "x86_64") -> list[tuple[str, tuple[str, ...]]]:
    """PyTorch's CUDA builds for Linux: each torch release (``2.12``) and its tags, newest first."""
    table = _builds(machine)
    minors = range(_NEWEST[1], table[-1][0][1] - 1, -1)
    rows = [next(builds for since, builds in table if since <= (2, minor)) for minor in minors]
    return [(f"2.{minor}", tuple(builds)) for minor, builds in zip(minors, rows, strict=True)]


def tag_of_build(
    version_local: str | None,
    requires: Iterable[str],
    *,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Which tag a torch wheel is, from its version's local label and its ``Requires-Dist`` lines.

    The label says it on PyTorch's own index (``+cpu``, ``+cu126``). PyPI's wheels have none, and
    tell it by the CUDA runtime that they need: ``nvidia-cuda-runtime-cu12==12.8.90`` up to torch
    2.10, ``cuda-toolkit[...]==13.0.2`` since. No accelerator requirement at all means cpu.
    ``environment`` holds marker values of the interpreter concerned, by default Linux on x86-64:
    one metadata serves several wheels, and its CUDA lines then hold for only some. None: an
    accelerator build whose version these do not tell.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    labelled = _tag_of_label(version_local)
    if labelled is not None:
        return labelled
    names: dict[str, str] = {}
    for line in requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({**_LINUX, **(environment or {})}):
            names[canonicalize_name(requirement.name)] = _pinned(requirement)
    for name, version in sorted(names.items()):
        if name == "cuda-toolkit" or re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name):
            return _tag_of_toolkit("cu", version)
    if any(name.startswith("nvidia-") or name == "cuda-bindings" for name in names):
        return None
    if names.keys() & {"rocm", "pytorch-triton-rocm", "triton-rocm"}:
        return _tag_of_toolkit("rocm", names.get("rocm", ""))
    if names.keys() & {"intel-sycl-rt", "pytorch-triton-xpu", "triton-xpu"}:
        return "xpu"
    # A label of somebody's own build (+nv25.01, +git1234abc) without requirements proves nothing.
    return None if version_local else "cpu"


def tag_of_torch(
    version: str,
    cuda: str | None,
    hip: str | None,
    xpu: bool,  # noqa: FBT001 - what torch.version says, handed through as it is
) -> str | None:
    """Which tag a torch is that says of itself ``torch.version.cuda``, ``.hip`` and ``.xpu``.

    Holds for any installation, conda's and one's own builds too. None: an accelerator whose
    version torch words in a way we cannot read.
    """
    labelled = _tag_of_label(version.partition("+")[2])
    family = "rocm" if hip else "cuda" if cuda else "xpu" if xpu else "cpu"
    if labelled is not None and family_of(labelled) == family:
        return labelled  # tells rocm6.2.4 from rocm6.2, which torch.version.hip words otherwise
    if family == "cuda":
        return _tag_of_toolkit("cu", cuda or "")
    if family == "rocm":
        return _tag_of_toolkit("rocm", hip or "")
    return family


_LINUX = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "extra": "",
}


def _builds(machine: str) -> _Builds:
    return _BUILDS_ARM if machine in ("aarch64", "arm64") else _BUILDS_X86


def _as_torch_says(capabilities: str) -> tuple[str, ...]:
    plain = capabilities.removesuffix("+PTX").replace(".", "").split()
    ptx = (f"compute_{plain[-1]}",) if capabilities.endswith("+PTX") else ()
    return (*(f"sm_{number}" for number in plain), *ptx)


def _tag_of_label(label: str | None) -> str | None:
    found = re.match(r"(cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+){1,2})(?![a-z0-9])", label or "", re.ASCII)
    return found[1] if found else None


def _tag_of_toolkit(prefix: str, version: str) -> str | None:
    found = re.match(r"(\d+)\.(\d+)", version, re.ASCII)
    if not found:
        return None
    tag = prefix + found[1] + ("." if prefix == "rocm" else "") + found[2]
    return tag if family_of(tag) else None


def _pinned(requirement: Requirement) -> str:
    return next((spec.version for spec in requirement.specifier if spec.operator == "=="), "")
