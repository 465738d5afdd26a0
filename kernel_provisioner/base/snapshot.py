"""From what an interpreter says of its environment to a base: manifest and overlay skeleton.

The skeleton is everything that one overlay needs of the base, prepared once: a receipt for
each distribution (so that uv and pip count it as installed, without which they would fetch
torch again: astral-sh/uv 15162, 17215), and the base's console scripts, to be written with
the overlay's own interpreter.
"""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import BaseNotFound, CommandFailed
from ..inkernel.shared.environment import loader_environment
from ..inkernel.shared.packages import RECEIPT
from ..model.accelerators import ECOSYSTEM, is_accelerator_library, tag_of_torch
from ..model.manifest import BaseManifest
from ..system import processes
from .receipts import preferred_tag, receipt_wheels

PREFIX_MARK = "@overlay@"  # stands in the skeleton for the overlay's own prefix
_PROBE = Path(__file__).with_name("probe.py")
_TORCH_DEADLINE = 300.0  # seconds: the first `import torch` from a cold network file system


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A base as it is: its manifest, and the files that each overlay on it starts with."""

    manifest: BaseManifest
    skeleton: list[tuple[str, int, str]]  # path below the overlay, mode, text with PREFIX_MARK
    links: list[tuple[str, str]]  # path below the overlay, absolute target in the base
    receipts: dict[str, bytes]  # wheels that stand for what the base holds, see receipts.py


def probe(
    python: Path, *, torch: bool, beside: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """What the environment of ``python`` says of itself; with ``torch``, imports torch there.

    And after it the modules of the distributions ``beside`` that are there; ``broken`` tells which fail.
    Raises BaseNotFound where ``python`` is not an interpreter that can answer.
    """
    words = [str(python), "-I", "-B", str(_PROBE), *(["--torch", *beside] if torch else [])]
    env = {"HOME": environ.get("HOME", "/"), "PATH": os.defpath, "CUDA_VISIBLE_DEVICES": ""}
    env |= loader_environment(environ)
    try:
        done = processes.run(words, env=env, timeout=_TORCH_DEADLINE).check(f"{python} does not answer")
    except CommandFailed as error:
        raise BaseNotFound(error.what, why=error.why, fix="name a Python environment that runs") from error
    answer = re.search(r"<<<torch-overlay-probe(.*)torch-overlay-probe>>>", done.stdout, re.DOTALL)
    if not answer:
        raise BaseNotFound(f"{python} gave no answer", why=done.stderr[-2000:])
    return dict(json.loads(answer.group(1)))


def snapshot(
    facts: Mapping[str, Any], *, tag: str | None = None, adopted: bool, installer: str, created: str
) -> Snapshot:
    """The base that ``facts`` (from ``probe`` with torch) describe; pure.

    ``tag`` overrides what torch says it was built for. Raises BaseNotFound where torch is missing or
    cannot be imported, or ipykernel is missing in what was not ``adopted``.
    """
    entries: dict[str, Any] = {canonicalize_name(entry["name"]): entry for entry in facts["distributions"]}
    torch = facts["torch"] or {}
    where = facts["prefix"]
    if "torch" not in entries or "error" in torch or not torch:
        raise BaseNotFound(
            f"{where} is no base: torch cannot be imported there",
            why=str(torch.get("error", "no torch in it")),
            fix="jupyter overlay base create TAG  makes a base that holds torch",
        )
    if "ipykernel" not in entries and not adopted:
        raise BaseNotFound(
            f"{where} is no base: it holds no ipykernel, which the kernel runs on",
            fix=f"{facts['executable']} -m pip install ipykernel",
        )
    versions = {name: str(entry["version"]) for name, entry in entries.items()}
    built_for = tag or tag_of_torch(versions["torch"], torch["cuda"], torch["hip"], torch["xpu"])
    if built_for is None:
        raise BaseNotFound(
            f"{where} holds a torch that does not say what it was built for",
            why=f"torch {versions['torch']}, CUDA {torch['cuda']}, ROCm {torch['hip']}",
            fix=f"jupyter overlay base adopt {where} --tag TAG",
        )
    # An adopted environment keeps its name while other packages in it change.
    freeze = json.dumps([facts["interpreter"], facts["prefix"] if adopted else sorted(versions.items())])
    digest = hashlib.sha256(freeze.encode()).hexdigest()[:8]
    modules = {
        module: str(name)
        for name, entry in entries.items()
        for module, regular in entry["modules"].items()
        if regular
    }
    shared = {module for entry in entries.values() for module in entry["modules"]} - modules.keys()
    manifest = BaseManifest(
        id=base_id(built_for, versions["torch"], facts["python"], digest),
        tag=built_for,
        torch=versions["torch"],
        python=facts["python"],
        prefix=facts["prefix"],
        interpreter=facts["interpreter"],
        site_dirs=tuple(facts["site_dirs"]),
        distributions=versions,
        fixed=_fixed(entries, facts["markers"]),
        modules=modules,
        namespaces=frozenset(shared),
        architectures=tuple(torch["architectures"]),
        adopted=adopted,
        installer=installer,
        created=created,
    )
    files, links = _skeleton(entries.values(), facts["purelib"])
    tag = preferred_tag(facts["python_tag"])
    return Snapshot(manifest, files, links, receipt_wheels(files, manifest.site_dirs, tag))


def own_python(manifest: BaseManifest) -> Path:
    """The interpreter that runs in the base itself.

    A virtual environment has its own. Where the true interpreter lies in the prefix, it is that
    one: beside it there may be others (``/usr/bin/python3.12``), of which ``bin/python`` is but one.
    """
    true, prefix = Path(manifest.interpreter), Path(manifest.prefix)
    return true if true.parent.parent == prefix else prefix / "bin/python"


def base_id(tag: str, torch: str, python: str, digest: str) -> str:
    """``<tag>-torch<version>-py<xy>-<digest8>``: a name that is also a directory's."""
    public = torch.split("+", maxsplit=1)[0]
    return f"{tag}-torch{public}-py{''.join(python.split('.')[:2])}-{digest[:8]}"


