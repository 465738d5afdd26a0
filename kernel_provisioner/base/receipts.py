"""Receipts as wheels: what uv and pip find when they insist on installing a base package again.

``--reinstall``, ``--upgrade``, ``uv pip sync``, an uninstalled receipt, a source build that needs
torch in its own environment: each makes them look for torch although it is there. So every base
keeps, for each of its distributions, a wheel of some kilobytes that holds nothing but its
metadata, under the tag that installers prefer to any other. They install that, and the base's
own files serve as before. Each carries a ``.pth`` with the base's directories, so that in an
isolated build environment, too, ``import torch`` is the base's, and so is ``import setuptools``,
which every build from source begins with.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence

from packaging.tags import platform_tags

from ..inkernel.shared.packages import named_in

_PTH = "zzz_torch_base_receipt_{}.pth"  # one for each, as no two wheels may own one file
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: equal receipts are equal files


def receipt_wheels(
    skeleton: Iterable[tuple[str, int, str]], site_dirs: Sequence[str], tag: str
) -> dict[str, bytes]:
    """File name → content of the receipt wheels for a base's skeleton; pure.

    ``tag`` is the wheel tag, as from ``preferred_tag``.
    """
    texts: dict[str, dict[str, str]] = {}
    for path, _, text in skeleton:
        folder, _, name = path.rpartition("/")
        if folder.endswith(".dist-info"):
            texts.setdefault(folder.rpartition("/")[2], {})[name] = text
    return {
        f"{folder.removesuffix('.dist-info')}-{tag}.whl": _wheel(folder, kept, site_dirs, tag)
        for folder, kept in texts.items()
    }


def for_builds(name: str, wheel: bytes, there: Collection[str]) -> dict[str, bytes]:
    """File name → content of the receipts that stand for a receipt wheel where uv builds for a lock.

    Under versions of their own: uv would compare ``2.6.0+cpu``, and any ``2.6.0+…`` with ``2.6.0``, with the
    hashes of uv.lock, https://github.com/astral-sh/uv/issues/21608 . ``2.6.0+cpu.base`` is what ``==2.6.0``
    and all ranges mean, ``2.6.0.post0`` what ranges mean. None requires one of ``there``, the base's.
    """
    project, version, *tag = name.removesuffix(".whl").split("-")
    kept = {}
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for path in archive.namelist():
            kept[path.rpartition("/")[2]] = archive.read(path).decode()
    site_dirs = kept[_PTH.format(project)].splitlines()
    lines = kept["METADATA"].splitlines(keepends=True)
    needs = [line for line in lines if line.startswith("Requires-Dist:")]
    left_out = {line for line in needs if named_in(line.partition(":")[2]) in there}
    kept["METADATA"] = "".join(line for line in lines if line not in left_out)
    made = {}
    for ours in [f"{version}.base"] if "+" in version else [f"{version}.post0", f"{version}+base"]:
        if "post0" in ours and re.search("post|dev", version):
            continue
        metadata = re.sub(r"(?m)^Version: .*$", f"Version: {ours}", kept["METADATA"], count=1)
        texts = {**kept, "METADATA": metadata}
        file = f"{project}-{ours}-{'-'.join(tag)}.whl"
        made[file] = _wheel(f"{project}-{ours}.dist-info", texts, site_dirs, "-".join(tag))
    return made


def preferred_tag(python_tag: str, platforms: Sequence[str] | None = None) -> str:
    """The wheel tag that no real wheel outranks, for an interpreter tag such as ``cp311-cp311``.

    Installers rank the newest glibc that the machine has first; pip and uv differ in where they
    put the plain ``linux`` tag, so the wheel bears both.
    """
    names = list(platform_tags()) if platforms is None else list(platforms)
    first = [names[0], *[name for name in names if name.startswith(("manylinux", "musllinux"))][:1]]
    return f"{python_tag}-{'.'.join(sorted(set(first)))}"


def _wheel(folder: str, kept: Mapping[str, str], site_dirs: Sequence[str], tag: str) -> bytes:
    python, abi, platforms = tag.split("-")
    tags = "".join(f"Tag: {python}-{abi}-{platform}\n" for platform in platforms.split("."))
    members = {
        f"{folder}/METADATA": kept["METADATA"],
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nGenerator: torch-overlay\nRoot-Is-Purelib: true\n{tags}",
    }
    if "entry_points.txt" in kept:
        members[f"{folder}/entry_points.txt"] = kept["entry_points.txt"]
    members[_PTH.format(folder.partition("-")[0])] = "".join(f"{directory}\n" for directory in site_dirs)
    record = "".join(
        f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in members.items()
    )
    members[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), text)
    return content.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
