"""What every benchmark does around its measuring: options, a base, a place of its own, what it leaves."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kernel_provisioner.base import registry
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import BaseNotFound, OverlayError
from kernel_provisioner.overlay.skeleton import remove_tree
from kernel_provisioner.settings import load_settings

Measured = Callable[[Any, RegisteredBase, Path], Mapping[str, Any]]
"""From the options, a base and an empty place to the raw numbers, as JSON values."""


def run(options: Any, measured: Measured, told: Callable[[Mapping[str, Any]], str]) -> int:
    """Measure on the base that the options name, print what is ``told`` of the numbers, keep them if wanted.

    The exit status: 0, or 2 where there is nothing to measure on.
    """
    try:
        base = find_base(options.base)
    except OverlayError as error:
        print(error, file=sys.stderr)
        return 2
    with workplace("bench") as place:
        data = measured(options, base, place)
    print(told(data))
    if options.json:
        write_json(options.json, data)
    return 0


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the program's docstring."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_base(options: argparse.ArgumentParser) -> None:
    """``--base``, as ``find_base`` takes it."""
    options.add_argument("--base", default="", help="id or tag of the base; default: the first that there is")


def add_json(options: argparse.ArgumentParser, each: str) -> None:
    """``--json``: where ``run`` writes what was measured; ``each``: what one of the numbers is."""
    options.add_argument("--json", type=Path, help=f"write every single {each} to this file")


def find_base(name: str) -> RegisteredBase:
    """The base of that id or tag, or the first there is; a cpu base is made where there is none at all.

    Raises BaseNotFound.
    """
    register = registry.read_register()
    if not register.bases and not name:
        print("no base is registered yet, making one for the CPU (minutes, once)", flush=True)
        if not _created("cpu"):
            raise BaseNotFound("there is no base to measure on", fix="jupyter overlay base create cpu")
        register = registry.read_register()
    return register.get(name or next(iter(register.aliases), ""))


def base_of(tag: str) -> RegisteredBase:
    """The base that ``tag`` means; it is made where there is none. Raises BaseNotFound."""
    with contextlib.suppress(BaseNotFound):
        return registry.read_register().get(tag)
    print(f"no base for {tag} is registered yet, making one (minutes, once)", flush=True)
    if not _created(tag):
        raise BaseNotFound("there is no base to try on", fix=f"jupyter overlay base create {tag}")
    return registry.read_register().get(tag)


@contextlib.contextmanager
def workplace(purpose: str) -> Iterator[Path]:
    """A directory on the disk that overlays live on, where this process keeps them; gone afterwards."""
    beside = Path(load_settings().overlay_root).parent
    beside.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"torch-overlays-{purpose}-", dir=beside))
    os.environ["TORCH_OVERLAY_ROOT"] = str(place / "overlays")
    try:
        yield place
    finally:
        remove_tree(place)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write what was measured as a file that people can compare line by line."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _created(tag: str) -> bool:
    """Make a base, as a user would; whether that worked."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "create", tag]
    return subprocess.run(command, check=False).returncode == 0
