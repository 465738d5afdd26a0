"""How much warm starts save: the time until torch is imported, and memory.

    python benchmarks/warm.py                     what `make bench` runs
    python benchmarks/warm.py --rounds 50 --kernels 10

Compared in one run, interleaved, on one base, in overlays that are ready: a kernel that starts
normally and imports torch in its first cell, and one that starts warm and does the same. Times are
from the call of ``start_kernel``. Then so many kernels run at once, each with torch imported, and
what they take of memory is added up as the system shares it out (PSS), the fork server included.
The ratios are what counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from kernels import ours, write_notebook
from measure import Start, Times, measure, pss, running
from report import announce, median, milliseconds, p95, table

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import human
from kernel_provisioner.warm import ForkedKernel

NORMAL, WARM = "normal start", "warm start"
CELL = "import torch"
AIM = 0.15
"""What a warm start should take at most, as a part of a normal one, until torch is imported."""

_WARM_WITHIN = 60  # starts, until a fork server is there


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    header = announce({"base": base.manifest.id, "cell": CELL})
    bench = Bench(base.manifest.tag, place)
    rounds = asyncio.run(bench.run(options.rounds))
    memory = asyncio.run(bench.memory(options.kernels))
    seconds = {name: [dataclasses.asdict(one) for one in times] for name, times in rounds.items()}
    return {"environment": header, "seconds": seconds, "kernels": options.kernels, "pss_bytes": memory}


class Bench:
    """The two ways to start, in one notebook's overlay."""

    def __init__(self, tag: str, place: Path) -> None:
        self._notebook = write_notebook(place / "notebook.ipynb", {})
        self._spec = ours(tag)

    def start(self, name: str) -> Start:
        """What is started, in either way."""
        return Start(self._spec, CELL, self._notebook, warm=name == WARM)

    async def run(self, count: int) -> dict[str, list[Times]]:
        """``count`` starts of each, in turn, once both have been done for the disk's cache."""
        await measure(self.start(NORMAL), os.environ)
        await self.warm_up()
        rounds: dict[str, list[Times]] = {NORMAL: [], WARM: []}
        for _ in range(count):
            for name, times in rounds.items():
                async with running(self.start(name), os.environ) as kernel:
                    warmly = isinstance(kernel.process, ForkedKernel)
                    assert warmly is (name == WARM), "it started the other way"
                    times.append(kernel.times)
        return rounds

    async def warm_up(self) -> None:
        """Start kernels until one is a fork."""
        for _ in range(_WARM_WITHIN):
            async with running(self.start(WARM), os.environ) as kernel:
                if isinstance(kernel.process, ForkedKernel):
                    return
        raise RuntimeError("no kernel starts warm here")

    async def memory(self, count: int) -> dict[str, int]:
        """Bytes that ``count`` kernels with torch imported take, started in either way."""
        taken = {}
        for name in (NORMAL, WARM):
            async with contextlib.AsyncExitStack() as stack:
                pids = []
                for _ in range(count):
                    kernel = await stack.enter_async_context(running(self.start(name), os.environ))
                    pids.append(kernel.process.pid)
                servers = _fork_servers() if name == WARM else []
                taken[name] = sum(map(pss, [*pids, *servers]))
        return taken


def told(data: Mapping[str, Any]) -> str:
    """The tables of a run, from its raw numbers."""
    rounds = {name: [Times(**one) for one in times] for name, times in data["seconds"].items()}
    return f"{_starts(rounds)}\n\n{_shares(data['pss_bytes'], data['kernels'])}"


def _starts(rounds: dict[str, list[Times]]) -> str:
    """The table of the starts, and the aim beside what was measured."""
    heads = ("kernel_info", "first_cell")
    rows = [["", *(head for name in heads for head in (name, "p95"))]]
    for name, times in rounds.items():
        values = [[getattr(one, head) for one in times] for head in heads]
        rows.append([name, *(milliseconds(how(one)) for one in values for how in (median, p95))])
    normal, warm = (median([one.first_cell for one in rounds[name]]) for name in (NORMAL, WARM))
    count = len(rounds[NORMAL])
    return "\n".join([
        f"{count} rounds, interleaved; medians, from start_kernel on", "", table(rows), "",
        f"{WARM}, until torch is imported: {warm / normal:.3f} x normal (aim: at most {AIM:.2f})",
    ])  # fmt: skip


def _shares(memory: dict[str, int], count: int) -> str:
    """What so many kernels take of memory."""
    rows = [["", f"{count} kernels", "each"]]
    rows += [[name, human(taken), human(taken // count)] for name, taken in memory.items()]
    ratio = memory[WARM] / memory[NORMAL]
    return f"{table(rows)}\n\n{WARM}, memory with its fork server: {ratio:.3f} x normal"


def _fork_servers() -> list[int]:
    """The children of this process that kernels are forks of."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in children if b"--fork-server" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is started (20)")
    parser.add_argument("--kernels", type=int, default=5, help="how many share the memory (5)")
    program.add_base(parser)
    program.add_json(parser, "number")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
