from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable
from kernel_provisioner.notebook.contents import NotebookText
from kernel_provisioner.notebook.read import MAX_SIZE, read_notebook, torch_env_of

BLOCK = {"extras": ["einops"]}
SCRIPT = '# /// script\n# dependencies = ["timm"]\n# ///\n'


def cell(source: object, kind: str = "code", **more: object) -> dict[str, object]:
    """A cell as nbformat 4 has it."""
    return {
        "cell_type": kind,
        "metadata": {},
        "source": source,
        **({"outputs": []} if kind == "code" else {}),
        **more,
    }


def notebook(*cells: dict[str, object], **metadata: object) -> dict[str, Any]:
    """A notebook as nbformat 4 has it."""
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def padding(size: int) -> dict[str, object]:
    """A cell with an output of ``size`` bytes, a picture."""
    return cell(
        "", outputs=[{"output_type": "display_data", "data": {"image/png": "A" * size}, "metadata": {}}]
    )


@pytest.fixture(params=["small", "large"])
def big(request: pytest.FixtureRequest) -> int:
    """The size of an output that keeps the notebook on one of the two ways of reading it."""
    return 10 if request.param == "small" else 2 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a notebook."""
    return tmp_path / "nb.ipynb"


def test_the_block_and_the_script_are_read(path: Path, big: int) -> None:
    """Both, with the cell that the script stands in, past outputs of any size."""
    nb = notebook(
        cell("# title", "markdown"), padding(big), cell(SCRIPT), torch_env=BLOCK, kernelspec={"name": "x"}
    )
    path.write_text(json.dumps(nb))
    assert read_notebook(path) == NotebookText(BLOCK, ('dependencies = ["timm"]',), (3,))


def test_the_source_may_be_lines_or_one_string(path: Path, big: int) -> None:
    """nbformat allows both."""
    path.write_text(json.dumps(notebook(padding(big), cell(SCRIPT.splitlines(keepends=True)), cell(SCRIPT))))
    assert len(read_notebook(path).script_blocks) == 2


def test_only_code_cells_hold_scripts(path: Path, big: int) -> None:
    """A script in prose is an example, and one in an output is a print."""
    shown = [{"output_type": "stream", "name": "stdout", "text": SCRIPT}]
    path.write_text(json.dumps(notebook(padding(big), cell(SCRIPT, "markdown"), cell("", outputs=shown))))
    assert read_notebook(path) == NotebookText()


def test_the_block_counts_at_the_top_only(path: Path, big: int) -> None:
    """A cell's own metadata, or a notebook inside an output, is not the notebook's."""
    inner = {
        "output_type": "display_data",
        "data": {"application/json": notebook(torch_env=BLOCK)},
        "metadata": {},
    }
    path.write_text(
        json.dumps(notebook(padding(big), cell("", metadata={"torch_env": BLOCK}, outputs=[inner])))
    )
    assert read_notebook(path).metadata is None


@pytest.mark.parametrize(
    "nb",
    [
        {},
        notebook(),
        notebook(torch_env=None),
        {"cells": 5, "metadata": []},
        {"metadata": {}, "worksheets": [{"cells": [{"input": SCRIPT}]}], "nbformat": 3},
    ],
    ids=["empty", "fresh", "null", "odd", "nbformat 3"],
)
def test_a_notebook_without_a_block_says_nothing(path: Path, nb: object) -> None:
    """Also one that is oddly built, or of nbformat 3, which had no such cells."""
    path.write_text(json.dumps(nb))
    assert read_notebook(path) == NotebookText()


def test_a_notebook_of_nbformat_3_can_have_a_block(path: Path) -> None:
    """Its metadata stands where today's does."""
    path.write_text(json.dumps({"metadata": {"torch_env": BLOCK}, "worksheets": [], "nbformat": 3}))
    assert read_notebook(path).metadata == BLOCK


def test_a_byte_order_mark_is_passed_over(path: Path, big: int) -> None:
    """Some editors on Windows write one."""
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(notebook(padding(big), torch_env=BLOCK)).encode())
    assert read_notebook(path).metadata == BLOCK


