"""How long a notebook's kernel takes to start: bare, in a ready overlay, in brand-new ones.

    python benchmarks/launch.py                     what `make bench` runs
    python benchmarks/launch.py --rounds 50 --json raw.json
    python benchmarks/launch.py --base cu126 --extra pandas
    python benchmarks/launch.py --many --ready-store      the same with some 150 packages
    python benchmarks/launch.py --deleted 20000           on a disk where so many files were just deleted

Compared in one run, interleaved, on one base: ipykernel started in the base by jupyter_client
alone; the same through this package in an overlay that is ready; and in overlays that do not exist
when the kernel is asked for, of notebook paths never seen before: one whose packages another
notebook has asked for; one whose packages are in the wheel store, while their versions are to be found; and
one of which nothing is there but the wheels in uv's cache. All are made without network.
Times are from the call of ``start_kernel`` to
the reply to ``kernel_info``, to the end of the first cell, and inside ``pre_launch``, the part
of the launch that this package is. The first cell imports a package that the notebook declares; the
bare kernel finds it unpacked and never imported, as a new overlay leaves it. The overlays are made in a
directory of their own, which is gone afterwards. The ratios are what counts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from filled import store_filled
from kernels import ipykernel, ours, write_notebook
from measure import Start, Times, measure
from report import announce, median, milliseconds, p95, table

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.packages import packages
from kernel_provisioner.overlay.skeleton import remove_tree

BARE, READY = "bare ipykernel in the base", "ready overlay"
SECOND, FIRST = "new overlay, packages known", "new overlay, nothing known"
EMPTY = "new overlay, empty wheel store"
WAYS = (BARE, READY, SECOND, FIRST, EMPTY)
AIMS = (
    (READY, "kernel_info", 1.02),
    (SECOND, "first_cell", 1.05),
    (FIRST, "first_cell", 1.10),
    (EMPTY, "first_cell", 1.10),
)
"""What is compared with the bare kernel, and the ratio of medians that it should not exceed."""
MANY = (
    "transformers", "datasets", "gradio", "accelerate", "mlflow", "streamlit", "scrapy", "optuna", "einops",
)  # fmt: skip
"""What brings some 150 packages."""
WITHIN = 0.005
"""Seconds that 95 of 100 launches of a ready overlay should spend in ``pre_launch`` at most."""

Rounds = list[dict[str, Times]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    extras = options.extra or (MANY if options.many else ["transformers", "einops"])
    ways = [name for name in WAYS if name != EMPTY or not options.ready_store]
    bench = Bench(base, place, extras, options.cell, ways, options.deleted)
    header = announce(bench.describe())
    rounds = asyncio.run(bench.run(options.rounds))
    raw = [{name: dataclasses.asdict(times) for name, times in entry.items()} for entry in rounds]
    return {"environment": header, "seconds": raw}


class Bench:
    """The ways to start, on one base. ``deleted``: so many files are deleted before every fifth round."""

    def __init__(
        self,
        base: RegisteredBase,
        place: Path,
        extras: Sequence[str],
        cell: str,
        ways: Sequence[str] = WAYS,
        deleted: int = 0,
    ) -> None:
        self._base, self._place, self._extras = base, place, tuple(extras)
        self._ways, self._deleted = list(ways), deleted
        self._cell = cell or f"import {extras[-1].replace('-', '_')}"
        self._bare = ipykernel(str(Path(base.manifest.prefix) / "bin/python"))
        self._ours = ours(base.manifest.tag)
        self._unpacked = place / "unpacked"
        self._made = 0

    def describe(self) -> dict[str, str]:
        """The base and the work, for the header."""
        manifest = self._base.manifest
        held = manifest.distributions
        return {
            "base": f"{manifest.id}, Python {manifest.python}, {len(held)} distributions, "
            f"ipykernel {held['ipykernel']}",
            "extras": ", ".join(self._extras),
            "cell": self._cell,
            **({"deleted": f"{self._deleted:,} files, before every fifth round"} if self._deleted else {}),
        }

    async def run(self, count: int) -> Rounds:
        """``count`` rounds; in each, every way once, and each time another one first."""
        ready = self._notebook()
        await self._ours_in(ready)  # resolves, fetches, and keeps the lock
        print(f"{'packages':9} {self._added()}\n", flush=True)
        nothing = shutil.ignore_patterns("*.pth", "__pycache__")
        shutil.copytree(self._first().parent, self._unpacked, ignore=nothing)
        await store_filled(self._place / "overlays")
        for notebook in (ready, self._notebook()):  # once for the disk's cache, not counted
            await self._ours_in(notebook)
        await self._bare_in(ready)
        os.environ["UV_OFFLINE"] = "1"
        rounds: Rounds = []
        for number in range(count):
            if self._deleted and number % 5 == 0:
                self._delete_files()
            turn = number % len(self._ways)
            order = self._ways[turn:] + self._ways[:turn]
            rounds.append({name: await self._one(name, ready) for name in order})
        return rounds

    async def _one(self, name: str, ready: Path) -> Times:
        if name == BARE:
            return await self._bare_in(ready)
        if name == READY:
            return await self._ours_in(ready)
        if name == FIRST:
            remove_tree(self._place / "overlays/locks")
        if name != EMPTY:
            return await self._ours_in(self._notebook())
        # A root of its own, not an emptied one: see ``ways.set_aside``.
        usual, root = os.environ["TORCH_OVERLAY_ROOT"], self._place / f"overlays-{self._made}"
        os.environ["TORCH_OVERLAY_ROOT"] = str(root)
        try:
            times = await self._ours_in(self._notebook())
        finally:
            os.environ["TORCH_OVERLAY_ROOT"] = usual
        await store_filled(root)
        return times

    def _delete_files(self) -> None:
        """Make so many files beside the overlays, and delete them."""
        litter = self._place / "litter"
        for number in range(self._deleted):
            folder = litter / str(number // 100)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(number)).touch()
        shutil.rmtree(litter)

    async def _bare_in(self, notebook: Path) -> Times:
        for compiled in list(self._unpacked.rglob("__pycache__")):
            shutil.rmtree(compiled)
        cell = f"import sys; sys.path.append({os.fspath(self._unpacked)!r})\n{self._cell}"
        return await measure(Start(self._bare, cell, notebook), os.environ)

    async def _ours_in(self, notebook: Path) -> Times:
        return await measure(Start(self._ours, self._cell, notebook), os.environ)

    def _notebook(self) -> Path:
        """A notebook at a path where none ever was."""
        self._made += 1
        return write_notebook(self._place / f"notebook-{self._made}.ipynb", {"extras": self._extras})

    def _added(self) -> str:
        found = packages(self._first().parents[3])
        return f"{len(found)} in an overlay: " + ", ".join(f"{one.name} {one.version}" for one in found)

    def _first(self) -> Path:
        """A file in the site-packages of the first overlay."""
        (hook,) = (self._place / "overlays").glob(
            "notebook-1-*/0001/lib/python*/site-packages/zzz_torch_base.pth"
        )
        return hook


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers, then each aim beside what was measured."""
    rounds: Rounds = [{name: Times(**times) for name, times in entry.items()} for entry in data["seconds"]]
    heads = ("kernel_info", "first_cell", "pre_launch")
    rows: list[list[str]] = [
        ["", *(head for name in heads for head in (name, "p95", "x bare"))][:-1],
        *(list(_row(rounds, name, heads)) for name in WAYS if name in rounds[0]),
    ]
    lines = [f"{len(rounds)} rounds, interleaved; medians, from start_kernel on", "", table(rows), ""]
    for name, what, aim in (one for one in AIMS if one[0] in rounds[0]):
        lines.append(f"{name}, {what}: {_ratio(rounds, name, what):.3f} x bare (aim: at most {aim:.2f})")
    spent, jupyters = (milliseconds(p95(_values(rounds, name, "pre_launch"))) for name in (READY, BARE))
    within = f"aim: at most {milliseconds(WITHIN)}"
    lines.append(f"{READY}, pre_launch: {spent} at p95, of which Jupyter's own {jupyters} ({within})")
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


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is started (20)")
    program.add_base(parser)
    parser.add_argument(
        "--extra", action="append", help="an extra (transformers and einops); may be repeated"
    )
    parser.add_argument("--many", action="store_true", help="extras that bring some 150 packages")
    parser.add_argument(
        "--ready-store", action="store_true", help="leave out the starts with an empty wheel store"
    )
    parser.add_argument(
        "--deleted", type=int, default=0, metavar="N", help="delete N files before every fifth round"
    )
    parser.add_argument(
        "--cell", default="", help="a brand-new overlay's first cell (imports the last extra)"
    )
    program.add_json(parser, "time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
