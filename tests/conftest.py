"""What the tests share: local indexes, workshops, this machine's Pythons, and a base with the real torch."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bases import Bench, Workshop
from tests.support.desk import Desk
from tests.support.environ import clean_environment, default_index
from tests.support.hub import Hub, deployed
from tests.support.index import LocalIndex, serve_index
from tests.support.pythons import Python, find_pythons

BASE_WITHIN = 1200.0
"""Seconds for making the real base: torch is some 200 MB to fetch, and its bytecode is compiled."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and in what we start
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SLOW_LAST = ("network", "slow", "torch", "browser")


@dataclasses.dataclass(frozen=True)
class TorchBase:
    """The base with the real torch (cpu) that one test run shares; tests must not change it.

    ``data_dir`` is the Jupyter data directory that holds it and its kernel, ``created`` what
    ``jupyter overlay base create --json`` printed.
    """

    data_dir: Path
    created: dict[str, Any]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """A clean environment under ``home`` in which this base and its kernel are found."""
        return clean_environment(home, index=None, inherited=None, JUPYTER_PATH=str(self.data_dir), **more)


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's servers and kernels keep everything."""
    return tmp_path_factory.mktemp(request.path.stem.removeprefix("test_").replace("_", "-"))


@pytest.fixture(scope="session")
def torch_base_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchBase]:
    """One real cpu base for the whole run, made by the command that a user types, gone at the end.

    ``KERNEL_PROVISIONER_TEST_BASE`` names a Jupyter data directory that holds one already.
    """
    if ready := os.environ.get("KERNEL_PROVISIONER_TEST_BASE"):
        yield TorchBase(Path(ready), {})
        return
    home = tmp_path_factory.mktemp("torch-base")
    env = clean_environment(home)
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "create", "cpu"]
    done = subprocess.run(
        [*command, "--user", "--json"],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=BASE_WITHIN,
        check=False,
    )
    assert done.returncode == 0, f"no base with the real torch could be made:\n{done.stderr}{done.stdout}"
    yield TorchBase(Path(env["JUPYTER_DATA_DIR"]), json.loads(done.stdout))
    for folder, _, _ in os.walk(home):  # a base is read-only, and a gigabyte
        Path(folder).chmod(0o700)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def jupyterhub() -> Iterator[Hub]:
    """One JupyterHub with three users for the whole run, set up as docs/deploy/jupyterhub says."""
    with deployed("ada", "ben", "cleo") as hub:
        yield hub


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    """An empty package index on this machine, laid out like PyTorch's."""
    with serve_index() as served:
        yield served


@pytest.fixture
def front_index() -> Iterator[LocalIndex]:
    """The same in front of this machine's registry: fake torch and real ipykernel behind one address."""
    with serve_index(upstream=default_index()) as served:
        yield served


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A home directory and an empty index."""
    return Workshop(tmp_path, index)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A module's workshop, whose bases are made once."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("bench"), index)


@pytest.fixture
def bench(workbench: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The module's workshop as it was at first; each test has a notebook of its own name."""
    with workbench.visit(f"{request.node.name}.ipynb") as bench:
        yield bench


@pytest.fixture(scope="module")
def locksmith(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A module's desk, whose bases are made once."""
    with serve_index() as index:
        yield Desk(tmp_path_factory.mktemp("lock"), index)


@pytest.fixture
def desk(locksmith: Desk) -> Iterator[Desk]:
    """The module's desk as it was at first, with nobody asked yet."""
    with locksmith.visit() as desk:
        yield desk


@pytest.fixture(scope="session")
def pythons() -> tuple[Python, ...]:
    """Every CPython from 3.10 on that this machine has, one for each minor version."""
    return find_pythons()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument ``each_python`` runs once for every Python of ``pythons``."""
    if "each_python" in metafunc.fixturenames:
        metafunc.parametrize("each_python", find_pythons(), ids=lambda python: python.xy)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first: what is broken in a pure module shows before a server has started.

    Those that fetch gigabytes run only where ``-m`` names them, as ``make test-cuda`` does.
    """
    for item in items:
        if "torch_base_home" in getattr(item, "fixturenames", ()):
            item.add_marker("torch")
    if "cuda" not in config.option.markexpr:
        huge = [item for item in items if item.get_closest_marker("cuda")]
        items[:] = [item for item in items if item not in huge]
        config.hook.pytest_deselected(items=huge)
    items.sort(key=_slowness)


def _slowness(item: pytest.Item) -> int:
    marks = {mark.name for mark in item.iter_markers()}
    return max((rank for rank, name in enumerate(_SLOW_LAST, start=1) if name in marks), default=0)
