"""What ``%overlay add`` added is there after every restart, until the notebook itself decides."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import TorchBase
from tests.support.index import serve_index
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.torch, pytest.mark.slow]

KERNEL = "torch-cpu"
FIRST = '# /// script\n# dependencies = ["first"]\n# ///'
BOTH = '# /// script\n# dependencies = ["first", "second"]\n# ///'


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, torch_base_home: TorchBase) -> Iterator[dict[str, str]]:
    """The environment of this module's server and commands, with an index of four packages."""
    home, wheels = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("wheels")
    with serve_index() as index:
        for name, requires in (("declared", []), ("first", []), ("second", ["core"]), ("core", [])):
            index.publish(build_wheel(wheels, name, requires=requires))
        index.publish(build_wheel(wheels, "second", "0.9"))
        reach = {"UV_DEFAULT_INDEX": index.default, "UV_INDEX": "", "UV_NO_CONFIG": "1"}
        yield torch_base_home.environment(home, **reach, UV_CACHE_DIR=str(home / "uv"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[JupyterServer]:
    """One Jupyter server for this module."""
    with jupyter_server(tmp_path_factory.mktemp("work"), env) as running:
        yield running


def test_nothing_saved(server: JupyterServer) -> None:
    """Five restarts of a notebook that was never saved: all is there, in the same overlay."""
    write_notebook(server.root / "unsaved.ipynb", torch_env={"extras": ["declared"]})
    with server.session("unsaved.ipynb", KERNEL) as session:
        assert offered(session, "first") == FIRST
        assert offered(session, "second") == BOTH, "with what the earlier offer holds, too"
        place = session.execute("import sys; print(sys.prefix)").stdout
        for _ in range(5):
            session.restart()
            assert imports(session, "declared, first, second, core")
            assert session.execute("import sys; print(sys.prefix)").stdout == place, "the same overlay"
        assert offered(session, "second") == "", "a cell that runs again offers nothing again"


def test_the_first_cell_saved_and_the_second_not(server: JupyterServer, env: dict[str, str]) -> None:
    """Five restarts: what is declared and what is not; nothing is reported as lost."""
    notebook = write_notebook(server.root / "half.ipynb", torch_env={"extras": ["declared"]})
    with server.session("half.ipynb", KERNEL) as session:
        write_notebook(notebook, offered(session, "first"), torch_env={"extras": ["declared"]})
        session.restart()
        assert offered(session, "second") == BOTH, "with what the notebook's own block holds"
        for _ in range(5):
            session.restart()
            assert imports(session, "declared, first, second, core")
    shown = command(env, "show", str(notebook), "--json")
    assert (shown["extras"], shown["added"]) == (["declared", "first"], ["second"])


def test_what_is_declared_is_dropped_with_its_declaration(server: JupyterServer, env: dict[str, str]) -> None:
    """Both offered cells are kept; then the declaration goes on purpose, and the packages with it."""
    notebook = write_notebook(server.root / "dropped.ipynb", torch_env={"extras": ["declared"]})
    with server.session("dropped.ipynb", KERNEL) as session:
        cells = [offered(session, "first"), offered(session, "second")]
        write_notebook(notebook, *cells, torch_env={"extras": ["declared"]})
        session.restart()
        assert imports(session, "declared, first, second, core")
        assert command(env, "show", str(notebook), "--json")["added"] == []
        write_notebook(notebook, torch_env={"extras": ["declared"]})
        for _ in range(2):
            session.restart()
            assert imports(session, "declared")
            assert not imports(session, "first")
            assert not imports(session, "second")


def test_it_can_be_removed_by_a_command(server: JupyterServer, env: dict[str, str]) -> None:
    """``jupyter overlay remove`` lets go of what no notebook declares."""
    notebook = write_notebook(server.root / "removed.ipynb", torch_env={"extras": ["declared"]})
    with server.session("removed.ipynb", KERNEL) as session:
        assert session.execute("%overlay add first second").status == "ok"
        assert command(env, "remove", str(notebook), "second", "--json")["extras"] == ["declared"]
        session.restart()
        assert imports(session, "declared, first")
        assert not imports(session, "second")


def test_another_version_than_declared_stays_and_the_change_is_named(server: JupyterServer) -> None:
    """No cell could say it beside what the notebook says; a command can."""
    write_notebook(server.root / "other.ipynb", torch_env={"extras": ["second"]})
    with server.session("other.ipynb", KERNEL) as session:
        done = session.execute('%overlay add "second<1"')
        assert done.stdout.rstrip().endswith("jupyter overlay add other.ipynb 'second<1'")
        assert not done.reply["payload"]
        for _ in range(2):
            session.restart()
            version = "from importlib.metadata import version; print(version('second'))"
            assert session.execute(version).stdout == "0.9\n"


@pytest.mark.parametrize("name", ["notes.py", "page.md"])
def test_a_text_notebook_keeps_one_block_by_the_command_that_the_cell_names(
    server: JupyterServer, env: dict[str, str], name: str
) -> None:
    """Two additions, each declared as the output says: the file holds one block, which each command takes."""
    notebook = server.root / name
    notebook.write_text({"notes.py": "# %%\n1\n", "page.md": "```{code-cell}\n1\n```\n"}[name])
    with server.session(name, KERNEL) as session:
        for package in ("first", "second"):
            done = session.execute(f"%overlay add {package}")
            assert not done.reply["payload"]
            said = done.stdout.splitlines()[-1].strip()
            assert said == f"jupyter overlay add {name} {package}"
            command(env, "add", str(notebook), *said.split()[4:], "--json")
            session.restart()
            assert imports(session, package)
    shown = command(env, "show", str(notebook), "--json")
    assert (shown["extras"], shown["added"]) == (["first", "second"], [])
    assert notebook.read_text().count("# /// script") == 1
    assert command(env, "remove", str(notebook), "first", "--json")["extras"] == ["second"]


def test_an_addition_that_does_not_fit_any_more_is_named_with_the_way_out(
    server: JupyterServer, env: dict[str, str]
) -> None:
    """The notebook declares what excludes it: the cell says what to remove, and that helps."""
    notebook = write_notebook(server.root / "clash.ipynb", torch_env={"extras": ["declared"]})
    with server.session("clash.ipynb", KERNEL) as session:
        assert session.execute('%overlay add "second<1"').status == "ok"
        write_notebook(notebook, torch_env={"extras": ["declared", "core==9"]})
        session.restart()
        told = session.execute("import declared").text
        assert "second<1 came with %overlay add" in told
        assert "%overlay remove second  (in a terminal: jupyter overlay remove clash.ipynb second)" in told
        write_notebook(notebook, torch_env={"extras": ["declared"]})
        command(env, "remove", str(notebook), "second", "--json")
        session.restart()
        assert imports(session, "declared")


def test_what_a_cell_declares_is_the_notebooks_to_keep(server: JupyterServer) -> None:
    """A ``# /// script`` cell that was run and then changed leaves nothing behind."""
    notebook = write_notebook(server.root / "cell.ipynb", torch_env={"extras": ["declared"]})
    with server.session("cell.ipynb", KERNEL) as session:
        assert session.execute(FIRST).status == "ok"
        assert imports(session, "first")
        changed = FIRST.replace("first", "second")
        write_notebook(notebook, changed, torch_env={"extras": ["declared"]})
        session.restart()
        assert imports(session, "declared, second")
        assert not imports(session, "first")


def offered(session: Session, *packages: str) -> str:
    """Add packages, and return the cell that is offered for them; empty where none is."""
    done = session.execute("%overlay add " + " ".join(packages))
    assert done.status == "ok", done.text
    return "".join(str(offer["text"]) for offer in done.reply["payload"])


def imports(session: Session, modules: str) -> bool:
    """Whether a cell can import all of these."""
    return session.execute(f"import {modules}").status == "ok"


def command(env: dict[str, str], *words: str) -> dict[str, Any]:
    """What a command of ours says, as JSON."""
    line = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
