"""Many kernels at once: how long until all answer, and what memory those take that imported torch.

    python benchmarks/crowd.py                           what `make bench` runs
    python benchmarks/crowd.py --kernels 20 --rounds 2 --json raw.json

A server is asked for fifty kernels at the same moment, of as many notebooks whose overlays are
ready, and in turn for fifty bare ones in the base. Then some kernels import torch, and their
memory is told as PSS, which counts a page that several processes share in parts: on one base,
where they share torch's files, and in private environments that are copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from filled import store_filled
from jupyter_client.kernelspec import KernelSpec
from measure import Start, measure, pss, running
from report import announce, median, seconds, table
from ways import Work, bare, overlay, set_environment, uv_venv

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import human

_RECONNECT = 100  # ms, ZeroMQ's own; fifty clients that try more often take ports that kernels look for
_PATIENCE = 120.0  # seconds for the last of a crowd; most take ten
_TRIES = 5  # until so many kernels have all found free ports
BARE, READY, PRIVATE = "bare ipykernel in the base", "ready overlays", "private copies"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    work = Work(base, ("einops",), place / "uv-cache", None)
    set_environment(work)
    header = announce({"base": base.manifest.id})
    bench = Bench(work, place)
    walls = asyncio.run(bench.at_once(options.kernels, options.rounds))
    memory = asyncio.run(bench.memory(options.with_torch, options.private))
    return {"environment": header, "kernels": options.kernels, "seconds": walls, "pss_bytes": memory}


class Bench:
    """Crowds of kernels on one base."""

    def __init__(self, work: Work, place: Path) -> None:
        self._work, self._place = work, place

    async def at_once(self, kernels: int, rounds: int) -> dict[str, list[float]]:
        """Seconds until the last of so many kernels has run a cell, bare and in overlays, in turn."""
        starts = {BARE: self._bare(kernels), READY: await self._ready(kernels)}
        walls: dict[str, list[float]] = {name: [] for name in starts}
        for number in range(rounds):
            for name in (BARE, READY) if number % 2 else (READY, BARE):
                print(f"round {number + 1} of {rounds}: {kernels} times {name}", flush=True)
                walls[name].append(await self._wall(starts[name]))
        return walls

    async def _wall(self, starts: Sequence[Start]) -> float:
        """Seconds until all have run a cell.

        jupyter_client picks ports that are free, and the kernel takes them later: among so many one may
        find another on its port, and dies. Such a round is done again.
        """
        for _ in range(_TRIES):
            began = time.perf_counter()
            try:
                async with _all(starts):
                    return time.perf_counter() - began
            except RuntimeError as error:
                print(f"once more: {error}", flush=True)
        raise RuntimeError("some kernels never start")

    async def memory(self, kernels: int, private: int) -> dict[str, list[int]]:
        """PSS of each kernel, in bytes, once all of its kind have imported torch."""
        ours = [Start(one.spec, "import torch", one.notebook) for one in await self._ready(kernels)]
        copies = [Start(_private(self._work, self._place, number), "import torch", ours[0].notebook)
                  for number in range(private)]  # fmt: skip
        taken = {}
        for name, starts in ((READY, ours), (PRIVATE, copies)):
            print(f"{len(starts)} kernels import torch: {name}", flush=True)
            async with _all(starts) as pids:
                taken[name] = [pss(pid) for pid in pids]
        return taken

    def _bare(self, count: int) -> list[Start]:
        trials = [bare(self._work, self._place / f"bare-{number}") for number in range(count)]
        return [Start(trial.spec, "pass", trial.notebook) for trial in trials]

    async def _ready(self, count: int) -> list[Start]:
        """Starts of notebooks whose overlays are ready."""
        trials = [overlay(self._work, self._place / f"ready-{number}") for number in range(count)]
        for trial in trials:
            await measure(Start(trial.spec, "import einops", trial.notebook), os.environ)
        await store_filled(Path(os.environ["TORCH_OVERLAY_ROOT"]))
        return [Start(trial.spec, "pass", trial.notebook) for trial in trials]


@contextlib.asynccontextmanager
async def _all(starts: Sequence[Start]) -> AsyncIterator[list[int]]:
    """All of them at once, and their pids; they end together too."""
    leave = asyncio.Event()
    up: list[asyncio.Future[int]] = [asyncio.get_running_loop().create_future() for _ in starts]

    async def one(start: Start, answered: asyncio.Future[int]) -> None:
        try:
            async with running(start, os.environ, reconnect=_RECONNECT) as kernel:
                answered.set_result(kernel.process.pid)
                await leave.wait()
        except Exception as error:  # whatever it was, who waits for the kernel is told
            answered.set_exception(error)

    tasks = [asyncio.ensure_future(one(*pair)) for pair in zip(starts, up, strict=True)]
    late: set[asyncio.Future[int]] = set()
    try:
        if up:
            _, late = await asyncio.wait(up, timeout=_PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
        for error in [answered.exception() for answered in up if answered.done()]:
            if error is not None:
                raise error
        if late:
            raise RuntimeError(f"{len(late)} of {len(starts)} kernels did not answer")
        yield [answered.result() for answered in up]
    finally:
        leave.set()
        for task, answered in zip(tasks, up, strict=True):
            if not answered.done():  # where one has died, another may never answer
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _private(work: Work, place: Path, number: int) -> KernelSpec:
    """An environment with files of its own, as one has whose cache is on another disk."""
    trial = uv_venv("--link-mode", "copy")(work, place / f"private-{number}")
    trial.make()
    return trial.spec


def told(data: Mapping[str, Any]) -> str:
    """The tables of a run, from its raw numbers."""
    return f"{_told_walls(data['seconds'], data['kernels'])}\n{_told_memory(data['pss_bytes'])}"


def _told_walls(walls: Mapping[str, Sequence[float]], kernels: int) -> str:
    reference = median(walls[BARE])
    rows = [[f"{kernels} kernels at once", "rounds", "all answered", "x bare"]]
    for name, taken in walls.items():
        rows.append([name, str(len(taken)), seconds(median(taken)), f"{median(taken) / reference:.2f}"])
    return f"{table(rows)}\n\n{READY}: {median(walls[READY]) / reference:.3f} x bare (aim: at most 1.10)\n"


def _told_memory(memory: Mapping[str, Sequence[int]]) -> str:
    rows = [["kernels that imported torch", "kernels", "PSS of each", "of all"]]
    for name, taken in memory.items():
        if taken:
            rows.append([name, str(len(taken)), human(sum(taken) // len(taken)), human(sum(taken))])
    return table(rows)


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--kernels", type=int, default=50, help="how many start at once (50)")
    parser.add_argument("--rounds", type=int, default=5, help="how often (5)")
    parser.add_argument("--with-torch", type=int, default=20, help="how many import torch (20)")
    parser.add_argument("--private", type=int, default=4, help="how many private copies are made (4)")
    program.add_base(parser)
    program.add_json(parser, "number")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