def test_a_notebook_in_memory_says_the_same_as_its_file(path: Path) -> None:
    """The runner's own notebook object can be asked instead of the file."""
    path.write_text(json.dumps(notebook(cell(SCRIPT, id="a", execution_count=None), torch_env=BLOCK)))
    nb = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    assert torch_env_of(nb) == read_notebook(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "not"),
        (b"5", "not"),
        (b'{"cells": [', "not JSON"),
        (gzip.compress(b"{}"), "gzip"),
        (b"\x00\x00\x00\x00", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (json.dumps({}).encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
        (b"PK\x03\x04", "not JSON"),
    ],
    ids=["empty", "list", "number", "truncated", "gzip", "NUL", "bad UTF-8", "UTF-16", "deep lists",
         "deep objects", "5000 digits", "zip"],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_unreadable_for_a_reason(path: Path, content: bytes, why: str) -> None:
    """The reason and the path are in the message, and a way on."""
    path.write_bytes(content)
    with pytest.raises(NotebookUnreadable) as unreadable:
        read_notebook(path)
    assert why in unreadable.value.why
    assert str(path) in unreadable.value.what
    assert unreadable.value.fix


@pytest.mark.parametrize("cut", [5, 1_500_000, -1])
def test_a_large_file_that_is_cut_short_is_unreadable(path: Path, cut: int) -> None:
    """As it is while somebody writes it."""
    path.write_bytes(json.dumps(notebook(padding(2 << 20), torch_env=BLOCK)).encode()[:cut])
    with pytest.raises(NotebookUnreadable):
        read_notebook(path)


def test_a_large_file_with_more_after_its_end_is_unreadable(path: Path) -> None:
    """Two notebooks written into one file are none."""
    path.write_text(json.dumps(notebook(padding(2 << 20), torch_env=BLOCK)) * 2)
    with pytest.raises(NotebookUnreadable, match="cannot be read"):
        read_notebook(path)


@pytest.mark.fault(27)
def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    """A pipe would block for ever, and a device may do something when it is opened."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        told = {"pipe": "a named pipe", "socket": "a socket", ".": "a directory", "gone": "No such file"}
        for name, why in told.items():
            with pytest.raises(NotebookUnreadable, match="cannot be read") as unreadable:
                read_notebook(tmp_path / name)
            assert why in unreadable.value.why
    for name, why in {"/dev/zero": "a device", "nul\0": "null"}.items():
        with pytest.raises(NotebookUnreadable) as unreadable:
            read_notebook(Path(name))
        assert why in unreadable.value.why


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root may read every file; give that up for a while."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.fault(27)
def test_a_file_without_permission_is_unreadable(path: Path) -> None:
    """The system's own reason is passed on."""
    path.write_text("{}")
    path.chmod(0)
    with as_an_ordinary_user(), pytest.raises(NotebookUnreadable) as unreadable:
        read_notebook(path)
    assert "Permission denied" in unreadable.value.why


def test_a_file_above_the_limit_is_refused_by_its_size(path: Path) -> None:
    """A gigabyte is not read at all; the message says how large it is and how large it may be."""
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(NotebookUnreadable) as unreadable:
        read_notebook(path)
    assert "1,074 MB" in unreadable.value.why
    assert f"{MAX_SIZE / 1e6:,.0f} MB" in unreadable.value.why
    assert "clear" in unreadable.value.fix


def test_a_hundred_megabytes_of_outputs_are_passed_over(path: Path) -> None:
    """They are held once, as the bytes that they are."""
    with path.open("w") as file:
        file.write('{"cells": [{"cell_type": "code", "outputs": [{"data": {"image/png": "')
        for _ in range(100):
            file.write("iVBORw0KGgo=" * 83_333)
        file.write('"}}], "source": "x"}], "metadata": {"torch_env": {"extras": ["einops"]}}}')
    code = """
import pathlib, resource, sys
from kernel_provisioner.notebook.read import read_notebook
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(read_notebook(pathlib.Path(sys.argv[1])).metadata)
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) - used
assert more < 256 << 20, more
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "{'extras': ['einops']}\n", done.stderr


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ('{"torch_env": {"torch": "<2", "torch": ">=2"}}', "torch stands in the notebook's metadata twice"),
        ('{"torch_env": {"x": [{"y": 1, "y": 1}]}}', "twice"),
        ('{"torch_env": {}, "torch_env": {}}', "the key torch_env stands in the notebook's metadata twice"),
        ('{"a": 1, "a": 2, "torch_env": {}, "torch_env": {}}', "torch_env stands"),
        ('{"torch_env": {"torch": NaN}}', "nan"),
        ('{"torch_env": {"x": [-Infinity]}}', "-inf"),
    ],
)
def test_a_block_that_can_be_read_in_two_ways_is_refused(
    path: Path, big: int, metadata: str, words: str
) -> None:
    """JSON readers differ on these, and the notebook must mean the same everywhere."""
    path.write_text(f'{{"cells": [{json.dumps(padding(big))}], "metadata": {metadata}}}')
    with pytest.raises(InvalidRequest, match=words):
        read_notebook(path)


def test_oddities_outside_the_block_are_not_ours(path: Path, big: int) -> None:
    """NaN in an output and doubled keys elsewhere do not matter to the environment."""
    path.write_text(
        f'{{"cells": [{json.dumps(padding(big))}, {{"cell_type": "code", "outputs": [NaN], "source": ""}}],'
        ' "nbformat": 4, "nbformat": 4, "metadata": {"a": 1, "a": 2, "torch_env": {"extras": ["einops"]}}}'
    )
    assert read_notebook(path).metadata == BLOCK


def test_a_block_of_megabytes_is_refused(path: Path) -> None:
    """A large lock is a hundred kilobytes."""
    path.write_text(json.dumps(notebook(torch_env={"extras": ["x" * (2 << 20)]})))
    with pytest.raises(InvalidRequest, match="longer than"):
        read_notebook(path)


TEXT = st.text(max_size=20) | st.just(SCRIPT)
CELL = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["code", "markdown"]), "source": TEXT | st.lists(TEXT, max_size=3)},
    optional={"outputs": st.lists(st.dictionaries(TEXT, TEXT | st.integers(), max_size=3), max_size=3)},
)


@given(
    cells=st.lists(CELL, max_size=4),
    metadata=st.dictionaries(TEXT | st.just("torch_env"), TEXT | st.lists(TEXT, max_size=3), max_size=3),
    indent=st.sampled_from([None, 1]),
)
def test_small_and_large_notebooks_are_read_alike(
    path: Path, cells: list[Any], metadata: dict[str, Any], indent: int | None
) -> None:
    """The two ways of reading find the same."""
    told: list[object] = []
    for size in (0, 1 << 20):
        path.write_text(json.dumps({"pad": "A" * size, "cells": cells, "metadata": metadata}, indent=indent))
        try:
            told.append(read_notebook(path))
        except InvalidRequest as refused:
            told.append(str(refused))
    assert told[0] == told[1]
