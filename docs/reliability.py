"""The table of docs/reliability.md: each fault, what is expected, what is seen, and who tries it.

What is expected and seen is written here; the tests say themselves, by their ``fault`` markers,
which rows they are for. ``docs/generate.py`` writes the page.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("reliability.md")
TESTS = Path(__file__).parents[1] / "tests"
_TABLE = re.compile(r"(?<=<!-- table, by docs/generate.py -->\n).*?(?=<!-- end of the table -->)", re.DOTALL)


class Row(NamedTuple):
    """A fault; what should happen; what does happen, as the tests see it."""

    fault: str
    expected: str
    seen: str


ROWS = {
    1: Row(
        "kill -9 of the builder, at its start or after the skeleton",
        "the next launch starts a new generation; the old one is collected",
        "so it is",
    ),
    2: Row(
        "kill -9 of the builder during a download",
        "the same",
        "so it is; the downloader ends with its builder",
    ),
    3: Row("kill -9 half-way through the unpacking", "never reused, never called ready", "so it is"),
    4: Row("kill -9 between the check of the files and the publication", "not ready", "so it is"),
    5: Row(
        "kill -9 of the Jupyter server during a build",
        "the builder ends; no orphan holds a lock for ever",
        "kernel, builder and uv are gone within five seconds, and so are their locks",
    ),
    6: Row(
        "the builder dies, its uv lives on",
        "no second writer in the same directory",
        "a guard ends uv; where the guard is killed too, uv writes in a directory that is used no more",
    ),
    7: Row("SIGTERM to the server during a build", "all is gone within 5 s", "so it is"),
    8: Row(
        "a kernel is shut down or restarted while its build runs",
        "the build is stopped or handed over; no leak",
        "restarted, the kernel waits for the same builder; shut down, the builder ends within seconds",
    ),
    9: Row(
        "a full disk: uv's cache, the overlays, the state file",
        "“disk full, N needed at PATH”; ready overlays still launch",
        "so it is; N is the least to download, where the index tells sizes, as PyPI does",
    ),
    10: Row(
        "a limit on the size of files, a quota",
        "a clear error, no core dump, no half state",
        "so it is with the limit; of the quota only the error was tried, for no file system here has one",
    ),
    11: Row("no inodes, no file descriptors", "a clear error", "so it is"),
    12: Row(
        "the base is read-only and belongs to another user",
        "works",
        "so it is, with a lock file or without, where root or who installed this program owns it; "
        "one that anybody else could change is refused by name",
    ),
    13: Row(
        "the overlays are on a read-only disk, not writable, or somebody else's",
        "ready overlays launch; a build names the path",
        "so it is for what cannot be written; overlays that another user could change are refused by name",
    ),
    14: Row(
        "the index is down",
        "ready overlays and known sets of packages need no network; else a clear error in time",
        "so it is: not one request",
    ),
    15: Row(
        "the index accepts and never answers; trickles; 401; 5xx; a redirect loop",
        "a total deadline; credentials are never printed",
        "so it is; in a redirect loop uv's own words name the address and an empty answer, not the loop",
    ),
    16: Row("a truncated wheel, or one with a bit flipped", "rejected, nothing published", "so it is"),
    17: Row("a wheel whose RECORD does not match", "rejected by our own check (uv installs it)", "so it is"),
    18: Row(
        "a state, lock or manifest file is truncated, empty or from a newer version",
        "set aside with its reason, rebuilt; never a traceback",
        "so it is",
    ),
    19: Row("two builders for one overlay", "one builds, both kernels run", "so it is"),
    20: Row(
        "50 launches of one notebook; of 50 notebooks",
        "1 build; a bounded number at a time; all kernels run",
        "so it is",
    ),
    21: Row(
        "the collector is between its look and its deletion while a launch starts",
        "kept or rebuilt; never half a tree",
        "so it is",
    ),
    22: Row("the collector, when a kernel has run for weeks", "kept", "so it is"),
    23: Row(
        "a base is removed or replaced under running kernels",
        "`base remove` refuses and names them; a changed adopted base is noticed at the next launch",
        "so it is",
    ),
    24: Row(
        "a clock a year off, files dated in the future",
        "nothing is collected early; deadlines do not move",
        "so it is",
    ),
    25: Row("a stale lock file, a recycled pid, another host's name", "recovers", "so it is"),
    26: Row(
        "a disk that keeps no locks (NFS)",
        "correct by generations and one rename; the collector refuses to delete",
        "so it is on one machine whose flock fails, or lets everybody through; two machines on one NFS "
        "disk were not tried",
    ),
    27: Row(
        "the notebook is deleted, renamed, unreadable, a gigabyte, binary, a FIFO, rewritten while read",
        "the base alone with a notice; no hang; bounded memory",
        "so it is",
    ),
    28: Row("uv is missing, too old, hanging, killed", "a clear error with the fix", "so it is"),
    29: Row("a kernel that dies at once, again and again", "no rebuild per restart", "so it is"),
    30: Row(
        "paths with blanks, quotes, a newline, unicode, names of 255 bytes; umask 000 and 077",
        "they work; what is private stays private",
        "so it is",
    ),
    37: Row(
        "an entry of the wheel store deleted, damaged, half written; an installer that writes into a package",
        "linked anew at the next launch; no other notebook sees it",
        "so it is; what root writes there from a cell is seen by the next build, and by a cell that fails by"
        " it: it says so, and the next launch of any notebook unpacks the package again",
    ),
    38: Row(
        "the user's own environment where `jupyter overlay venv` is to create one, or their files in one",
        "refused or kept, never deleted",
        "so it is, with --recreate and after a killed run too: the files are listed",
    ),
    32: Row(
        "a base's Python or environment is gone, an overlay's `bin/python`, `pyvenv.cfg` or `.pth`",
        "never an exception at a launch: another base, a new generation, or a kernel that explains",
        "so it is; a Python that this machine cannot run is told in the cell",
    ),
    31: Row(
        "the builder or uv is frozen (SIGSTOP), for minutes",
        "the deadline passes, a new generation is begun, the cell goes on",
        "after 30 seconds without a sign of life it is ended, and the same overlay is begun again by the "
        "waiting cell (uv: by its builder); a launch begins another generation. One that cannot be ended, "
        "on another machine, fails the cell, and a restart begins another generation",
    ),
    33: Row(
        "the index moved, down, or wanting other credentials after a request was met; its files elsewhere; "
        "uv's cache emptied between any two steps",
        "looked up once again, in the same build",
        "so it is; what is still in the cache needs no index",
    ),
    34: Row(
        "the same request a second and a third time: wheels, source only, an exact lock, a replaced base "
        "package, a package of PyTorch's; after a failure; under other rules; on a newer base",
        "the same outcome as on an empty store",
        "so it is",
    ),
    35: Row(
        "SIGINT or SIGTERM at every phase of a cell that waits, while packages are moved in too",
        "the cell is answered",
        "so it is; after SIGTERM the kernel ends, once it has answered",
    ),
    36: Row(
        "a process that has started kernels forks (multiprocessing, a web server's workers)",
        "kernels start in parent and children",
        "so it is",
    ),
}
"""By the number that the tests' markers name."""


