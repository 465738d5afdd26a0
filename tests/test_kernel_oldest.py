"""The kernel runs on what ipykernel allows of IPython, traitlets …: here on the oldest of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import read_register
from tests.conftest import TorchBase
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.server import jupyter_server
from tests.support.session import Session
from tests.support.tiny import serve_extras

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

MADE_OF = ("ipython", "jupyter-client", "traitlets", "tornado", "pyzmq")
"""What a kernel has imported before its first cell, and ipykernel gives a range for."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIndex]:
    """An index in front of the registry that also has a tiny package."""
    with serve_extras(tmp_path_factory.mktemp("wheels"), "late-extra") as served:
        yield served


@pytest.fixture(scope="module")
def oldest(torch_base_home: TorchBase) -> dict[str, str]:
    """Name → the oldest version of it that the base's ipykernel takes, from ipykernel's own metadata."""
    (base,) = read_register([torch_base_home.data_dir / "torch-bases"]).bases
    (found,) = metadata.distributions(name="ipykernel", path=list(base.manifest.site_dirs))
    floors = dict(
        re.findall(r"^([a-z-]+)(?:[^;\n]*?)>=([\d.]+)", "\n".join(found.requires or ()), re.MULTILINE)
    )
    return {name: floors[name] for name in MADE_OF}


@pytest.fixture(scope="module")
def opened(
    home: Path, index: LocalIndex, torch_base_home: TorchBase, oldest: dict[str, str]
) -> Iterator[tuple[Session, str]]:
    """A notebook that declares them, restarted as its first output says; and that output."""
    env = torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)
    extras = [f"{name}=={version}" for name, version in oldest.items()]
    with jupyter_server(home / "work", env) as server:
        write_notebook(server.root / "old.ipynb", torch_env={"accelerator": "cpu", "extras": extras})
        with server.session("old.ipynb", "torch-cpu") as session:
            first = session.execute("import IPython, zmq; print(IPython.__version__)")
            assert first.status == "ok", first.text
            session.restart()
            yield session, first.text


def test_each_replacement_is_told_with_the_restart_that_it_takes(
    opened: tuple[Session, str], oldest: dict[str, str]
) -> None:
    """The running kernel keeps what it has imported; the line names all of them."""
    _, told = opened
    for name in oldest:
        assert re.search(rf"in this notebook only, {name} is \S+ instead of the base's", told), told
    (line,) = re.findall(r"Restart the kernel to use the new (.*): the base's is already imported", told)
    assert set(oldest) <= set(line.split(", "))


def test_after_one_restart_the_kernel_is_made_of_them(
    opened: tuple[Session, str], oldest: dict[str, str]
) -> None:
    """Their modules come from the overlay, in the versions that were asked for."""
    code = f"""
import IPython, jupyter_client, sys, tornado, traitlets, zmq
from importlib.metadata import version
made_of = IPython, jupyter_client, traitlets, tornado, zmq
print({{module.__file__.startswith(sys.prefix) for module in made_of}})
print(*map(version, {MADE_OF}))"""
    done = opened[0].execute(code)
    # A version such as 25 calls itself 25.0.0.
    said = [re.sub(r"(\.0)+$", "", word) for word in done.stdout.splitlines()[-1].split()]
    assert done.stdout.startswith("{True}"), done.text
    assert said == [re.sub(r"(\.0)+$", "", version) for version in oldest.values()]


def test_it_does_what_a_kernel_does(opened: tuple[Session, str]) -> None:
    """Cells, displays, completion, inspection, history, input, the stop button."""
    session = opened[0]
    assert session.execute("from IPython.display import HTML; HTML('<b>x</b>')").text
    assert session.execute("1 / 0").error.startswith("ZeroDivisionError")
    session.execute("import json")
    matches = session.ask("complete_request", {"code": "json.loa", "cursor_pos": 8})["matches"]
    assert any(match.endswith("loads") for match in matches), matches  # the oldest names the attribute alone
    assert session.ask("inspect_request", {"code": "json.loads", "cursor_pos": 10, "detail_level": 0})[
        "found"
    ]
    assert session.execute("print(input('name? '))", answers=["Ada"]).stdout == "Ada\n"
    running = session.begin("import time\nprint('running', flush=True)\nwhile True: time.sleep(0.05)")
    running.until(lambda seen: "running" in seen.stdout)
    session.interrupt()
    assert running.result().error.startswith("KeyboardInterrupt")
    assert session.execute("await __import__('asyncio').sleep(0, 'slept')").text.strip("'\"\n") == "slept"


def test_the_overlay_magic_works_in_it(opened: tuple[Session, str]) -> None:
    """What the notebook runs on, and a package added in passing, with the cell that declares it."""
    session = opened[0]
    assert "extras   ipython==" in session.execute("%overlay").stdout
    added = session.execute("%overlay add late-extra")
    assert "Added late-extra 1.0" in added.stdout, added.text
    assert session.execute("import late_extra; print(late_extra.__version__)").stdout == "1.0\n"
