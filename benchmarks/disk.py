"""What notebooks with large packages take on disk, each with the same few: bytes and names.

    python benchmarks/disk.py                                  what `make bench` runs
    python benchmarks/disk.py --notebooks 50 --elsewhere /mnt/other

Overlays are built for so many notebooks, all of which declare transformers, datasets, gradio and
accelerate: beside uv's cache, and for a few of them in a directory on another file system. Counted is all
that lies below the overlay root, the wheel store with its bytecode included: the bytes that files and
directories occupy, and the names of files, directories and links. All notebooks and overlays are real.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from kernels import write_notebook
from report import announce, table

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import human, usage
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.skeleton import remove_tree
from kernel_provisioner.store.fill import remove

COMMAND = (sys.executable, "-m", "kernel_provisioner.cli.app")
EXTRAS = ("transformers", "datasets", "gradio", "accelerate")
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of its own is made there
BESIDE, ELSEWHERE = "beside uv's cache", "on another file system"
AIMS = {"bytes of 1,000": 2e9, "names of 1,000": 700_000, "bytes of one more": 2e6}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    extras = tuple(options.extra or EXTRAS)
    header = announce({"base": base.manifest.id, "extras": ", ".join(extras)})
    grown = {BESIDE: _grown(base, place, place / "overlays", extras, options.notebooks)}
    with _elsewhere(options.elsewhere, place) as root:
        if root:
            header["other"] = f"{options.elsewhere} ({_kind(root)})"
            grown[ELSEWHERE] = _grown(base, place / "other", root, extras, min(5, options.notebooks))
    return {"environment": header, "grown": grown}


def _grown(
    base: RegisteredBase, place: Path, root: Path, extras: Sequence[str], most: int
) -> list[dict[str, float]]:
    """What all overlays take, at 1, 10, 100 … of them."""
    stages = [number for number in (1, 10, 100) if number < most] + [most]
    grown, made = [], 0
    env = {**os.environ, "TORCH_OVERLAY_ROOT": str(root)}
    for stage in stages:
        folder = place / f"to-{stage}"
        for number in range(made, stage):
            write_notebook(folder / f"nb{number}.ipynb", {"extras": list(extras)})
        print(f"building overlays in {root}, {stage} in all", flush=True)
        began = time.perf_counter()
        words = [*COMMAND, "prebuild", str(folder), "--kernel", f"torch-{base.manifest.tag}"]
        subprocess.run(words, env=env, check=True, capture_output=True)
        took = time.perf_counter() - began
        grown.append({
            "notebooks": stage, "bytes": usage([root]).own_bytes, "names": _names(root),
            "seconds": took / (stage - made),
        })  # fmt: skip
        made = stage
    return grown


def _names(root: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(root))


@contextlib.contextmanager
def _elsewhere(directory: Path, place: Path) -> Iterator[Path | None]:
    """A root in ``directory``, gone afterwards; None where that is no other file system."""
    if not directory.is_dir() or directory.stat().st_dev == place.stat().st_dev:
        print(f"{directory} is no other file system: left out", flush=True)
        yield None
        return
    root = Path(tempfile.mkdtemp(prefix="torch-overlays-disk-", dir=directory))
    try:
        yield root
    finally:
        remove(root / store.WHEELS)
        remove_tree(root)


def _kind(path: Path) -> str:
    words = ["stat", "--file-system", "--format=%T", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers, then each aim beside what was measured."""
    rows = [["", "notebooks", "bytes", "names", "one more: bytes", "names", "built in"]]
    more = {}
    for where, grown in data["grown"].items():
        for before, taken in zip([None, *grown], grown, strict=False):
            rows.append([where, f"{taken['notebooks']:,}", human(int(taken["bytes"])), f"{taken['names']:,}"])
            more[where] = _one_more(before, taken) if before else (0.0, 0.0)
            bytes_, names = more[where]
            rows[-1] += [human(int(bytes_)), f"{names:,.0f}"] if before else ["", ""]
            rows[-1].append(f"{taken['seconds']:.2f} s")
    last = data["grown"][BESIDE][-1]
    lines = [table(rows), ""]
    lines.append(
        f"{last['notebooks']:,} notebooks: {human(int(last['bytes']))}, {last['names']:,} names (aim for"
        f" 1,000: at most {human(int(AIMS['bytes of 1,000']))}, {AIMS['names of 1,000']:,})"
    )
    if ELSEWHERE in more:
        aim = human(int(AIMS["bytes of one more"]))
        lines.append(f"one more {ELSEWHERE}: {human(int(more[ELSEWHERE][0]))} (aim: at most {aim})")
    return "\n".join(lines)


def _one_more(before: Mapping[str, float], taken: Mapping[str, float]) -> tuple[float, float]:
    """Bytes and names of each notebook between two counts."""
    count = taken["notebooks"] - before["notebooks"]
    return (taken["bytes"] - before["bytes"]) / count, (taken["names"] - before["names"]) / count


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--notebooks", type=int, default=1000, help="how many get an overlay (1000)")
    parser.add_argument(
        "--elsewhere", type=Path, default=MEMORY, metavar="DIR",
        help="a directory on another file system than uv's cache (/dev/shm)",
    )  # fmt: skip
    program.add_base(parser)
    parser.add_argument("--extra", action="append", help="an extra of each notebook; may be repeated")
    program.add_json(parser, "number")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
