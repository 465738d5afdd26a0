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


ROWS = (
    Row(
        "kill -9 of the builder, at its start or after the skeleton",
        "the next launch starts a new generation; the old one is collected",
        "so it is",
    ),
    Row(
        "kill -9 of the builder during a download",
        "the same",
        "so it is; the downloader ends with its builder",
    ),
    Row("kill -9 half-way through the unpacking", "never reused, never called ready", "so it is"),
    Row("kill -9 between the check of the files and the publication", "not ready", "so it is"),
    Row(
        "kill -9 of the Jupyter server during a build",
        "the builder ends; no orphan holds a lock for ever",
        "kernel, builder and uv are gone within five seconds, and so are their locks",
    ),
    Row(
        "the builder dies, its uv lives on",
        "no second writer in the same directory",
        "a guard ends uv; where the guard is killed too, uv writes in a directory that is used no more",
    ),
    Row("SIGTERM to the server during a build", "all is gone within 5 s", "so it is"),
    Row(
        "a kernel is shut down or restarted while its build runs",
        "the build is stopped or handed over; no leak",
        "restarted, the kernel waits for the same builder; shut down, the builder ends within seconds",
    ),
    Row(
        "a full disk: uv's cache, the overlays, the state file",
        "“disk full, N needed at PATH”; ready overlays still launch",
        "so it is; N is the least to download, where the index tells sizes, as PyPI does",
    ),
    Row(
        "a limit on the size of files, a quota",
        "a clear error, no core dump, no half state",
        "so it is with the limit; of the quota only the error was tried, for no file system here has one",
    ),
    Row("no inodes, no file descriptors", "a clear error", "so it is"),
    Row(
        "the base is read-only and belongs to another user",
        "works",
        "so it is, with a lock file or without",
    ),
    Row(
        "the overlays are on a read-only disk, not writable, or somebody else's",
        "ready overlays launch; a build names the path",
        "so it is for what cannot be written; overlays that another user could change are refused by name",
    ),
    Row(
        "the index is down",
        "ready overlays and known sets of packages need no network; else a clear error in time",
        "so it is: not one request",
    ),
    Row(
        "the index accepts and never answers; trickles; 401; 5xx; a redirect loop",
        "a total deadline; credentials are never printed",
        "so it is; in a redirect loop uv's own words name the address and an empty answer, not the loop",
    ),
    Row("a truncated wheel, or one with a bit flipped", "rejected, nothing published", "so it is"),
    Row("a wheel whose RECORD does not match", "rejected by our own check (uv installs it)", "so it is"),
    Row(
        "a state, lock or manifest file is truncated, empty or from a newer version",
        "set aside with its reason, rebuilt; never a traceback",
        "so it is",
    ),
    Row("two builders for one overlay", "one builds, both kernels run", "so it is"),
    Row(
        "50 launches of one notebook; of 50 notebooks",
        "1 build; a bounded number at a time; all kernels run",
        "so it is",
    ),
    Row(
        "the collector is between its look and its deletion while a launch starts",
        "kept or rebuilt; never half a tree",
        "so it is",
    ),
    Row("the collector, when a kernel has run for weeks", "kept", "so it is"),
    Row(
        "a base is removed or replaced under running kernels",
        "`base remove` refuses and names them; a changed adopted base is noticed at the next launch",
        "so it is",
    ),
    Row(
        "a clock a year off, files dated in the future",
        "nothing is collected early; deadlines do not move",
        "so it is",
    ),
    Row("a stale lock file, a recycled pid, another host's name", "recovers", "so it is"),
    Row(
        "a disk that keeps no locks (NFS)",
        "correct by generations and one rename; the collector refuses to delete",
        "so it is on one machine whose flock fails, or lets everybody through; two machines on one NFS "
        "disk were not tried",
    ),
    Row(
        "the notebook is deleted, renamed, unreadable, a gigabyte, binary, a FIFO, rewritten while read",
        "the base alone with a notice; no hang; bounded memory",
        "so it is",
    ),
    Row("uv is missing, too old, hanging, killed", "a clear error with the fix", "so it is"),
    Row("a kernel that dies at once, again and again", "no rebuild per restart", "so it is"),
    Row(
        "paths with blanks, quotes, a newline, unicode, names of 255 bytes; umask 000 and 077",
        "they work; what is private stays private",
        "so it is",
    ),
)


def page() -> str:
    """The page as it stands, with the table as it should be."""
    return _TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"))


def table() -> str:
    """All rows, each with its tests."""
    tried = tests()
    lines = ["| # | fault | expected | seen | tests |", "| ---: | --- | --- | --- | --- |"]
    for number, row in enumerate(ROWS, start=1):
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
