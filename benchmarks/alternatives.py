"""From nothing to a notebook's first cell, and what that takes on disk: this package and its alternatives.

    python benchmarks/alternatives.py                  what `make bench` runs
    python benchmarks/alternatives.py --rounds 5 --json raw.json
    python benchmarks/alternatives.py --only uv

The overlay is this package's: once with nothing known of what the notebook asks for, once after
another notebook has asked for the same. Each way gets a notebook that needs torch and a few
packages (transformers and einops), with all wheels in its cache: it makes the environment, starts
the kernel, and runs a first cell that imports the last package. Then the same kernel is started
once more. All ways take turns in one run; uv works offline, pip cannot. Sizes are of what one more
notebook adds; files that are hard links into a cache are counted apart. The ratios to a bare
ipykernel are what counts.
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
from measure import Start, measure
from report import announce, median, seconds, table
from ways import WAYS, Trial, Way, Work, bare, set_aside, set_environment

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import human, usage

BARE = "bare ipykernel in the base"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Seconds to the end of the first cell, from nothing and from a second start; bytes and files."""

    new: float
    again: float
    own_bytes: int = 0
    own_files: int = 0
    linked_bytes: int = 0
    linked_files: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    extras = tuple(options.extra or ["transformers", "einops"])
    ways = [way for way in WAYS if options.only in way.name]
    system = None
    if any(way.needs_system for way in ways):
        system = _system_python(place, base.manifest.interpreter)
    work = Work(base, extras, place / "uv-cache", system)
    set_environment(work)
    bench = Bench(work, place, ways)
    header = announce({"base": base.manifest.id, "extras": ", ".join(extras)})
    samples = asyncio.run(bench.run(options.rounds))
    raw = {name: [dataclasses.asdict(one) for one in rows] for name, rows in samples.items()}
    return {"environment": header, "samples": raw, "skipped": bench.skipped}


class Bench:
    """All ways, in turn. ``skipped`` names those that cannot be tried here, and why."""

    def __init__(self, work: Work, place: Path, ways: Sequence[Way]) -> None:
        self._work, self._place = work, place
        self.skipped = {way.name: why for way in ways if (why := way.impossible(work))}
        self._ways = [way for way in ways if way.name not in self.skipped]
        self._made = 0

    async def run(self, rounds: int) -> dict[str, list[Sample]]:
        """``rounds`` samples of each way; of the slow ones a third, but two at least."""
        samples: dict[str, list[Sample]] = {BARE: [], **{way.name: [] for way in self._ways}}
        await self._bare()
        _give_torch(self._work)
        for way in self._ways:
            print(f"filling caches: {way.name}", flush=True)
            try:
                await self._sample(way)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                self.skipped[way.name] = _last(error)
                del samples[way.name]
        os.environ["UV_OFFLINE"] = "1"
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            samples[BARE].append(await self._bare())
            for way in self._ways:
                if way.name in samples and (not way.slow or number < max(2, rounds // 3)):
                    samples[way.name].append(await self._sample(way))
        return samples

    async def _bare(self) -> Sample:
        trial = bare(self._work, self._folder())
        times = await measure(Start(trial.spec, "pass", trial.notebook), os.environ)
        return Sample(times.first_cell, times.first_cell)

    async def _sample(self, way: Way) -> Sample:
        folder = self._folder()
        trial = way.trial(self._work, folder)
        before = usage(trial.trees)
        began = time.perf_counter()
        await asyncio.to_thread(trial.make)
        making = time.perf_counter() - began
        first = await self._start(trial)
        after = usage(trial.trees)
        again = await self._start(way.trial(self._work, folder))
        set_aside(self._work, trial, folder)
        return Sample(
            making + first,
            again,
            after.own_bytes - before.own_bytes,
            after.own_files - before.own_files,
            after.linked_bytes - before.linked_bytes,
            after.linked_files - before.linked_files,
        )

    async def _start(self, trial: Trial) -> float:
        last = self._work.extras[-1].replace("-", "_")
        cell = f"import importlib.util, {last}\nassert importlib.util.find_spec('torch')"
        return (await measure(Start(trial.spec, cell, trial.notebook), os.environ)).first_cell

    def _folder(self) -> Path:
        self._made += 1
        return self._place / f"notebook-{self._made}"


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers: medians, and ratios to the bare kernel."""
    samples = {name: [Sample(**one) for one in rows] for name, rows in data["samples"].items()}
    reference = median([one.new for one in samples[BARE]])
    head = ["", "rounds", "new", "x bare", "again", "x bare", "own bytes", "files", "hard links", "files"]
    rows = [head]
    for name, taken in samples.items():
        new, again = median([one.new for one in taken]), median([one.again for one in taken])
        size = [*_size(taken, "own"), *_size(taken, "linked")] if name != BARE else [""] * 4
        times = [seconds(new), f"{new / reference:.2f}", seconds(again), f"{again / reference:.2f}"]
        rows.append([name, str(len(taken)), *times, *size])
    lines = ["medians, from nothing to the end of the first cell", "", table(rows)]
    lines += [f"{name}: not measured, {why}" for name, why in data["skipped"].items()]
    return "\n".join(lines)


def _size(taken: Sequence[Sample], kind: str) -> list[str]:
    values = [median([getattr(one, f"{kind}_{what}") for one in taken]) for what in ("bytes", "files")]
    return [human(int(values[0])), f"{int(values[1]):,}"]


def _system_python(place: Path, python: str) -> Path | None:
    """A copy of a Python installation; None where it is the system's own, which is no place to copy."""
    prefix = Path(python).parent.parent
    if not (prefix / "lib").is_dir() or prefix in (Path("/"), Path("/usr"), Path("/usr/local")):
        return None
    shutil.copytree(prefix, place / "system", symlinks=True)
    return place / "system/bin" / Path(python).name


def _give_torch(work: Work) -> None:
    """Install torch and ipykernel into the copy, as an admin would into the system's Python."""
    if work.system is not None:
        command = [str(work.system), "-m", "pip", "install", "--quiet", *work.needs[:2]]
        subprocess.run(command, check=True, capture_output=True)


def _last(error: RuntimeError | subprocess.CalledProcessError) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return next(reversed(said.strip().splitlines()), type(error).__name__)


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each way is tried (7)")
    program.add_base(parser)
    parser.add_argument("--extra", action="append", help="a package (transformers and einops)")
    parser.add_argument("--only", default="", help="only the ways whose name holds this")
    program.add_json(parser, "sample")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
