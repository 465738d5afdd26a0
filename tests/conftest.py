"""What the tests share: local indexes, workshops, this machine's Pythons, and a base with the real torch."""

from __future__ import annotations

import dataclasses
import os
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.bases import Bench, Workshop
from tests.support.desk import Desk
from tests.support.environ import clean_environment, default_index
from tests.support.hub import Hub, deployed
from tests.support.index import LocalIndex, serve_index
from tests.support.pythons import Python, find_pythons
from tests.support.shared_base import remove_shared_base, shared_base
from tests.support.waiting import patient

TEST_WITHIN = patient(300.0)
"""Seconds for one test, without its fixtures, where it has no mark that says otherwise."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and in what we start
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "these",
    derandomize=True,  # the same examples in each run: a failure is about the change that was made
    deadline=None,  # a machine that is busy with other tests says nothing of one example
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("these")

SHARED_BASE = "torch-base"
"""Where the workers of a run share the real base, below the directory that they share."""

_SLOW_LAST = ("network", "slow", "torch", "browser")


@dataclasses.dataclass(frozen=True)
class TorchBase:
    """The base with the real torch (cpu) that one test run shares; tests must not change it.

    ``data_dir`` is the Jupyter data directory that holds it and its kernel.
    """

    data_dir: Path

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """A clean environment under ``home`` in which this base and its kernel are found."""
        return clean_environment(home, index=None, inherited=None, JUPYTER_PATH=str(self.data_dir), **more)


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's servers and kernels keep everything."""
    return tmp_path_factory.mktemp(request.path.stem.removeprefix("test_").replace("_", "-"))


@pytest.fixture(scope="session")
def torch_base_home(tmp_path_factory: pytest.TempPathFactory) -> TorchBase:
    """One real cpu base for the whole run, made by the command that a user types, gone at the end.

    ``KERNEL_PROVISIONER_TEST_BASE`` names a Jupyter data directory that holds one already.
    """
    if ready := os.environ.get("KERNEL_PROVISIONER_TEST_BASE"):
        return TorchBase(Path(ready))
    own = tmp_path_factory.getbasetemp()
    return TorchBase(shared_base((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / SHARED_BASE))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the real base once all workers have ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        remove_shared_base(factory.getbasetemp() / SHARED_BASE)


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
    """Quick tests first: what is broken in a pure module shows before a server has started. Among several
    workers the slow ones first, so that none is left with a long one at the end.

    Those that fetch gigabytes, or need a GPU, run only where ``-m`` names them, as ``make test-cuda`` and
    ``make test-gpu`` do. Tests that
    share a fixture of their module go to one worker; all others go to whichever has time.
    """
    for item in items:
        if "torch_base_home" in getattr(item, "fixturenames", ()):
            item.add_marker("torch")
        if item.get_closest_marker("browser") or item.path.parent.name == "faults":
            item.add_marker("system")
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_WITHIN))
        if group := _shares_with(item):
            item.add_marker(pytest.mark.xdist_group(group))
    for mark in ("cuda", "gpu"):
        if mark not in config.option.markexpr:
            others = [item for item in items if item.get_closest_marker(mark)]
            items[:] = [item for item in items if item not in others]
            config.hook.pytest_deselected(items=others)
    items.sort(key=_slowness, reverse="PYTEST_XDIST_WORKER" in os.environ)


def _shares_with(item: pytest.Item) -> str:
    """The name of those that a test shares a fixture with; empty where it has its own only."""
    fixtures: dict[str, tuple[pytest.FixtureDef[Any], ...]] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    if "jupyterhub" in fixtures:
        return "jupyterhub"
    scopes = {definition.scope for definitions in fixtures.values() for definition in definitions}
    if "package" in scopes:  # by halves: the longest would keep one worker after all others have ended
        return f"{item.path.parent.name}.{zlib.crc32(item.path.stem.encode()) % 2}"
    return f"{item.path.parent.name}.{item.path.stem}" if scopes & {"module", "class"} else ""


def _slowness(item: pytest.Item) -> int:
    marks = {mark.name for mark in item.iter_markers()}
    return max((rank for rank, name in enumerate(_SLOW_LAST, start=1) if name in marks), default=0)
