"""What every benchmark prints: the machine it ran on, and a table of medians, p95 and ratios."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path


def environment() -> dict[str, str]:
    """The machine and the programs, as far as a reader needs them to judge a number."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    packages = ("kernel-provisioner", "jupyter_client", "uv")
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, load {load}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in packages),
    }


def announce(about: Mapping[str, str]) -> dict[str, str]:
    """Print what is measured on: the environment, and ``about``. Returned, to be kept beside the numbers."""
    header = {**environment(), **about}
    print(f"{labelled(header)}\n", flush=True)
    return header


def labelled(header: Mapping[str, str]) -> str:
    """Texts below each other, behind their names."""
    return "\n".join(f"{name:9} {text}" for name, text in header.items())


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 of 100 do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[math.ceil(0.95 * len(ranked)) - 1]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def milliseconds(seconds: float) -> str:
    """``seconds`` as ``512 ms``, or ``2.1 ms`` where that says more."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 20 else f"{value:.0f} ms"


def seconds(value: float) -> str:
    """``value`` in seconds as ``1.23 s``."""
    return f"{value:.2f} s"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
