"""How long a notebook's kernel takes to start: bare, in a ready overlay, in a brand-new one.

    python benchmarks/launch.py                     what `make bench` runs
    python benchmarks/launch.py --rounds 50 --json raw.json
    python benchmarks/launch.py --base cu126 --extra pandas

Compared in one run, interleaved, on one base: ipykernel started in the base by jupyter_client
alone; the same through this package in an overlay that is ready; and in an overlay that does not
exist when the kernel is asked for: a notebook path never seen before, wheels in uv's cache, and
the set of packages known from another notebook. Times are from the call of ``start_kernel`` to
the reply to ``kernel_info``, to the end of the first cell, and inside ``pre_launch``, the part
of the launch that this package is. The overlays are made in a directory of their own, which is
gone afterwards. The ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from measure import Start, Times, measure
from report import environment, median, milliseconds, p95, table

from kernel_provisioner.base import registry
from kernel_provisioner.base.kernels import kernel_spec
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import BaseNotFound, OverlayError
from kernel_provisioner.inkernel.packages import packages
from kernel_provisioner.overlay.skeleton import remove_tree
from kernel_provisioner.settings import load_settings

BARE, READY, NEW = "bare ipykernel in the base", "ready overlay", "brand-new overlay"
AIMS = ((READY, "kernel_info", 1.02), (NEW, "first_cell", 1.15))
"""What is compared with the bare kernel, and the ratio of medians that it should not exceed."""

Rounds = list[dict[str, Times]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    options = _options(argv)
    try:
        base = _base(options.base)
    except OverlayError as error:
        print(error, file=sys.stderr)
        return 2
    beside = Path(load_settings().overlay_root).parent  # the disk that overlays live on
    beside.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="torch-overlays-bench-", dir=beside))
    os.environ["TORCH_OVERLAY_ROOT"] = str(place / "overlays")
    try:
        bench = Bench(base, place, options.extra or ["transformers", "einops"], options.cell)
        header = {**environment(), **bench.describe()}
        print("\n".join(f"{name:9} {text}" for name, text in header.items()) + "\n", flush=True)
        rounds = asyncio.run(bench.run(options.rounds))
    finally:
        remove_tree(place)
    print(summary(rounds))
    if options.json:
        raw = [{name: dataclasses.asdict(times) for name, times in entry.items()} for entry in rounds]
        data = {"environment": header, "seconds": raw}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


class Bench:
    """The three ways to start, on one base."""

    def __init__(self, base: RegisteredBase, place: Path, extras: Sequence[str], cell: str) -> None:
        self._base, self._place, self._extras = base, place, tuple(extras)
        self._cell = cell or f"import {extras[-1].replace('-', '_')}"
        tag = base.manifest.tag
        python = str(Path(base.manifest.prefix) / "bin/python")
        self._bare = KernelSpec(
            argv=[python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="bare"
        )
        self._ours = KernelSpec(
            argv=kernel_spec(tag)["argv"], display_name=f"torch-{tag}", metadata=kernel_spec(tag)["metadata"]
        )
        self._environ = {**os.environ, "TORCH_OVERLAY_ROOT": str(place / "overlays")}
        self._made = 0

    def describe(self) -> dict[str, str]:
        """The base and the work, for the header."""
        manifest = self._base.manifest
        held = manifest.distributions
        return {
            "base": f"{manifest.id}, Python {manifest.python}, {len(held)} distributions, "
            f"ipykernel {held['ipykernel']}",
            "extras": ", ".join(self._extras),
            "cells": f"pass; in the brand-new overlay {self._cell}",
        }

    async def run(self, count: int) -> Rounds:
        """``count`` rounds; in each, every way once, and each time another one first."""
        ready = self._notebook()
        await self._ours_in(ready, self._cell)  # resolves, fetches, and keeps the lock
        print(f"{'packages':9} {self._added()}\n", flush=True)
        for notebook in (ready, self._notebook()):  # once for the disk's cache, not counted
            await self._ours_in(notebook, self._cell)
        await self._bare_in(ready)
        rounds: Rounds = []
        for number in range(count):
            names = [BARE, READY, NEW]
            times: dict[str, Times] = {}
            for name in names[number % 3 :] + names[: number % 3]:
                if name == NEW:
                    times[name] = await self._ours_in(self._notebook(), self._cell)
                else:
                    times[name] = await (self._bare_in(ready) if name == BARE else self._ours_in(ready))
            rounds.append(times)
        return rounds

    async def _bare_in(self, notebook: Path) -> Times:
        return await measure(Start(self._bare, "pass", notebook), self._environ)

    async def _ours_in(self, notebook: Path, cell: str = "pass") -> Times:
        start = Start(self._ours, cell, notebook, accelerator=self._base.manifest.tag)
        return await measure(start, self._environ)

    def _notebook(self) -> Path:
        """A notebook at a path where none ever was."""
        self._made += 1
        path = self._place / f"notebook-{self._made}.ipynb"
        metadata = {"torch_env": {"extras": list(self._extras)}}
        path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
        return path

    def _added(self) -> str:
        (generation,) = (self._place / "overlays").glob("notebook-1-*/*/overlay.json")
        found = packages(generation.parent)
        return f"{len(found)} in an overlay: " + ", ".join(f"{one.name} {one.version}" for one in found)


def summary(rounds: Rounds) -> str:
    """The table of a run, then each aim beside what was measured."""
    heads = ("kernel_info", "first_cell", "pre_launch")
    rows: list[list[str]] = [
        ["", *(head for name in heads for head in (name, "p95", "x bare"))][:-1],
        *(list(_row(rounds, name, heads)) for name in (BARE, READY, NEW)),
    ]
    lines = [f"{len(rounds)} rounds, interleaved; medians, from start_kernel on", "", table(rows), ""]
    for name, what, aim in AIMS:
        lines.append(f"{name}, {what}: {_ratio(rounds, name, what):.3f} x bare (aim: at most {aim:.2f})")
    return "\n".join(lines)


def _row(rounds: Rounds, name: str, heads: Sequence[str]) -> Iterator[str]:
    yield name
    for head in heads:
        values = _values(rounds, name, head)
        yield milliseconds(median(values))
        yield milliseconds(p95(values))
        if head != "pre_launch":  # it is part of the others
            yield f"{_ratio(rounds, name, head):.2f}"


def _ratio(rounds: Rounds, name: str, what: str) -> float:
    return median(_values(rounds, name, what)) / median(_values(rounds, BARE, what))


def _values(rounds: Rounds, name: str, what: str) -> list[float]:
    return [getattr(entry[name], what) for entry in rounds]


def _base(name: str) -> RegisteredBase:
    """The base to measure on; a cpu base is made where there is none at all."""
    register = registry.read_register()
    if not register.bases and not name:
        print("no base is registered yet, making one for the CPU (minutes, once)", flush=True)
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "create", "cpu"]
        if subprocess.run(command, check=False).returncode != 0:
            raise BaseNotFound("there is no base to measure on", fix="jupyter overlay base create cpu")
        register = registry.read_register()
    return register.get(name or next(iter(register.aliases), ""))


def _options(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is started (20)")
    parser.add_argument("--base", default="", help="id or tag of the base; default: the first that there is")
    parser.add_argument(
        "--extra", action="append", help="an extra (transformers and einops); may be repeated"
    )
    parser.add_argument(
        "--cell", default="", help="a brand-new overlay's first cell (imports the last extra)"
    )
    parser.add_argument("--json", type=Path, help="write every single time to this file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
