"""The page that ``corpus.py`` writes: from what was measured to Markdown. Pure but for ``as_json``."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from report import environment

from kernel_provisioner.inkernel.disk import Usage, human
from kernel_provisioner.manifest import BaseManifest


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of a package.

    ``result`` is ``works``, ``refused`` (by the builder, which installed nothing) or ``fails``;
    ``why`` is in the builder's own words, or says what is wrong. ``added`` counts distributions, the package
    included; ``seconds`` are the builder's.
    """

    package: str
    result: str
    why: str = ""
    version: str = ""
    added: int = 0
    seconds: float = 0.0
    from_source: bool = False
    disk: Usage = dataclasses.field(default_factory=Usage)


_HEAD = (
    "package",
    "version",
    "result",
    "packages added",
    "files",
    "own",
    "shared with uv's cache",
    "seconds",
)

_INTRODUCTION = """\
# What works on top of a shared torch

`make corpus` wrote this page, after `benchmarks/corpus.txt`. Each package was declared, alone, by a
notebook; the notebook's kernel was started as Jupyter starts it, the builder resolved and installed
into its overlay, and the first cell imported torch and the package. *Works* means that this went
well, and that afterwards the torch that was imported is the base's and there is no other, no
`nvidia-*`, `cuda-*` or triton package lies in the overlay, and `uv pip check` has no complaint.
"""

_COLUMNS = """\
*Own* is what exists nowhere else: the overlay's skeleton, and the bytecode that the import left.
*Shared with uv's cache* are hard links to files in uv's cache: they take their place once, however
many overlays hold them. The sum of both is what the overlay would take if it stood alone. *Packages
added* counts the package itself and what it brought along. *Seconds* are the builder's, from reading
the order to the published overlay, two packages at a time, fetching included where uv's cache did not
hold a wheel: they depend on the network and on what else the machine did, and only tell moments from
minutes.
"""


def as_json(base: BaseManifest, bare: Usage, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that was measured, as JSON values."""
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "environment": environment(),
        "base": {
            "id": base.id,
            "torch": base.torch,
            "python": base.python,
            "distributions": len(base.distributions),
            "bytes": base.bytes,
            "files": base.files,
        },
        "bare": dataclasses.asdict(bare),
        "packages": [dataclasses.asdict(row) for row in rows],
    }


def document(data: Mapping[str, Any]) -> str:
    """The whole page, of what ``as_json`` made."""
    reasons = _reasons(data["packages"])
    parts = [_INTRODUCTION, _summary(data), _COLUMNS, *_table(data, list(reasons)), "", *_left(reasons)]
    return "\n".join(parts).rstrip() + "\n"


def line(row: Row) -> str:
    """A row as it is told while others still run."""
    if row.result != "works":
        return f"{row.package}: {row.result}: {row.why}"
    size = human(row.disk.own_bytes + row.disk.linked_bytes)
    return f"{row.package} {row.version}: works, {row.added} added, {size}, {row.seconds:.1f} s"


def _summary(data: Mapping[str, Any]) -> str:
    base, rows = data["base"], data["packages"]
    results = [row["result"] for row in rows]
    words = {"works": "work", "refused": "are refused, with a reason", "fails": "fail"}
    counts = ((results.count(result), word) for result, word in words.items())
    tally = ", ".join(f"{count} {word}" for count, word in counts if count)
    told = "\n".join(f"- {name}: {text}" for name, text in data["environment"].items())
    return (
        f"On {data['when']}, of {len(rows)} packages **{tally}**. `corpus.json` holds the same as data.\n\n"
        f"- base: `{base['id']}`, Python {base['python']}, {base['distributions']} distributions,\n"
        f"  {human(base['bytes'])} in {base['files']:,} files, which all of them share\n{told}\n"
    )


def _table(data: Mapping[str, Any], reasons: Sequence[str]) -> Iterator[str]:
    yield _cells(_HEAD)
    yield _cells(["---", "---", "---", *["---:"] * 5])
    yield _cells(["*(none)*", "", "", "0", *_disk(data["bare"]), ""])
    for row in data["packages"]:
        if row["result"] == "works":
            how = "works, built from source" if row["from_source"] else "works"
            numbers = [str(row["added"]), *_disk(row["disk"]), f"{row['seconds']:.1f}"]
        else:
            number = reasons.index(row["why"]) + 1
            how, numbers = f"[{row['result']}: reason {number}](#reason-{number})", [""] * 5
        yield _cells([row["package"], row["version"], how, *numbers])


def _disk(disk: Mapping[str, int]) -> list[str]:
    files = disk["own_files"] + disk["linked_files"]
    return [f"{files:,}", human(disk["own_bytes"]), human(disk["linked_bytes"])]


def _reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each reason for which something does not work, and the packages concerned."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["result"] != "works":
            found.setdefault(row["why"], []).append(row["package"])
    return found


def _left(reasons: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if reasons:
        yield "## What does not work here, and why\n"
        yield "In the program's own words, as the notebook's cell shows them.\n"
    for number, (why, names) in enumerate(reasons.items(), start=1):
        yield f"### Reason {number}\n\n{', '.join(names)}:\n\n```text\n{why}\n```\n"


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
