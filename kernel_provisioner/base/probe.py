"""What an environment says of itself, asked of its own interpreter.

Run as a file by the base's Python (3.10 or newer, standard library only, ``-I``), never
imported: it prints one JSON object. ``-I`` keeps out the user's site directory, PYTHONPATH and
the working directory, none of which belongs to the base.
"""

import importlib
import json
import os
import platform
import sys
import sysconfig
from importlib import metadata
from typing import Any

KEPT = ("METADATA", "WHEEL", "entry_points.txt")


def main() -> None:
    facts = {
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "interpreter": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
        "executable": sys.executable,
        "site_dirs": site_dirs(),
        "purelib": purelib(),
        "python_tag": python_tag(),
        "markers": markers(),
        "distributions": distributions(),
        "externally_managed": os.path.exists(
            os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
        ),
        "torch": torch_facts() if "--torch" in sys.argv else None,
    }
    facts["broken"] = broken(sys.argv[sys.argv.index("--torch") + 1 :]) if "--torch" in sys.argv else {}
    json.dump(facts, sys.stdout)


def site_dirs() -> list[str]:
    """The directories that site put on sys.path: site-packages, and what .pth files added."""
    stdlib = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    found = []
    for entry in sys.path:
        real = os.path.realpath(entry)
        if not os.path.isdir(entry) or real in stdlib or os.path.basename(real) == "lib-dynload":
            continue
        if entry not in found:
            found.append(entry)
    return found


def purelib() -> str:
    """Where a virtual environment of this interpreter keeps its packages, below its prefix."""
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
    roots = {"base": "/root", "platbase": "/root"}
    return os.path.relpath(sysconfig.get_path("purelib", scheme, roots), "/root")


def python_tag() -> str:
    """The interpreter and ABI of a wheel for this interpreter alone, such as ``cp311-cp311``."""
    number = "".join(platform.python_version_tuple()[:2])
    return f"cp{number}-cp{number}{'t' if 't' in sys.abiflags else ''}"


def distributions() -> list[dict[str, Any]]:
    """Each installed distribution once, the first on the path, as its importers see it."""
    found: dict[str, dict[str, Any]] = {}
    for dist in metadata.distributions(path=site_dirs()):
        name = dist.metadata["Name"]
        key = (name or "").lower().replace("_", "-").replace(".", "-")
        if not name or key in found:
            continue
        folder = getattr(dist, "_path", None)
        texts = {kept: text for kept in KEPT if (text := dist.read_text(kept))}
        if "METADATA" not in texts and (text := dist.read_text("PKG-INFO")):
            texts["METADATA"] = text
        found[key] = {
            "name": name,
            "version": dist.version,
            "folder": os.path.basename(str(folder)) if folder else "",
            "requires": dist.requires or [],
            "texts": texts,
            "modules": modules(dist),
            "programs": programs(dist),
        }
    return list(found.values())


def broken(names: list[str]) -> dict[str, str]:
    """What importing a module of each of these distributions, if it is there, ends with."""
    found = {}
    for name in names:
        try:
            tops = [top for top, regular in modules(metadata.distribution(name)).items() if regular]
        except metadata.PackageNotFoundError:
            continue
        for top in tops:
            try:
                importlib.import_module(top)
            except BaseException as error:  # noqa: PERF203 - a handful
                found[top] = f"{type(error).__name__}: {error}"
    return found


def modules(dist: metadata.Distribution) -> dict[str, bool]:
    """Top-level importable names, each with whether the distribution makes it a regular package."""
    names: dict[str, bool] = {}
    for file in dist.files or ():
        parts = file.parts
        top = parts[0].split(".")[0] if len(parts) == 1 else parts[0]
        importable = len(parts) > 1 or file.suffix in (".py", ".so", ".pyd")
        if not importable or not top.isidentifier() or top == "__pycache__":
            continue
        regular = len(parts) == 1 or (len(parts) == 2 and parts[1].startswith("__init__."))
        names[top] = names.get(top, False) or regular
    return names


def programs(dist: metadata.Distribution) -> list[str]:
    """The executables, not scripts, that the distribution put into the environment's ``bin``."""
    bin_dir = os.path.join(sys.prefix, "bin")
    located = {os.path.normpath(str(dist.locate_file(file))) for file in dist.files or ()}
    return sorted(path for path in located if os.path.dirname(path) == bin_dir and is_program(path))


def is_program(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) != b"#!"
    except OSError:
        return False


def markers() -> dict[str, str]:
    """The PEP 508 environment of this interpreter."""
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": platform.python_version(),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def torch_facts() -> dict[str, Any]:
    """What torch was built for, in its own words; ``error`` where it cannot be imported."""
    try:
        import torch
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}
    version = getattr(torch, "version", None)
    try:
        flags = torch._C._cuda_getArchFlags() or ""
    except Exception:  # a cpu build has no such function
        flags = ""
    return {
        "version": str(torch.__version__),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
        "xpu": bool(getattr(version, "xpu", None)),
        "architectures": flags.split(),
        "file": torch.__file__,
    }


if __name__ == "__main__":
    # A `.pth` that prints would spoil the answer: it stands between marks.
    print("<<<torch-overlay-probe", end="")
    main()
    print("torch-overlay-probe>>>")
