"""What a launch asks of file systems, and what an overlay takes on them: counts, not times.

    python benchmarks/scale.py                      print the tables
    python benchmarks/scale.py --write              and put them into docs/scale.md
    python benchmarks/scale.py --base cu126 --extra pandas

Kernels are started under strace, each way once, after a start that is not counted: bare in the base
by jupyter_client alone; in a ready overlay; in a brand-new one without extras, and with extras
whose versions and wheels are known from another notebook. Calls are counted by the place that they
name. A file server sees fewer, because its clients remember names and attributes for a while; it
never sees more. Needs strace (Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from kernels import ipykernel, ours, write_notebook
from measure import Start, measure
from report import environment
from strace import Op, traced

from kernel_provisioner.base import registry
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import OverlayError
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.skeleton import remove_tree
from kernel_provisioner.store.fill import remove

PAGE = Path(__file__).parents[1] / "docs/scale.md"
BEGIN, END = "<!-- measured by benchmarks/scale.py -->", "<!-- measured until here -->"
MARK = "/torch-overlays-scale-counts-from-here"
MANY = 1000  # notebooks; and a hundredth as many bases
USERS, NOTEBOOKS = 200, 5  # of the computed example: a course
TORCH = "ready overlay, and `import torch`"

Rows = list[list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on or with."""
    options = _options(argv)
    if options.start:
        return asyncio.run(_start(json.loads(options.start)))
    place = Path(tempfile.mkdtemp(prefix="torch-overlays-scale-")).resolve()
    try:
        base = registry.read_register().get(options.base)
        text = Bench(base, place, options.extra or ["transformers", "einops"]).report()
    except (OverlayError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        remove(place / "overlays" / store.WHEELS)
        remove_tree(place)
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


class Bench:
    """Starts, traced and sorted by place."""

    def __init__(self, base: RegisteredBase, place: Path, extras: Sequence[str]) -> None:
        self._base, self._place, self._extras = base, place, list(extras)
        self._overlays = place / "overlays"
        self._env = {**os.environ, "TORCH_OVERLAY_ROOT": str(self._overlays)}
        self._places = {
            "overlays": self._overlays,
            "base": base.directory.parent,
            "uv's cache": Path(_uv_cache(self._env)),
            "Python": Path(sys.base_prefix).resolve(),
        }

    def report(self) -> str:
        """All tables, as Markdown."""
        warm, empty = self._notebook("warm", self._extras), self._notebook("empty", [])
        self._trace(warm, warm, "pass")  # fills the wheel store, and keeps the lock
        traces = {
            "bare ipykernel in the base": self._trace(warm, warm, "pass", bare=True),
            "ready overlay": self._trace(warm, warm, "pass"),
            TORCH: self._trace(warm, warm, "import torch"),
            "brand-new overlay without extras": self._trace(warm, empty, "pass"),
            "brand-new overlay with extras": self._trace(warm, self._notebook("new", self._extras), "pass"),
        }
        ready = traces["ready overlay"]
        crowd = self._crowd(warm)
        held = self._base.manifest
        about = {**environment(), "base": f"{held.id}: {held.files:,} files, {held.bytes / 1e9:.1f} GB",
                 "extras": ", ".join(self._extras)}  # fmt: skip
        return "\n\n".join((
            "\n".join(f"- {name}: {text}" for name, text in about.items() if name != "packages"),
            "Calls that name a file, by place; the wheel store counts under *overlays*:",
            _table(self._by_place(traces)),
            "The same calls, by process:", _table(_by_role(traces)),
            "What is read of the base: distinct files that were opened, and their whole size:",
            _table(self._opened(traces)),
            "Locks taken at a launch in a ready overlay:", _table(_locks(ready, self._places)),
            "What an overlay takes:", _table([_HEAD, self._size("empty"), self._size("new")]),
            self._stored(),
            "What a launch in a ready overlay asks, in the server's process:",
            _table([["", "calls"], ["as above", str(_calls(ready, "launch"))], *crowd]),
            f"Computed from these for {USERS} users with {NOTEBOOKS} such notebooks each. {_PRIVATELY}",
            _table(self._computed()),
            self._rush(traces[TORCH]),
        ))  # fmt: skip

    def _by_place(self, traces: Mapping[str, Sequence[Op]]) -> Rows:
        rows = [["start", *self._places, "elsewhere", "in all", "of them in vain"]]
        for name, ops in traces.items():
            seen = collections.Counter(_place(op.path, self._places) for op in ops)
            vain = sum(not op.ok for op in ops)
            counts = [*(seen[place] for place in self._places), seen["elsewhere"], len(ops), vain]
            rows.append([name, *(f"{count:,}" for count in counts)])
        return rows

    def _opened(self, traces: Mapping[str, Sequence[Op]]) -> Rows:
        rows = [["start", "files", "bytes"]]
        for name, ops in traces.items():
            found = {op.path for op in ops if op.ok and op.call in ("open", "openat")}
            sizes = [path.stat().st_size for path in map(Path, found)
                     if _place(str(path), self._places) == "base" and path.is_file()]  # fmt: skip
            rows.append([name, f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.0f} MB"])
        return rows

    def _computed(self) -> Rows:
        """The example: overlays on one base beside as many private environments."""
        overlay, packages = _taken(self._overlay("new")), _taken(self._overlays / store.WHEELS)
        base, many = self._base.manifest, USERS * NOTEBOOKS
        names = base.files + USERS * packages.names + many * overlay.names
        size = base.bytes + USERS * packages.bytes + many * overlay.bytes
        private_names, private_size = base.files + packages.names, base.bytes + packages.bytes
        return [
            ["", "overlays on one base", "private environments"],
            ["inodes, nothing linked", f"{names:,}", f"{many * private_names:,}"],
            ["GB, nothing linked", f"{size / 1e9:,.0f}", f"{many * private_size / 1e9:,.0f}"],
        ]

    def _rush(self, start: Sequence[Op]) -> str:
        calls = USERS * sum(_place(op.path, self._places) == "base" for op in start) / 60
        return (
            f"When {USERS} kernels start and import torch in one minute, on nodes that never saw the base,\n"
            f"the base is asked {calls:,.0f} calls a second."
        )

    def _size(self, name: str) -> list[str]:
        taken = _taken(self._overlay(name))
        label = "no extras" if name == "empty" else "with extras"
        return [label, f"{taken.names:,}", f"{taken.links:,}", f"{taken.bytes / 1e6:.1f} MB"]

    def _stored(self) -> str:
        taken = _taken(self._overlays / store.WHEELS)
        size = f"{taken.names:,} names, {taken.bytes / 1e6:.1f} MB"
        return f"The wheel store with these extras, once for each user: {size}."

    def _overlay(self, name: str) -> Path:
        (found,) = self._overlays.glob(f"{name}-*/*/overlay.json")
        return found.parent

    def _crowd(self, ready: Path) -> Iterator[list[str]]:
        """The server's calls among many other notebooks, and among more bases."""
        for number in range(MANY):
            directory = self._overlays / f"other-{number:016x}/0001"
            directory.mkdir(parents=True)
            (directory / "overlay.json").write_text("{}")
        yield [f"{MANY:,} more notebooks", str(_calls(self._trace(ready, ready, "pass"), "launch"))]
        bases = self._place / "share/torch-bases"
        for number in range(MANY // 100):
            other = bases / f"{self._base.manifest.id[:-8]}{number:08x}"
            shutil.copytree(self._base.directory, other, ignore=shutil.ignore_patterns("venv"))
        self._env["JUPYTER_PATH"] = os.pathsep.join([str(bases.parent), self._env.get("JUPYTER_PATH", "")])
        told = f"{MANY // 100} more bases"
        yield [told, str(_calls(self._trace(ready, ready, "pass"), "launch"))]

    def _trace(self, warm: Path, notebook: Path, cell: str, *, bare: bool = False) -> list[Op]:
        """The calls of one start, behind the mark that ends the warming up."""
        tag, python = self._base.manifest.tag, f"{self._base.manifest.prefix}/bin/python"
        order = {"warm": str(warm), "notebook": str(notebook), "cell": cell, "tag": tag,
                 "bare": python if bare else ""}  # fmt: skip
        command = [sys.executable, __file__, "--start", json.dumps(order)]
        ops = traced(command, self._place / "strace.log", self._env)
        first = next(at for at, op in enumerate(ops) if op.path == MARK)
        return ops[first + 1 :]

    def _notebook(self, name: str, extras: Sequence[str]) -> Path:
        torch_env = {"accelerator": self._base.manifest.tag, "extras": extras}
        return write_notebook(self._place / f"{name}.ipynb", torch_env)


_PRIVATELY = """\
*Nothing linked*: no file is a
hard link into uv's cache; so it is with pip, or where that cache is on another disk."""
_HEAD = ["overlay", "names", "of them links into the wheel store", "bytes"]


@dataclasses.dataclass(frozen=True)
class _Taken:
    """What a directory takes: names, each of which is an inode; links among them; bytes of its blocks."""

    names: int
    links: int
    bytes: int


def _taken(directory: Path) -> _Taken:
    """Counted without following links. What is a hard link into the wheel store takes no bytes."""
    wheels = f"/{store.WHEELS}/"
    names, links, held = 1, 0, 0
    for path in directory.rglob("*"):
        info = path.lstat()
        led = path.is_symlink() and wheels in str(path.readlink())
        hard = info.st_nlink > 1 and not path.is_dir()
        names, links = names + 1, links + (led or hard)
        held += 0 if hard else info.st_blocks * 512
    return _Taken(names, links, held)


async def _start(order: Mapping[str, str]) -> int:
    """What is traced: a start that does not count, as servers have made before, then one that does."""
    spec = ipykernel(order["bare"]) if order["bare"] else ours(order["tag"])
    for counts, notebook, cell in ((False, order["warm"], "pass"), (True, order["notebook"], order["cell"])):
        if counts:
            os.access(MARK, os.F_OK)  # one call of exactly this name
        await measure(Start(spec, cell, Path(notebook)), os.environ)
    return 0


def _by_role(traces: Mapping[str, Sequence[Op]]) -> Rows:
    roles = ("launch", "builder", "uv", "kernel")
    rows = [["start", "server", *roles[1:]]]
    for name, ops in traces.items():
        rows.append([name, *(f"{_calls(ops, role):,}" for role in roles)])
    return rows


def _locks(ops: Sequence[Op], places: Mapping[str, Path]) -> Rows:
    kinds = {"LOCK_SH": "shared", "LOCK_EX": "exclusive"}
    rows = [["lock", "in", "kind"]]
    for op in ops:
        kind = next((text for word, text in kinds.items() if word in op.arguments), "")
        if op.call == "flock" and kind and op.role == "launch":
            name = Path(op.path).name
            rows.append([f"`{'ID.lock' if name.startswith(('cpu', 'cu', 'rocm', 'xpu')) else name}`",
                         _place(op.path, places), kind])  # fmt: skip
    return rows


def _calls(ops: Sequence[Op], role: str) -> int:
    return sum(op.role == role for op in ops)


def _place(path: str, places: Mapping[str, Path]) -> str:
    for name, root in places.items():
        if path == str(root) or path.startswith(f"{root}/"):
            return name
    return "elsewhere"


def _table(rows: Rows) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)


def _uv_cache(env: Mapping[str, str]) -> str:
    from kernel_provisioner.uv.discovery import uv_path

    return subprocess.check_output([uv_path(), "cache", "dir"], env=dict(env), text=True).strip()


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--base", default="cpu", help="id or tag of the base (cpu)")
    parser.add_argument("--extra", action="append", help="an extra (transformers, einops); may be repeated")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    parser.add_argument("--start", default="", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
