"""Libraries of an accelerator on a base that has none: a few are taken along, gigabytes are refused.

Judged by what is to be fetched, not by name: xgboost needs ``nvidia-nccl-cu12`` on every machine. Who
declares such a library by name wants it, and is not asked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import ResolutionFailed
from ..inkernel.shared.disk import human
from ..inkernel.shared.packages import named_in
from ..model.accelerators import is_accelerator_library
from ..model.manifest import BaseManifest

_MOST = 1_000_000_000  # bytes to fetch: nccl alone has a third of that, what computes on a GPU two or three
_SHOWN = 3  # libraries that a message names
# What programs load, or ask about GPUs with, where there is none. For indexes that tell no sizes.
_SERVES = re.compile(r"nvidia-(nccl|ml-py|nvtx|nvml)\b.*")
# The same for the CPU, by the extra that brings the libraries.
_SLIM = {
    "cudf": "pandas", "cuml": "scikit-learn", "cupy": "numpy", "faiss-gpu": "faiss-cpu", "jax": "jax",
    "onnxruntime-gpu": "onnxruntime", "paddlepaddle-gpu": "paddlepaddle", "tensorflow": "tensorflow-cpu",
    "xgboost": "xgboost-cpu",
}  # fmt: skip


def audit_libraries(
    packages: Sequence[Mapping[str, Any]],
    base: BaseManifest,
    extras: Iterable[str],
    needed_by: Callable[[], Mapping[str, Sequence[str]]],
) -> None:
    """Raise ResolutionFailed where a lock's ``packages`` bring gigabytes that a cpu base has no use for.

    ``needed_by`` tells of each package which others need it; asked only for the message.
    """
    if base.tag != "cpu":
        return
    libraries = {package["name"]: package for package in packages if is_accelerator_library(package["name"])}
    declared = {named_in(extra): extra for extra in extras}
    if not libraries or libraries.keys() & declared.keys():
        return
    sizes = [_size(package) for package in libraries.values()]
    if sum(sizes) <= _MOST:
        return
    largest = sorted(libraries.values(), key=_size, reverse=True)
    named = ", ".join(f"{package['name']} {package['version']}" for package in largest[:_SHOWN])
    more = f" and {len(largest) - _SHOWN} more" if len(largest) > _SHOWN else ""
    bringing = _bringing(libraries, declared, needed_by())
    who = ", ".join(bringing) or "the extras"
    told = f"{human(sum(sizes))} of libraries" if all(map(_told_size, libraries.values())) else "libraries"
    slim = [f"{other} instead of {extra}" for extra in bringing if (other := _slim(extra))]
    raise ResolutionFailed(
        f"{who} would bring {told} for an accelerator: {named}{more}",
        why=f"{base.id} is a cpu base, which could not use them",
        fix="".join(f"declare {one}; or\n" for one in slim)
        + 'choose a CUDA base (kernel "torch-cu… (shared)"), or drop the extra that needs them;\n'
        + "to have them all the same, declare one of them:\n"
        + f"jupyter overlay add NOTEBOOK {largest[0]['name']}",
    )


def _bringing(
    libraries: Iterable[str], declared: Mapping[str, str], needed_by: Mapping[str, Sequence[str]]
) -> list[str]:
    """The declared extras that lead to these libraries, as they are written."""
    found, pending = set(), list(libraries)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += needed_by.get(name, ())
    return [extra for name, extra in declared.items() if name in found]


def _slim(extra: str) -> str:
    name = re.sub(r"-cu(da)?\d+x?$", "", named_in(extra))
    plain = name == _SLIM.get(name) and "[" not in extra
    return "" if plain else _SLIM.get(name, "")


def _told_size(package: Mapping[str, Any]) -> bool:
    return any("size" in wheel for wheel in package.get("wheels", ()))


def _size(package: Mapping[str, Any]) -> int:
    """Bytes to fetch; where the index tells none, nothing for what serves without a GPU, else too many."""
    if _told_size(package):
        return min(int(wheel["size"]) for wheel in package["wheels"] if "size" in wheel)
    return 0 if _SERVES.fullmatch(package["name"]) else _MOST + 1
