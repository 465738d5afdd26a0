"""A kernel that started warm is, in all that it can see of itself, one that started normally."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.warm import WARM, starts, warm_up

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

PORTRAIT = Path(__file__).parent / "support/portrait.py"
TELL = f"{PORTRAIT.read_text(encoding='utf-8')}\nprint(json.dumps(portrait(), default=str))"
RANDOM = """
import multiprocessing, random, secrets, ssl, tempfile, uuid
import numpy, torch
print(random.random(), numpy.random.rand(), torch.rand(1).item(), torch.initial_seed(), uuid.uuid4(),
      secrets.token_hex(), ssl.RAND_bytes(8).hex(), bytes(multiprocessing.current_process().authkey).hex(),
      next(tempfile._get_candidate_names()), sep="\\n")
"""
KEPT = """
import gc, sys
mark, hits = "-".join(("scratch", "warm")), []
def look(value, where, depth):
    if isinstance(value, (str, bytes)):
        if (mark if isinstance(value, str) else mark.encode()) in value:
            hits.append(f"{where}: {value!r:.200}")
    elif depth and isinstance(value, dict):
        for name, entry in list(value.items()):
            look(entry, f"{where}.{name!s:.40}", depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for entry in list(value):
            look(entry, where, depth - 1)
for name, module in list(sys.modules.items()):
    if name != "__main__":
        look(dict(vars(module)), name, 6)
for kind in [one for one in gc.get_objects() if isinstance(one, type)]:
    look(dict(vars(kind)), str(kind), 4)
print(*hits, sep="\\n")
"""


@pytest.fixture(scope="module")
def server(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A server that starts kernels warm, in an environment with something of everything."""
    home = tmp_path_factory.mktemp("warm same")
    told = {"MINE": "ä = 'b' c", "EMPTY": "", "CUDA_VISIBLE_DEVICES": "0"}
    with jupyter_server(home / "work", torch_base_home.environment(home, **told), options=[WARM]) as running:
        yield running


@pytest.fixture(scope="module")
def portraits(server: JupyterServer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same notebook's kernel, started normally and then warm, in an overlay that is ready."""
    write_notebook(server.root / "nb.ipynb", torch_env={"accelerator": "cpu"})
    with server.session("nb.ipynb", "torch-cpu") as session:
        before = told(session)
        warm_up(server)
        session.restart()
        assert starts(server)[-1] == "warm"
        return before, told(session)


def test_nothing_differs_that_a_kernel_can_see(portraits: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Paths, environment, command line, signals, limits, descriptors, modules, threads and the rest."""
    normal, warm = portraits
    assert set(normal) == set(warm)
    for subject in normal:
        assert warm[subject] == normal[subject], subject


def test_nothing_of_the_fork_server_is_left_in_it(server: JupyterServer, portraits: object) -> None:
    """No module and no class remembers where its process was when they were imported."""
    with server.session("nb.ipynb", "torch-cpu") as session:
        assert starts(server)[-1] == "warm"
        done = session.execute(KEPT)
        assert done.status == "ok", done.text
        assert done.stdout.strip() == ""


def test_two_kernels_draw_different_numbers(server: JupyterServer, portraits: object) -> None:
    """Seeds and keys are each kernel's own: random, numpy, torch, uuid, secrets, ssl, multiprocessing."""
    drawn = []
    for name in ("one.ipynb", "two.ipynb"):
        write_notebook(server.root / name, torch_env={"accelerator": "cpu"})
        with server.session(name, "torch-cpu") as session:
            assert starts(server)[-1] == "warm"
            drawn.append(session.execute(RANDOM).stdout.split())
    assert len(drawn[0]) == len(drawn[1]) == 9
    assert not set(drawn[0]) & set(drawn[1])


def told(session: Session) -> dict[str, Any]:
    """The kernel's portrait, painted by itself."""
    session.execute("import numpy, torch")
    done = session.execute(TELL)
    assert done.status == "ok", done.text
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
