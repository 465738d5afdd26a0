"""Whatever a notebook says, its kernel starts, and tells what is wrong and what to write instead."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TorchBase
from tests.support.bad_notebooks import ACCEPTED, HELD, IGNORED, REFUSED, SILENT, TOLD, Content, extras, put
from tests.support.bases import Workshop
from tests.support.index import Asked, serve_index
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tree import tree_hash

pytestmark = pytest.mark.slow  # two environments of fake packages are made for all these


@dataclasses.dataclass
class Launched:
    """A heap of notebooks that were launched, and what that did to the world around."""

    folder: Path
    outcomes: dict[str, dict[str, Any]]
    asked: list[Asked]
    written: set[str]
    unchanged: bool


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Bases of fake torch 2.6.0 for cpu and cu126, no GPU, and an index with what a notebook might want."""
    with serve_index() as index:
        home = tmp_path_factory.mktemp("bad-input")
        more = {
            "TORCH_OVERLAY_ROOT": str(home / "overlays"),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_TOKEN": "hunter2",
        }
        workshop = Workshop(home, index, **more)
        workshop.stock("cpu", "cu126")
        for tag in ("cpu", "cu126"):
            workshop.create(tag)
        workshop.publish("einops", "1.0")
        workshop.publish("nvidia-cublas-cu12", "12.6")
        workshop.publish("triton", "3.2.0", tag="cpu")
        workshop.publish("wants-old-torch", requires=["torch<2"])
        yield workshop


@pytest.fixture(scope="module")
def launched(workshop: Workshop) -> Launched:
    """Everything that is answered at the launch itself."""
    tables = [SILENT, *({name: row[0] for name, row in table.items()} for table in (TOLD, IGNORED, REFUSED))]
    return _launch(
        workshop, "answered", {name: content for table in tables for name, content in table.items()}
    )


@pytest.fixture(scope="module")
def built(workshop: Workshop) -> Launched:
    """What the builder has to answer."""
    return _launch(
        workshop, "built", {name: row[0] for table in (HELD, ACCEPTED) for name, row in table.items()}
    )


@pytest.mark.parametrize("name", SILENT)
def test_nothing_asked_for_is_the_base_alone(name: str, launched: Launched) -> None:
    """The kernel has its overlay, with nothing in it, and says nothing."""
    outcome = launched.outcomes[name]
    assert (outcome["failure"], outcome["notices"], outcome["state"]) == ({}, [], "ready")
    assert outcome["base"]["tag"] == "cpu"


@pytest.mark.fault(27)
@pytest.mark.parametrize("name", TOLD)
def test_what_is_no_notebook_is_told_in_one_line(name: str, launched: Launched) -> None:
    """A broken file is no reason for a kernel not to start: the base alone, and one line that says why."""
    outcome = launched.outcomes[name]
    assert (outcome["failure"], outcome["state"]) == ({}, "ready")
    (notice,) = outcome["notices"]
    assert notice.startswith(f"the notebook {launched.folder / name}.ipynb cannot be read")
    assert "running on the base alone" in notice
    assert TOLD[name][1] in notice
    assert notice.isprintable()


@pytest.mark.parametrize("name", IGNORED)
def test_what_nothing_reads_is_named(name: str, launched: Launched) -> None:
    """It changes nothing, and its author hears of it."""
    outcome = launched.outcomes[name]
    assert (outcome["failure"], outcome["state"]) == ({}, "ready")
    told = "\n".join(outcome["notices"])
    for words in IGNORED[name][1]:
        assert words in told
    assert len(outcome["notices"]) <= 6


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_field_and_the_fix(name: str, launched: Launched) -> None:
    """The kernel starts to tell it; no overlay is made, nothing is resolved."""
    outcome = launched.outcomes[name]
    failure = outcome["failure"]
    assert failure, outcome
    _, where, words = REFUSED[name]
    assert failure["what"].startswith(where)
    assert failure["fix"]
    told = "\n".join(failure[key] for key in ("what", "why", "fix"))
    for word in words:
        assert word in told
    assert "hunter2" not in told
    assert len(told) < 2000
    assert all(line.isprintable() for line in told.splitlines())
    assert outcome["overlay"] == ""
    assert failure["error"] in ("InvalidRequest", "NoBaseFits")


def test_no_answer_needs_the_network(launched: Launched) -> None:
    """What is answered at the launch is answered from the notebook and the register of bases."""
    assert launched.asked == []


def test_nothing_is_written_but_overlays(launched: Launched) -> None:
    """Not into the notebook's folder, not into the home directory, not into the base."""
    assert launched.unchanged
    assert launched.written == set()


