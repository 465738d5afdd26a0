"""What the first import of large packages costs in a new overlay, against one that was used before.

    python benchmarks/first_import.py                    what `make bench` runs
    python benchmarks/first_import.py --rounds 10 --extra scanpy

Compared in one run, in turn: the first cell, which imports all extras, in a new overlay of a notebook path
never seen before, whose packages another notebook has asked for; and the same cell in an overlay that was
used before. Both count from the call of ``start_kernel``. Then what the new overlay has of names and bytes of
its own after that import: links to the wheel store count as names, what they lead to does not.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from filled import store_filled
from kernels import ours, write_notebook
from measure import Start, measure
from report import announce, median, p95, seconds, table

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import human, usage

EXTRAS = ("transformers", "datasets", "gradio")
AIMS = {"first cell, x used": 1.05, "names": 700, "bytes": 2_000_000}
NEW, USED = "new overlay, packages known", "overlay used before"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    extras = tuple(options.extra or EXTRAS)
    header = announce({"base": base.manifest.id, "extras": ", ".join(extras)})
    return {"environment": header, **asyncio.run(_rounds(base, place, extras, options.rounds))}


async def _rounds(base: RegisteredBase, place: Path, extras: Sequence[str], count: int) -> Mapping[str, Any]:
    cell = "import " + ", ".join(extra.replace("-", "_") for extra in extras)

    async def start(name: str) -> float:
        notebook = write_notebook(place / f"{name}.ipynb", {"extras": list(extras)})
        return (await measure(Start(ours(base.manifest.tag), cell, notebook), os.environ)).first_cell

    await start("used")  # which fetches
    await store_filled(place / "overlays")
    await start("used")
    os.environ["UV_OFFLINE"] = "1"
    taken: dict[str, list[float]] = {NEW: [], USED: []}
    for number in range(count):
        taken[NEW].append(await start(f"new-{number}"))
        taken[USED].append(await start("used"))
    (overlay,) = (place / "overlays").glob("new-0-*/0001")
    names = sum(len(folders) + len(files) for _, folders, files in os.walk(overlay))
    return {"seconds": taken, "names": names, "bytes": usage([overlay]).own_bytes}


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers, then each aim beside what was measured."""
    taken: dict[str, list[float]] = data["seconds"]
    rows = [["", "first cell", "p95"]]
    rows += [[name, seconds(median(values)), seconds(p95(values))] for name, values in taken.items()]
    ratio = median(taken[NEW]) / median(taken[USED])
    return "\n".join([
        f"{len(taken[NEW])} rounds, in turn; medians, from start_kernel on",
        "",
        table(rows),
        "",
        f"{NEW}: {ratio:.3f} x {USED} (aim: at most {AIMS['first cell, x used']:.2f})",
        f"names in it after the import: {data['names']} (aim: at most {AIMS['names']})",
        f"bytes of its own: {human(data['bytes'])} (aim: at most {human(int(AIMS['bytes']))})",
    ])  # fmt: skip


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="how often each is started (8)")
    program.add_base(parser)
    parser.add_argument(
        "--extra", action="append", help="an extra (transformers, datasets and gradio); may be repeated"
    )
    program.add_json(parser, "time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
