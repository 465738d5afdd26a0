"""Write docs/benchmarks.md and its plots from the raw numbers in benchmarks/results/.

    python benchmarks/page.py

Each section is one program's own tables, as it prints them, and what it was run on. Plots are of
the same numbers; they need matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import alternatives
import click
import corpus_imports
import crowd
import disk
import first_import
import launch
import panel
import store
import warm
from report import labelled, median

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PLOTS = PAGE.parent / "benchmarks"

Raw = Mapping[str, Any]

_HEAD = """\
<!-- Made by benchmarks/page.py from the numbers in benchmarks/results. -->
# Benchmarks

Anyone can run these: `make bench`. All ways that are compared take turns in one run on one machine, and
the ratios are what counts: absolute times are those of a small virtual machine. `benchmarks/results`
holds every single number. The load under each table says how busy the machine was otherwise; a busy one
costs an overlay that is built beside a starting kernel most. For some minutes after many files were
deleted, ext4 without a journal takes many times as long to make new ones beside them, so nothing is
deleted before a run has ended: let the disk rest between two runs.
"""
_SECTIONS: tuple[tuple[str, str, Callable[[Raw], str]], ...] = (
    ("launch", "How long a start takes", launch.told),
    ("launch_many", "The same with 150 packages", launch.told),
    ("launch_deleted", "The same right after 20,000 files were deleted", launch.told),
    ("first_import", "The first import of large packages", first_import.told),
    ("alternatives", "Beside the alternatives", alternatives.told),
    ("disk", "A thousand notebooks with large packages", disk.told),
    ("store", "A thousand notebooks, ten thousand overlays", store.told),
    ("crowd", "Fifty kernels at once, and their memory", crowd.told),
    ("warm", "Torch ready at once", warm.told),
    ("click", "From the click to the first result", click.told),
    ("corpus_imports", "Every module, from the wheel store", corpus_imports.told),
    ("panel", "A thousand packages in the panel", panel.told),
)

_ABOUT = {
    "launch_many": "As above, with the packages that these extras bring. Their wheel store is filled.",
    "launch_deleted": "As above, on a disk that is slow to make new files: see the top of this page.",
}

_NOTES = {  # each goes when its section is measured again
    "alternatives": """\
The two rows of overlays were measured before packages were kept in the wheel store. Their hard links led into
uv's cache. Today an overlay has links to the wheel store: with these extras it has 439 names and takes 1.2 MB
([how it scales](scale.md)).
""",
}


def page(results: Mapping[str, Raw]) -> str:
    """The page, with a section for each program that has left numbers."""
    parts = [_HEAD]
    for name, title, told in _SECTIONS:
        if name not in results:
            continue
        raw = results[name]
        module = sys.modules[told.__module__]
        about = _ABOUT.get(name) or str(module.__doc__).split("\n\n")[-1].strip()
        parts.append(f"## {title}\n\n{about}\n")
        if name in _NOTES:
            parts.append(_NOTES[name])
        if name in _DRAWN:
            parts.append(f"![{title}](benchmarks/{name}.svg)\n")
        parts.append(f"```text\n{told(raw)}\n\n{labelled(raw['environment'])}\n```\n")
    return "\n".join(parts)


def draw(results: Mapping[str, Raw]) -> None:
    """The plots, as SVG beside the page."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same numbers make the same file
    from matplotlib import pyplot

    PLOTS.mkdir(exist_ok=True)
    for name, values_of in _DRAWN.items():
        if name not in results:
            continue
        values, label, logarithmic = values_of(results[name])
        figure, axes = pyplot.subplots(figsize=(8, 0.5 + 0.4 * len(values)))
        bars = axes.barh(list(values), list(values.values()), color="#3b78c2")
        axes.bar_label(bars, fmt="{:.2f}", padding=3)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.set_xscale("log" if logarithmic else "linear")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(PLOTS / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)


def _launches(raw: Raw) -> tuple[dict[str, float], str, bool]:
    names = list(raw["seconds"][0])
    times = {name: median([entry[name]["first_cell"] for entry in raw["seconds"]]) for name in names}
    return _beside(times, launch.BARE), "start to the end of the first cell, bare kernel = 1", False


def _alternatives(raw: Raw) -> tuple[dict[str, float], str, bool]:
    times = {name: median([one["new"] for one in rows]) for name, rows in raw["samples"].items()}
    label = "from nothing to the end of the first cell, bare kernel = 1 (logarithmic)"
    return _beside(times, alternatives.BARE), label, True


def _crowds(raw: Raw) -> tuple[dict[str, float], str, bool]:
    memory = {name: sum(taken) / len(taken) / 1e6 for name, taken in raw["pss_bytes"].items()}
    return memory, "MB of PSS for each kernel that has imported torch", False


def _beside(times: Mapping[str, float], reference: str) -> dict[str, float]:
    return {name: time / times[reference] for name, time in times.items()}


_DRAWN: dict[str, Callable[[Raw], tuple[dict[str, float], str, bool]]] = {
    "launch": _launches,
    "alternatives": _alternatives,
    "crowd": _crowds,
}


def main() -> int:
    """Write the page and its plots."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")}
    draw(results)
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
