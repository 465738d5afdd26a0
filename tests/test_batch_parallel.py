"""A batch on a node without network: locked notebooks, prebuilt, run by every runner, several at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.index import LocalIndex
from tests.support.notebooks import printed_in, write_notebook
from tests.support.offline import offline
from tests.support.runners import installed, run_well
from tests.support.tiny import serve_extras
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

NOTEBOOKS, WORKERS = 20, 4
CELL = "import tiny_batch, torch\nprint(tiny_batch.__file__, torch.ones(2).sum().item())"
NBCLIENT = (
    "import nbformat, sys; from nbclient import NotebookClient as Client; "
    "nb = nbformat.read(sys.argv[1], 4); Client(nb).execute(); nbformat.write(nb, sys.argv[2])"
)
OVERLAY = (sys.executable, "-m", "kernel_provisioner.cli.app")
RUNNERS: tuple[Sequence[str], ...] = (
    (*OVERLAY, "run", "{nb}", "--output", "{out}"),
    (installed("jupyter-nbconvert"), "--execute", "--to", "notebook", "--output={out}", "{nb}"),
    (installed("papermill"), "{nb}", "{out}"),
    (sys.executable, "-c", NBCLIENT, "{nb}", "{out}"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole batch lies, as on a file system that all nodes see."""
    return tmp_path_factory.mktemp("batch-parallel")


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """Has the batch's package in the version that is locked; later a newer one comes."""
    with serve_extras(home / "wheels", "tiny-batch") as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """What the log-in node's shell sets, and the job's as well."""
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)


@pytest.fixture(scope="module")
def notebooks(home: Path, env: dict[str, str], index: LocalIndex) -> list[Path]:
    """Twenty notebooks with one lock, whose overlays were made where there is a network."""
    made = [
        write_notebook(home / f"nb{number:02}.ipynb", CELL, torch_env={"extras": ["tiny-batch"]})
        for number in range(NOTEBOOKS)
    ]
    run_well([*OVERLAY, "lock", str(made[0])], home, env)
    for path in made[1:]:
        path.write_bytes(made[0].read_bytes())
    index.publish(build_wheel(home / "wheels", "tiny-batch", "2.0"))
    done = run_well([*OVERLAY, "prebuild", str(home), "--jobs", str(WORKERS), "--json"], home, env)
    assert [row["state"] for row in json.loads(done.stdout)] == ["built"] * NOTEBOOKS, done.stderr
    return made


def test_a_locked_batch_runs_in_parallel_without_network(
    notebooks: list[Path], home: Path, env: dict[str, str], index: LocalIndex
) -> None:
    """Each has the locked version on the base's torch, whichever runner runs it, and asks nobody."""
    asked = len(index.asked)

    def run(number: int) -> str:
        words = RUNNERS[number % len(RUNNERS)]
        out = home / f"out{number:02}.ipynb"
        command = [word.format(nb=notebooks[number].name, out=out.name) for word in words]
        run_well(offline(*command), home, env)
        return printed_in(out)

    with ThreadPoolExecutor(WORKERS) as pool:
        printed = list(pool.map(run, range(NOTEBOOKS)))
    assert all("/torch-overlays/" in text and text.endswith(" 2.0\n") for text in printed), printed
    assert len(index.asked) == asked
    overlays = home.glob("cache/torch-overlays/*/*/lib/python*/site-packages/tiny_batch*")
    assert {path.name for path in overlays} == {"tiny_batch", "tiny_batch-1.0.dist-info"}


def test_a_new_notebook_of_the_batch_needs_no_network_either(
    notebooks: list[Path], home: Path, env: dict[str, str]
) -> None:
    """Its overlay is made on the node itself, from the lock and what is in uv's cache."""
    late = home / "late.ipynb"
    late.write_bytes(notebooks[0].read_bytes())
    done = run_well(offline(*OVERLAY, "run", late.name, "--output", "late-out.ipynb", "--json"), home, env)
    assert json.loads(done.stdout)["status"] == "ok"
    assert "/torch-overlays/late-" in printed_in(home / "late-out.ipynb")
