"""Any file at all in the place of a notebook: an answer or an error of ours, at once, and nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, note, settings, target
from hypothesis import strategies as st

from kernel_provisioner.errors import NotebookUnreadable, OverlayError
from kernel_provisioner.model.request import Request, parse_request
from kernel_provisioner.notebook import read
from kernel_provisioner.notebook.contents import NotebookText
from tests.support.bases import Workshop
from tests.support.index import serve_index
from tests.support.launches import launches
from tests.support.mutations import SEEDS, mutated
from tests.support.tree import tree_hash

SECONDS = 1.0  # of processor time, for one notebook

fuzzed = settings(max_examples=600)
RANDOM = st.randoms(use_true_random=False)


def asked(text: NotebookText) -> Request:
    """The request of what a notebook says."""
    return parse_request(text.metadata, text.script_blocks, uv_lock=text.uv_lock)


@fuzzed
@given(RANDOM)
def test_a_damaged_notebook_is_a_request_or_an_error_of_ours(tmp_path: Path, random: Random) -> None:
    """Within a second, nothing written, nothing started, nobody asked; and the message can be printed."""
    path = tmp_path / "a.ipynb"
    data = mutated(random)
    note(f"the notebook: {data!r}")
    path.write_bytes(data)
    with _within(SECONDS) as spent, _watched(path) as seen:
        answer = _answer(lambda: asked(read.read_notebook(path)))
    assert seen == []
    target(spent[0])
    if isinstance(answer, OverlayError):
        assert answer.fix
        assert len(str(answer)) < 4000
        assert all(line.isprintable() for line in str(answer).splitlines())
    else:
        assert isinstance(answer, Request)
        assert all(line.isprintable() and "${" not in line for line in answer.extras)


@fuzzed
@given(RANDOM)
def test_a_large_notebook_is_read_as_a_small_one(tmp_path: Path, random: Random) -> None:
    """What passes over the outputs of large files never falls over, and finds what the json module finds."""
    path = tmp_path / "a.ipynb"
    data = mutated(random)
    note(f"the notebook: {data!r}")
    path.write_bytes(data)
    with _within(SECONDS):
        large = _answer(lambda: read._read_large(path, data))
    small = _answer(lambda: read.read_notebook(path))
    # The json module checks all of the text, and msgspec less of what it passes over.
    assert isinstance(small, NotebookUnreadable) or str(large) == str(small)


@fuzzed
@given(RANDOM, st.integers(0, 3))
def test_any_script_is_a_request_or_an_error_of_ours(random: Random, cuts: int) -> None:
    """TOML has more kinds of values than JSON, and its numbers no end."""
    script = mutated(random).decode("utf-8", "surrogateescape")
    for _ in range(cuts):
        script = script[random.randint(0, len(script)) :]
    note(f"the script: {script!r}")
    with _within(SECONDS):
        answer = _answer(lambda: parse_request({}, [script]))
    assert isinstance(answer, Request) or (isinstance(answer, OverlayError) and answer.fix)


TOML = st.recursive(
    st.sampled_from(['"einops"', "'a'", '""', '"${A}"', "0x" + "f" * 5000, "1979-05-27T07:32:00Z", "inf"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda rows: f"[{', '.join(rows)}]")
        | inner.map(lambda row: f"{{a = {row}}}")
    ),
)


@settings(fuzzed, max_examples=300)
@example("0x" + "f" * 9000)
@example("[1979-05-27, nan, 0o7, [[[[[]]]]], {a.b.c = 07:32:00}]")
@given(TOML)
def test_any_value_of_toml_is_a_request_or_an_error_of_ours(value: str) -> None:
    """Dates, hexadecimal integers of any length, tables in the place of a list."""
    error = _answer(lambda: parse_request(None, [f"dependencies = {value}\nrequires-python = {value}"]))
    assert isinstance(error, OverlayError)
    assert error.fix
    assert "null" not in error.what, "TOML has none"


@pytest.mark.slow
def test_damaged_notebooks_are_launched(tmp_path: Path) -> None:
    """Through all of the program, and its builder: every one is told or built, and nothing else changes."""
    random = Random(7)
    with serve_index() as index:
        workshop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
        workshop.stock("cpu")
        workshop.create("cpu")
        workshop.publish("einops", "1.0")
        paths = []
        for number in range(60):
            paths.append(tmp_path / f"work/n{number}.ipynb")
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_bytes(mutated(random))
        before = [tree_hash(tmp_path / name) for name in ("work", "jupyter-data", "ipython")]
        outcomes = launches(paths, workshop.env)
        assert [tree_hash(tmp_path / name) for name in ("work", "jupyter-data", "ipython")] == before
    for path, told in zip(paths, outcomes, strict=True):
        failure = told["failure"] or told["build"]
        assert told["state"] == "ready" or failure, path.read_bytes()
        assert "bug in kernel-provisioner" not in failure.get("fix", ""), failure
        assert "Error:" not in failure.get("why", "").split("\n", maxsplit=1)[0], failure
    assert {"", "ready"} <= {told["state"] for told in outcomes}, "some are told, some are built"


def test_every_awkward_value_is_among_the_seeds() -> None:
    """What is mutated starts from all tables."""
    assert len(SEEDS) > 80
    assert any(b"# /// script" in seed for seed in SEEDS)


@contextmanager
def _within(seconds: float) -> Iterator[list[float]]:
    """Assert that what is done in here takes no more processor time; the list then holds how much."""
    spent: list[float] = []
    began = time.process_time()
    yield spent
    spent.append(time.process_time() - began)
    assert spent[0] < seconds, f"{spent[0]:.2f} s"


def _answer(ask: Callable[[], object]) -> object:
    """What comes of asking, be it one of our errors; any other is raised."""
    try:
        return ask()
    except OverlayError as error:
        return error


_listening: list[tuple[str, list[object]]] = []


@contextmanager
def _watched(path: Path) -> Iterator[list[object]]:
    """What this process opens (but ``path`` and modules), starts, changes or connects to meanwhile."""
    if not _hooked:
        sys.addaudithook(_hear)  # stays for good, so it is told when to listen
        _hooked.append(True)
    seen: list[object] = []
    _listening.append((str(path), seen))
    try:
        yield seen
    finally:
        _listening.pop()


_hooked: list[bool] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    for path, seen in _listening:
        if event == "open":
            name = str(arguments[0])  # a number where an open file is wrapped
            if name != path and not name.isdecimal() and not name.endswith((".py", ".pyc")):
                seen.append((event, arguments))
        elif event.startswith(("socket.", "subprocess.", "os.", "shutil.")) and event not in _SEARCHES:
            seen.append((event, arguments))


_SEARCHES = ("os.listdir", "os.scandir")  # as an import does
