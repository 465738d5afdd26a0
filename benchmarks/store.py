"""What a thousand notebooks take on disk, and what ten thousand overlays cost whoever looks at them.

    python benchmarks/store.py                           what `make bench` runs
    python benchmarks/store.py --notebooks 100 --overlays 1000 --json raw.json

Overlays are made for many notebooks on one base, every other one without extras, and what they add
is measured as their number grows; a private environment, made by uv, is what to compare with. Then
the store is filled up to ten thousand overlays with copies of one overlay's records, a hundred of
which nobody needs any more; a launch, ``jupyter overlay list`` and ``jupyter overlay prune
--dry-run`` are timed before and after.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from kernels import write_notebook
from measure import Start, Times, measure
from report import announce, median, milliseconds, seconds, table
from ways import Work, bare, overlay, set_environment, uv_venv

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.disk import Usage, human, usage

COMMAND = (sys.executable, "-m", "kernel_provisioner.cli.app")
NEEDLESS = 100  # of the overlays that fill the store
RECORDS = (layout.SPEC, layout.OVERLAY, layout.ENTERED, layout.USE_LOCK, layout.BUILDER_LOCK)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    work = Work(base, tuple(options.extra or ["einops"]), place / "uv-cache", None)
    set_environment(work)
    header = announce({"base": base.manifest.id, "extras": ", ".join(work.extras)})
    bench = Bench(work, place)
    grown = bench.grow(options.notebooks)
    private = bench.private()
    few = asyncio.run(bench.look(options.rounds))
    bench.fill(options.overlays)
    many = asyncio.run(bench.look(options.rounds))
    return {
        "environment": header,
        "grown": {str(number): dataclasses.asdict(used) for number, used in grown.items()},
        "private": dataclasses.asdict(private),
        "looks": [dataclasses.asdict(few), dataclasses.asdict(many)],
    }


@dataclasses.dataclass(frozen=True)
class Looks:
    """Seconds, with so many overlays in the store. ``launch`` and ``bare``: to the kernel's first answer."""

    overlays: int
    bare: list[float]
    launch: list[float]
    listing: list[float]
    prune: list[float]


class Bench:
    """One store of overlays, which grows."""

    def __init__(self, work: Work, place: Path) -> None:
        self._work, self._place = work, place
        self._overlays = place / "overlays"

    def grow(self, notebooks: int) -> dict[int, Usage]:
        """Make the overlays of so many notebooks; what all of them take, at 2, 20, 200 … of them."""
        stages = [number for number in (2, 20, 200, 2000) if number < notebooks] + [notebooks]
        grown, made = {}, 0
        for stage in stages:
            folder = self._place / f"to-{stage}"
            for number in range(made, stage):
                extras = list(self._work.extras) if number % 2 else []
                write_notebook(folder / f"nb{number}.ipynb", {"extras": extras})
            made = stage
            print(f"making overlays, {stage} in all", flush=True)
            command = [*COMMAND, "prebuild", str(folder), "--kernel", f"torch-{self._work.base.manifest.tag}"]
            subprocess.run(command, check=True, capture_output=True)
            grown[stage] = usage([self._overlays])
        return grown

    def private(self) -> Usage:
        """What one environment of one's own takes: all files of it, as if none were a hard link."""
        trial = uv_venv("--link-mode", "hardlink")(self._work, self._place / "private")
        trial.make()
        return usage(trial.trees)

    async def look(self, rounds: int) -> Looks:
        """Start a notebook's kernel, list the store, and ask what could go."""
        trial = overlay(self._work, self._place / "looked-at")
        await _started(trial.spec, trial.notebook)
        reference = bare(self._work, self._place / "bare")
        taken = Looks(sum(1 for _ in self._overlays.glob("*/*/overlay.json")), [], [], [], [])
        for _ in range(rounds):
            taken.bare.append((await _started(reference.spec, reference.notebook)).kernel_info)
            taken.launch.append((await _started(trial.spec, trial.notebook)).kernel_info)
        for _ in range(max(3, rounds // 5)):
            taken.listing.append(_timed("list"))
            taken.prune.append(_timed("prune", "--dry-run"))
        return taken

    def fill(self, overlays: int) -> None:
        """Fill the store up with copies of one overlay's records; of some the notebook is gone."""
        (model, *_) = sorted(self._overlays.glob("nb1-*"))
        there = sum(1 for _ in self._overlays.glob("*/*/overlay.json"))
        print(f"filling the store up to {overlays} overlays", flush=True)
        for number in range(there, overlays):
            copy = self._overlays / f"copy-{number:012x}"
            (copy / "0001").mkdir(parents=True)
            for record in RECORDS:
                if (model / "0001" / record).exists():
                    shutil.copyfile(model / "0001" / record, copy / "0001" / record)
            (copy / layout.LAUNCH_LOCK).touch()
            notebook = "gone.ipynb" if number < there + NEEDLESS else "looked-at/looked-at.ipynb"
            (copy / layout.NOTEBOOK).write_text(f"{self._place / notebook}\n", encoding="utf-8")


async def _started(spec: Any, notebook: Path) -> Times:
    return await measure(Start(spec, "pass", notebook), os.environ)


def _timed(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, *words, "--json"], check=True, capture_output=True)
    return time.perf_counter() - began


def told(data: Mapping[str, Any]) -> str:
    """The tables of a run, from its raw numbers."""
    grown = {int(number): Usage(**used) for number, used in data["grown"].items()}
    looks = [Looks(**look) for look in data["looks"]]
    return f"{_growth(grown, Usage(**data['private']))}\n{_looks(*looks)}"


def _growth(grown: dict[int, Usage], private: Usage) -> str:
    """What so many notebooks take here and in environments of their own."""
    whole = private.own_bytes + private.linked_bytes
    files = private.own_files + private.linked_files
    rows = [
        ["notebooks", "own bytes", "files", "for each", "files", "private environments", "files", "ratio"]
    ]
    for number, used in grown.items():
        rows.append([
            f"{number:,}", human(used.own_bytes), f"{used.own_files:,}", human(used.own_bytes // number),
            f"{used.own_files // number:,}", human(whole * number), f"{files * number:,}",
            f"1 : {whole * number / used.own_bytes:,.0f}",
        ])  # fmt: skip
    return table(rows) + "\n"


def _looks(few: Looks, many: Looks) -> str:
    rows = [["overlays in the store", "launch", "x bare", "list", "prune --dry-run"]]
    for taken in (few, many):
        launch = median(taken.launch)
        ratio = f"{launch / median(taken.bare):.2f}"
        rest = [seconds(median(taken.listing)), seconds(median(taken.prune))]
        rows.append([f"{taken.overlays:,}", milliseconds(launch), ratio, *rest])
    ratios = [median(taken.launch) / median(taken.bare) for taken in (few, many)]
    return (
        f"{table(rows)}\n\nlaunch: {ratios[1] / ratios[0]:.3f} x of that with few (aim: at most 1.05)\n"
        f"list: {seconds(median(many.listing))} (aim: at most 1 s)\n"
        f"prune --dry-run: {seconds(median(many.prune))} (aim: at most 5 s)"
    )


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--notebooks", type=int, default=1000, help="how many get an overlay (1000)")
    parser.add_argument("--overlays", type=int, default=10_000, help="how many fill the store (10000)")
    parser.add_argument("--rounds", type=int, default=15, help="how often a kernel is started (15)")
    program.add_base(parser)
    parser.add_argument("--extra", action="append", help="a package of every other notebook (einops)")
    program.add_json(parser, "number")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
