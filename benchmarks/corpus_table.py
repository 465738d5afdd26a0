"""The page that ``corpus.py`` writes: from what was measured to Markdown. Pure but for ``as_json``."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from report import environment

from kernel_provisioner.inkernel.shared.disk import Usage, human
from kernel_provisioner.model.manifest import BaseManifest


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of a package.

    ``result`` is ``works``, ``resolves`` (it was not installed), ``refused`` (by the builder, which
    installed nothing) or ``fails``; ``private`` is the version of a private environment with the same torch,
    ``held`` says that the overlay has the base's own. ``replaced`` and ``others`` are as in ``Versions``.
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
    private: str = ""
    held: bool = False
    replaced: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


_HEAD = (
    "package",
    "version",
    "privately",
    "result",
    "replaced of the base",
    "packages added",
    "files",
    "own",
    "shared with uv's cache",
    "seconds",
)

_INTRODUCTION = """\
# What works on top of a shared torch

`make corpus` wrote this page, after `benchmarks/corpus.txt`. Each package was resolved, alone, by the
builder's own resolver. Beside that it was resolved as for a private environment with the same torch and
nothing else of the base (`uv pip compile`). Both versions have to be the same, unless the base holds the
package already: its own then serves, where it is in the range that was asked for. *Resolves* means that
they are the same and that nothing was installed. *Built from source* means that a wheel is missing, of the
package or of something that it needs: the builder then waits for the first cell, and takes no older version
and no pre-release that would do without (bibtexparser of pymatgen, hydra-core of dvc). Where one of two
packages has to be older than the newest (boto3 or s3fs of sagemaker), it is the one that is older in the
private environment.

Those that the list says an import of were declared by a notebook; the notebook's kernel was started as
Jupyter starts it, the builder installed into its overlay, and the first cell imported torch and the
package. *Works* means that this went well, too, and that afterwards the torch that was imported is the
base's and there is no other, no triton and no CUDA library lies in the overlay (but nccl, which xgboost
loads everywhere), and `uv pip check` has no complaint.
"""

_WHY = """, where the base's version of something
that they need is kept:"""
_COLUMNS = """\
*Privately* is the version that the private environment gets. *Replaced of the base* are the packages that
the overlay has in another version than its base.
*Own* is what exists nowhere else: the overlay's skeleton, and the bytecode that the import left.
*Shared with uv's cache* are hard links to files in uv's cache: they take their place once, however
many overlays hold them. The sum of both is what the overlay would take if it stood alone. *Packages
added* counts the package itself and what it brought along. *Seconds* are the builder's, from reading
the order to the published overlay, two packages at a time, fetching included where uv's cache did not
hold a wheel: they depend on the network and on what else the machine did, and only tell moments from
minutes.

The columns *files*, *own* and *shared with uv's cache* were measured before packages were kept in the wheel
store. Today an overlay has links to the wheel store instead of hard links to uv's cache, and the bytecode is
in the store too: an overlay with
[52 large packages](benchmarks.md#a-thousand-notebooks-with-large-packages) has 660 names and takes 1.0 MB.
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
    if row.result == "resolves":
        return f"{row.package} {row.version}: resolves, {row.added} added"
    if row.result != "works":
        return f"{row.package}: {row.result}: {row.why}"
    size = human(row.disk.own_bytes + row.disk.linked_bytes)
    return f"{row.package} {row.version}: works, {row.added} added, {size}, {row.seconds:.1f} s"


def _summary(data: Mapping[str, Any]) -> str:
    base, rows = data["base"], data["packages"]
    results = [row["result"] for row in rows]
    words = {
        "works": "work",
        "resolves": "resolve (and were not installed)",
        "refused": "are refused, with a reason",
        "fails": "fail",
    }
    counts = ((results.count(result), word) for result, word in words.items())
    tally = ", ".join(f"{count} {word}" for count, word in counts if count)
    told = "\n".join(f"- {name}: {text}" for name, text in data["environment"].items())
    return (
        f"On {data['when']}, of {len(rows)} packages **{tally}**.\n{_versions(rows)}\n"
        "`corpus.json` holds the same as data.\n\n"
        f"- base: `{base['id']}`, Python {base['python']}, {base['distributions']} distributions,\n"
        f"  {human(base['bytes'])} in {base['files']:,} files, which all of them share\n{told}\n"
    )


def _versions(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many come in the version of a private environment, and which of what they bring do not."""
    found = [row for row in rows if row["result"] in ("works", "resolves")]
    same = sum(row["version"] == row["private"] for row in found)
    brought = sum(row["added"] for row in found)
    others = [
        f"- {row['package']}: {name} {mine} (privately {private or 'not needed'})\n"
        for row in found
        for name, (mine, private) in row["others"].items()
    ]
    return (
        f"{same} of {len(found)} come in the version that a private environment gets. Of the {brought:,}\n"
        f"packages that all of them add, {len(others)} came in another version{_WHY if others else '.'}\n"
        + (f"\n{''.join(others)}" if others else "")
    )


def _table(data: Mapping[str, Any], reasons: Sequence[str]) -> Iterator[str]:
    yield _cells(_HEAD)
    yield _cells(["---", "---", "---", "---", "---", *["---:"] * 5])
    yield _cells(["*(none)*", "", "", "", "", "0", *_disk(data["bare"]), ""])
    for row in data["packages"]:
        if row["result"] == "works":
            how = "works, built from source" if row["from_source"] else "works"
            numbers = [str(row["added"]), *_disk(row["disk"]), f"{row['seconds']:.1f}"]
        elif row["result"] == "resolves":
            how = "resolves, built from source" if row["from_source"] else "resolves"
            numbers = [str(row["added"]), "", "", "", ""]
        else:
            number = reasons.index(row["why"]) + 1
            how, numbers = f"[{row['result']}: reason {number}](#reason-{number})", [""] * 5
        private = row["private"] + (" (the base's serves)" if row["held"] else "")
        replaced = ", ".join(f"{name} {change}" for name, change in row["replaced"].items())
        yield _cells([row["package"], row["version"], private, how, replaced, *numbers])


def _disk(disk: Mapping[str, int]) -> list[str]:
    files = disk["own_files"] + disk["linked_files"]
    return [f"{files:,}", human(disk["own_bytes"]), human(disk["linked_bytes"])]


def _reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each reason for which something does not work, and the packages concerned."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["result"] not in ("works", "resolves"):
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