@pytest.mark.parametrize("name", HELD)
def test_what_cannot_be_resolved_gives_the_reason(name: str, built: Launched) -> None:
    """The build fails with the resolver's own words, or those of the audit."""
    outcome = built.outcomes[name]
    assert outcome["failure"] == {}
    assert outcome["state"] == "failed"
    told = "\n".join(outcome["build"][key] for key in ("what", "why", "fix"))
    for word in HELD[name][1]:
        assert word in told
    assert outcome["build"]["fix"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_accepted_is_built(name: str, built: Launched) -> None:
    """Odd, but right: the overlay holds what was asked for, and nothing of the base again."""
    outcome = built.outcomes[name]
    assert (outcome["failure"], outcome["state"]) == ({}, "ready"), outcome["build"]
    overlay = json.loads((Path(outcome["overlay"]) / "overlay.json").read_text())
    assert tuple(entry["name"] for entry in overlay["installed"]) == ACCEPTED[name][1]


@pytest.fixture(scope="module")
def server(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A real server on the real base, as the owner of a bad notebook meets them."""
    home = tmp_path_factory.mktemp("bad-input-server")
    with jupyter_server(home / "work", torch_base_home.environment(home)) as running:
        yield running


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    ["a second line", "written from the right", "no base for rocm", "a key twice", "TOML that is none"],
)
def test_every_cell_of_a_refused_notebook_tells_it(name: str, server: JupyterServer) -> None:
    """In a frontend: the session opens, and each cell fails with the same whole message."""
    put(REFUSED[name][0], server.root / f"{name}.ipynb")
    with server.session(f"{name}.ipynb", "torch") as session:
        for _ in range(2):
            done = session.execute("print('it ran')")
            assert (done.status, done.stdout) == ("error", "")
            assert REFUSED[name][1].strip() in " ".join(done.text.split())
            assert "fix" in done.text
            assert "it ran" not in done.text


@pytest.mark.torch
@pytest.mark.parametrize("name", ["cut off", "compressed", "a pipe", "a number of 5000 digits"])
def test_a_broken_notebook_has_its_kernel(name: str, server: JupyterServer) -> None:
    """In a frontend: one line above the first cell's output, torch is there, and never again a word."""
    put(TOLD[name][0], server.root / f"{name}.ipynb")
    with server.session(f"{name}.ipynb", "torch") as session:
        done = session.execute("import torch; print(torch.tensor([6, 7]).sum().item())")
        assert done.stdout == "13\n", done.text
        assert TOLD[name][1] in " ".join(done.text.split())
        assert session.execute("1").text == "1\n"


@pytest.mark.torch
@pytest.mark.network
def test_more_extras_than_an_environment_variable_holds(server: JupyterServer) -> None:
    """As many as are allowed, each as long as is allowed: they reach the builder, and the kernel starts."""
    many = [
        "einops" + ",".join(f"!={more}.{number}" for more in range(1000, 1046)) for number in range(100, 356)
    ]
    put(extras(*many), server.root / "many.ipynb")
    assert sum(map(len, many)) > 130_000, "Linux takes 128 KiB in one variable"
    with server.session("many.ipynb", "torch") as session:
        assert session.execute("import einops").status == "ok"
        assert "einops!=" in session.execute("%overlay").stdout


@pytest.mark.torch
@pytest.mark.network
def test_a_notebook_that_was_mended_runs(server: JupyterServer) -> None:
    """The fix is an edit and a restart away."""
    put(REFUSED["a string of extras"][0], server.root / "corrected.ipynb")
    with server.session("corrected.ipynb", "torch") as session:
        assert session.execute("import einops").status == "error"
        write_notebook(server.root / "corrected.ipynb", torch_env={"extras": ["einops"]})
        session.restart()
        assert session.execute("import einops").status == "ok"


def _launch(workshop: Workshop, folder: str, contents: dict[str, Content]) -> Launched:
    """Launch a notebook of each content, named as its row, and watch what else happens."""
    root = workshop.home / folder
    paths = [put(content, root / f"{name}.ipynb") for name, content in contents.items()]
    launches([workshop.home / "none.ipynb"], workshop.env)  # the first launch of all remembers the hardware
    before, tree, asked = _files(workshop), tree_hash(root), len(workshop.index.asked)
    outcomes = dict(zip(contents, launches(paths, workshop.env), strict=True))
    return Launched(
        root, outcomes, workshop.index.asked[asked:], _files(workshop) - before, tree == tree_hash(root)
    )


def _files(workshop: Workshop) -> set[str]:
    """Every file under the home directory that belongs to no overlay."""
    return {str(path) for path in workshop.home.rglob("*") if not path.is_relative_to(workshop.overlays.root)}