def _fixed(entries: Mapping[str, Mapping[str, Any]], markers: Mapping[str, str]) -> frozenset[str]:
    """Torch's stack: torch, the libraries of its accelerator, and what is built against it.

    torch names most of these libraries with exact versions, and not all of them by names that tell, so
    they are found by its own metadata. What it merely needs in some range (sympy, fsspec) may be
    replaced within that range.
    """
    stack = {"torch"}
    pending = ["torch"]
    while pending:
        for requirement in _requirements(entries[pending.pop()], markers):
            name = canonicalize_name(requirement.name)
            belongs = _is_exact(requirement) or name in ECOSYSTEM or is_accelerator_library(name)
            if name in entries and name not in stack and belongs:
                stack.add(name)
                pending.append(name)
    built = {name for name, entry in entries.items() if _built_against_torch(entry, markers)}
    return frozenset(stack | built | (ECOSYSTEM & entries.keys()))


def _built_against_torch(entry: Mapping[str, Any], markers: Mapping[str, str]) -> bool:
    """Whether a distribution needs one torch exactly, or needs torch and holds compiled code."""
    wants = [one for one in _requirements(entry, markers) if canonicalize_name(one.name) == "torch"]
    compiled = re.search(r"(?im)^Root-Is-Purelib:\s*false", entry["texts"].get("WHEEL", ""))
    return bool(wants) and (compiled is not None or any(map(_is_exact, wants)))


def _is_exact(requirement: Requirement) -> bool:
    return any(spec.operator in ("==", "===") for spec in requirement.specifier)


def _requirements(entry: Mapping[str, Any], markers: Mapping[str, str]) -> Iterable[Requirement]:
    for line in entry["requires"]:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # legacy metadata; what cannot be read cannot be followed
            continue
        if requirement.marker is None or requirement.marker.evaluate({**markers, "extra": ""}):
            yield requirement


def _skeleton(
    entries: Iterable[Mapping[str, Any]], purelib: str
) -> tuple[list[tuple[str, int, str]], list[tuple[str, str]]]:
    files: list[tuple[str, int, str]] = []
    links: list[tuple[str, str]] = []
    for entry in entries:
        files += _receipt(entry, purelib)
        scripts = _console_scripts(entry["texts"].get("entry_points.txt", ""))
        files += [(f"bin/{name}", 0o755, _script(target)) for name, target in scripts.items()]
        for path in entry["programs"]:
            name = Path(path).name
            if name not in scripts:
                links.append((f"bin/{name}", path))
    return files, links


def _receipt(entry: Mapping[str, Any], purelib: str) -> list[tuple[str, int, str]]:
    """One distribution's ``dist-info`` in little: a RECORD that names only these files."""
    folder = f"{canonicalize_name(entry['name']).replace('-', '_')}-{entry['version']}.dist-info"
    texts = dict(entry["texts"])
    # The description is most of METADATA's size and of no use to a resolver.
    texts["METADATA"] = texts.get("METADATA", "").split("\n\n", 1)[0] + "\n"
    wheel = texts.get("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    lines = [line for line in wheel.splitlines() if line and not line.startswith("Generator:")]
    texts["WHEEL"] = "".join(f"{line}\n" for line in [*lines, f"Generator: {RECEIPT}"])
    texts["RECORD"] = "".join(f"{folder}/{name},,\n" for name in sorted([*texts, "RECORD"]))
    return [(f"{purelib}/{folder}/{name}", 0o644, text) for name, text in sorted(texts.items())]


def _console_scripts(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    found = {}
    for section in ("console_scripts", "gui_scripts"):
        for name, target in parser.items(section) if parser.has_section(section) else ():
            match = re.fullmatch(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*", target)
            if match and re.fullmatch(r"[\w.+-]+", name):
                found[name] = f"{match.group(1)}:{match.group(2)}"
    return found


def _script(target: str) -> str:
    module, function = target.split(":")
    return (
        f"{PREFIX_MARK}\nimport sys\nfrom {module} import {function.split('.')[0]}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