def page() -> str:
    """The page as it is, with the table as it should be."""
    return _TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"))


def table() -> str:
    """All rows, each with its tests."""
    tried = tests()
    lines = ["| # | fault | expected | seen | tests |", "| ---: | --- | --- | --- | --- |"]
    for number, row in sorted(ROWS.items()):
        told = "<br>".join(_link(path, name) for path, name in tried.get(number, []))
        lines.append(f"| {number} | {row.fault} | {row.expected} | {row.seen} | {told} |")
    return "\n".join(lines) + "\n"


def _link(path: Path, test: str) -> str:
    sentence = test.removeprefix("test_").replace("_", " ")
    return f"[{sentence}](../{path.relative_to(TESTS.parent).as_posix()})"


def tests() -> dict[int, list[tuple[Path, str]]]:
    """Row → the tests that are marked for it, each its file and its name."""
    found: dict[int, list[tuple[Path, str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if ".fault(" in text:
            for function, rows in _marked(ast.parse(text)):
                for row in rows:
                    found.setdefault(row, []).append((path, function))
    return found


def _marked(module: ast.Module) -> Iterator[tuple[str, list[int]]]:
    """Each test with the rows in its own decorators, and in the module's ``pytestmark``."""
    common = [
        row
        for node in module.body
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "pytestmark" for t in node.targets)
        for row in _rows(node.value)
    ]
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            rows = sorted({*common, *(row for mark in node.decorator_list for row in _rows(mark))})
            if rows:
                yield node.name, rows


def _rows(tree: ast.AST) -> Iterator[int]:
    """The numbers in every ``pytest.mark.fault(…)`` below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))
