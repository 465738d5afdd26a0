"""A notebook of any size costs a process a bounded amount of memory and time, whatever is in it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_provisioner.notebook.read import MAX_SIZE
from tests.support.waiting import WITHIN

MEGABYTES = 2 * MAX_SIZE >> 20
SECONDS = 5.0  # of processor time: five times what is promised, for a machine that is busy
REPOSITORY = Path(__file__).parents[1]
PICTURE = json.dumps(base64.b64encode(bytes(range(256)) * 4096).decode()).encode()
MEASURE = """
import os, pathlib, resource, sys, time
from kernel_provisioner.errors import OverlayError
from kernel_provisioner.notebook.read import read_notebook
from kernel_provisioner.model.request import parse_request

if child := os.fork():  # Linux counts what the parent had before exec; a fork starts afresh
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before, began = most(), time.process_time()
try:
    text = read_notebook(pathlib.Path(sys.argv[1]))
    print(parse_request(text.metadata, text.script_blocks, uv_lock=text.uv_lock))
except OverlayError as error:
    print(error)
print(most() - before >> 20, time.process_time() - began)
"""


def repeated(start: bytes, unit: bytes, end: bytes, size: int) -> Callable[[Path], None]:
    """A file of about this size that says the same again and again."""

    def write(path: Path) -> None:
        block = unit * max(1, (1 << 18) // len(unit))
        with path.open("wb") as file:
            file.write(start)
            for _ in range(size // len(block)):
                file.write(block)
            file.write(end)

    return write


def nothing(size: int) -> Callable[[Path], None]:
    """A file of zeros, which takes no room on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return write


CELL = b'{"cell_type": "code", "outputs": [{"data": {"image/png": %b}}], "source": ""},' % PICTURE
ASKS = b'{}], "metadata": {"torch_env": {"extras": ["einops"]}}}'
SCRIPT = b'{"cell_type": "code", "source": ["# /// script"' + b',""' * 80_000 + b"]},"
BLOCK = b'"torch_env": [' + b"{}," * 80_000 + b"{}],"
HUGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "pictures": (repeated(b'{"cells": [', CELL, ASKS, MAX_SIZE - len(CELL)), "extras=('einops',)"),
    "a gigabyte": (nothing(1 << 30), "the limit is"),
    "zeros": (nothing(MAX_SIZE), "cannot be read"),
    "a megabyte of objects": (repeated(b'{"cells": [', b"{},", b"{}]}", 1_000_000), "Request("),
    "a block of objects": (
        repeated(b'{"metadata": {"torch_env": [', b"{},", b"{}]}}", 2 << 20),
        "longer than",
    ),
    "many blocks": (repeated(b'{"metadata": {', BLOCK, b'"a": 1}}', 64 << 20), "is longer than"),
    "many scripts": (repeated(b'{"cells": [', SCRIPT, b"{}]}", 5 << 20), "too much text"),
    "many cells": (repeated(b'{"cells": [', b'{"source": "# /// script"},', b"{}]}", 64 << 20), "values"),
    "many keys": (repeated(b'{"metadata": {', b'"a":1,', b'"a":1}}', 64 << 20), "Request("),
    "a long key": (repeated(b'{"', b"a", b'": 1}', 64 << 20), "Request("),
    "a long number": (repeated(b'{"metadata": {"torch_env": ', b"1", b"}}", 64 << 20), "longer than"),
    "many escapes": (repeated(b'{"cells": [{"outputs": "', b'\\"\\n', b'"}]}', 64 << 20), "Request("),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_notebook_costs_little(tmp_path: Path, name: str) -> None:
    """Whoever has read it has grown by less than twice the largest notebook, and has an answer."""
    write, answer = HUGE[name]
    notebook = tmp_path / "a.ipynb"
    write(notebook)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, notebook],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    notebook.unlink()
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout
    megabytes, seconds = map(float, done.stdout.split()[-2:])
    assert megabytes < MEGABYTES
    assert seconds < SECONDS
