"""``%overlay`` in a notebook: what ``jupyter overlay`` does with the same words, in a failed kernel too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.environ import clean_environment
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.tiny import offer_tiny_torch, serve_extras
from tests.support.waiting import WITHIN
from tests.support.wheels import build_project, build_wheel

UNSAVED = "This declaration is not in the saved notebook: save it, or the next start does not count it."
pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index in front of the registry with tiny packages: one needs another, one has two versions."""
    with serve_extras(home / "wheels", "magic-root", "magic-leaf", "magic-late") as served:
        served.publish(build_wheel(home / "wheels", "magic-tree", requires=["magic-leaf"]))
        served.publish(build_wheel(home / "wheels", "magic-old", "1.0"))
        yield served


@pytest.fixture(scope="module")
def server(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """One Jupyter server for this module."""
    env = torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)
    with jupyter_server(home / "work", env) as running:
        yield running


@pytest.fixture(scope="module")
def session(server: JupyterServer) -> Iterator[Session]:
    """An open notebook in which a cell has run."""
    torch_env = {"accelerator": "cpu", "extras": ["magic-tree", "magic-old"]}
    write_notebook(server.root / "magic.ipynb", torch_env=torch_env)
    with server.session("magic.ipynb", "torch-cpu") as opened:
        assert opened.execute("import magic_tree").status == "ok"
        yield opened


@pytest.fixture
def failed(server: JupyterServer, request: pytest.FixtureRequest) -> Iterator[Session]:
    """An open notebook that declares a package that does not exist, so that no cell runs."""
    name = f"{request.node.name}.ipynb"
    write_notebook(server.root / name, torch_env={"extras": ["magic-root", "magic-nowhere"]})
    with server.session(name, "torch-cpu") as opened:
        assert opened.execute("1").status == "error"
        yield opened


def extras_of(notebook: Path) -> list[str]:
    """What a notebook's metadata declare."""
    return list(json.loads(notebook.read_text())["metadata"]["torch_env"]["extras"])


def test_tree_and_why_say_what_the_command_says(session: Session) -> None:
    """For this notebook, whose name need not be typed."""
    lines = session.execute("%overlay tree").stdout.splitlines()
    assert lines[1:] == ["├── magic-tree 1.0", "│   └── magic-leaf 1.0", "└── magic-old 1.0"]
    assert "magic-tree (declared) → magic-leaf" in session.execute("%overlay why magic-leaf").stdout
    told = session.execute("%overlay why magic-lef")
    assert told.status == "error"
    assert "did you mean magic-leaf?" in " ".join(told.text.split())
    assert "Traceback" not in told.text


@pytest.mark.system
def test_what_changes_the_notebook_says_that_it_did(session: Session, server: JupyterServer) -> None:
    """The file on disk is another one now, which an editor that has it open must be told."""
    notebook = server.root / "magic.ipynb"
    done = session.execute("%overlay lock")
    assert done.status == "ok", done.text
    assert "magic.ipynb is locked to 3 packages" in done.stdout
    assert "magic.ipynb was changed on disk. In JupyterLab: File, Reload Notebook from Disk" in done.stdout
    assert "was changed" not in session.execute("%overlay lock").stdout
    done = session.execute("%overlay remove magic-old")
    assert "magic.ipynb now declares magic-tree\n" in done.stdout
    assert extras_of(notebook) == ["magic-tree"]
    told = session.execute("%overlay remove magic-old").text
    assert "magic-old is not among the extras" in told


@pytest.mark.parametrize("words", ["base list", "export", "freeze", "du", "log"])
def test_the_words_of_the_shell_have_its_outcome(
    session: Session,
    server: JupyterServer,
    home: Path,
    index: LocalIndex,
    torch_base_home: TorchBase,
    words: str,
) -> None:
    """But for numbers that grow meanwhile: the same lines, in the cell."""
    ours = {"export", "freeze", "log"}
    shell = [*words.split(), *([str(server.root / "magic.ipynb")] if words in ours else [])]
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", *shell]
    env = torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default, COLUMNS="80")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WITHIN, check=True)
    told = session.execute(f"%overlay {words}")
    assert told.status == "ok", told.text
    said, expected = (
        [re.sub(r"[\d.,]+", "1", line).split() for line in text.splitlines()]
        for text in (told.stdout, done.stdout)
    )
    assert said[:3] == expected[:3]
    assert len(said) >= min(len(expected), 3)


def test_a_base_is_chosen_from_a_cell(server: JupyterServer) -> None:
    """``%overlay base use`` writes what the shell's writes."""
    notebook = write_notebook(server.root / "chosen.ipynb", kernel="torch-cpu")
    with server.session("chosen.ipynb", "torch-cpu") as opened:
        assert "chosen.ipynb runs on cpu-torch" in opened.execute("%overlay base use cpu").stdout
        told = opened.execute("%overlay base use cu999")
        assert told.status == "error"
    assert "torch_env" not in json.loads(notebook.read_text())["metadata"]


@pytest.mark.system
def test_adding_from_a_file_declares_as_the_shell_does(session: Session, server: JupyterServer) -> None:
    """Relative to the notebook's folder; and a dry run shows what would change."""
    (server.root / "needs.txt").write_text("magic-late\n")
    done = session.execute("%overlay add magic-root --dry-run")
    assert "  + magic-root 1.0" in done.stdout, done.text
    done = session.execute("%overlay add -r needs.txt")
    assert "magic-late" in done.stdout.splitlines()[0]
    assert "magic-late" in extras_of(server.root / "magic.ipynb")
    session.execute("%overlay remove magic-late")


def test_newer_versions_are_taken_and_a_restart_brings_them(
    session: Session, server: JupyterServer, index: LocalIndex, home: Path
) -> None:
    """``%overlay upgrade`` builds them beside the running kernel."""
    write_notebook(server.root / "newer.ipynb", torch_env={"extras": ["magic-old"]})
    with server.session("newer.ipynb", "torch-cpu") as opened:
        assert opened.execute("import magic_old; print(magic_old.__version__)").stdout == "1.0\n"
        index.publish(build_wheel(home / "wheels", "magic-old", "2.0"))
        done = opened.execute("%overlay upgrade magic-old")
        assert "↑ magic-old 1.0 → 2.0" in done.stdout, done.text
        opened.restart()
        assert opened.execute("import magic_old; print(magic_old.__version__)").stdout.endswith("2.0\n")


def test_a_misspelt_command_is_answered_with_the_nearest(session: Session) -> None:
    """And all commands; a question mark shows them too."""
    told = session.execute("%overlay upgrad").stdout
    assert "there is no %overlay upgrad; did you mean %overlay upgrade?" in told
    assert "%overlay base list" in told
    (shown,) = session.execute("%overlay?").reply["payload"]
    assert "%overlay add PACKAGE…" in shown["data"]["text/plain"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%overlay upg", ["upgrade"]),
        ("%overlay why magic-", ["magic-leaf", "magic-old", "magic-tree"]),
        ("%overlay remove magic-t", ["magic-tree"]),
        ("%overlay add scikit-l", ["scikit-learn"]),
        ("%overlay base cr", ["create"]),
        ("%overlay base create cu12", ["cu124", "cu126", "cu128"]),
    ],
)
def test_tab_completes_commands_and_names(line: str, offered: list[str], session: Session) -> None:
    """From what this kernel knows; nobody is asked."""
    reply = session.ask("complete_request", {"code": line, "cursor_pos": len(line)})
    assert [match for match in reply["matches"] if match in offered] == offered, reply["matches"]


@pytest.mark.system
def test_a_kernel_that_failed_can_be_helped_from_its_cells(
    failed: Session, server: JupyterServer, request: pytest.FixtureRequest
) -> None:
    """What is declared wrongly is taken out, something else is declared, and a restart runs it."""
    notebook = server.root / f"{request.node.name}.ipynb"
    assert "now declares magic-root" in failed.execute("%overlay remove magic-nowhere").stdout
    done = failed.execute("%overlay add magic-late")
    assert "now declares magic-root, magic-late" in done.stdout, done.text
    assert "Restart the kernel to install them." in done.stdout
    assert extras_of(notebook) == ["magic-root", "magic-late"]
    failed.restart()
    assert failed.execute("import magic_root, magic_late").status == "ok"


def test_a_kernel_without_a_base_makes_one(tmp_path: Path, home: Path) -> None:
    """From the notebook, with its steps shown; a restart runs on it."""
    with serve_extras(tmp_path / "wheels", "magic-root") as index:
        offer_tiny_torch(index, tmp_path / "wheels", "cpu")
        env = clean_environment(tmp_path, index=index)
        with jupyter_server(tmp_path / "work", env) as server:
            write_notebook(server.root / "first.ipynb", torch_env={"extras": ["magic-root"]})
            with server.session("first.ipynb", "torch") as opened:
                told = opened.execute("1").text
                assert "no torch base is registered yet" in told
                assert "about 1 GB and some minutes" in " ".join(told.split())
                assert "%overlay base create cpu" in told
                done = opened.execute("%overlay base create cpu")
                assert done.status == "ok", done.text
                assert "Ready: cpu-torch" in done.stdout
                assert "Restart the kernel to use it." in done.stdout
                assert done.updates, "steps were shown"
                opened.restart()
                assert opened.execute("import magic_root").status == "ok"


def test_a_kernel_without_a_notebook_says_so(server: JupyterServer) -> None:
    """A console has nothing to declare in; adding works there until it ends."""
    with server.session("console", "torch-cpu", kind="console") as opened:
        assert "is for notebooks, and this kernel has none" in opened.execute("%overlay tree").text
        assert "Added magic-late 1.0" in opened.execute("%overlay add magic-late").stdout


# --- cells with a declaration ------------------------------------------------------------------------


def script(*dependencies: str, python: str = "") -> str:
    """A cell with a PEP 723 block."""
    asked = f'# requires-python = "{python}"\n' if python else ""
    return f"# /// script\n{asked}# dependencies = {json.dumps(list(dependencies))}\n# ///"


def test_a_declaration_that_is_run_is_applied_once(server: JupyterServer) -> None:
    """What is new is installed now; saved, it is no news, and run again it does nothing."""
    first, second = script("magic-leaf"), script("magic-leaf", "Magic_Late >= 1")
    notebook = write_notebook(server.root / "applied.ipynb", first, "import magic_leaf", kernel="torch-cpu")
    with server.session("applied.ipynb", "torch-cpu") as opened:
        assert "magic-leaf 1.0 added to torch" in opened.execute(first).text
        assert opened.execute(first).text == ""
        done = opened.execute(second)
        assert done.stdout.splitlines() == ["Added magic-late 1.0", UNSAVED], done.text
        assert opened.execute("import magic_late").status == "ok"
        assert opened.execute(second).stdout.splitlines() == [UNSAVED]
        write_notebook(notebook, second, "import magic_leaf", kernel="torch-cpu")
        assert opened.execute(second).text == ""
        opened.restart()
        assert opened.execute("import magic_leaf, magic_late").status == "ok"


def test_what_a_declaration_asks_of_the_base_needs_a_restart(server: JupyterServer) -> None:
    """torch and Python are chosen when the kernel starts; it is told once."""
    write_notebook(server.root / "later.ipynb", "1")
    cell = script("torch>=1", "magic-leaf", python=">=3.10")
    with server.session("later.ipynb", "torch-cpu") as opened:
        lines = opened.execute(cell).stdout.splitlines()
        assert lines[0] == "Added magic-leaf 1.0"
        assert lines[1].startswith("torch>=1: the base is chosen at the start")
        assert lines[2].startswith("requires-python >=3.10: ")
        assert opened.execute(cell).stdout.splitlines() == [UNSAVED]


def test_a_declaration_that_cannot_be_applied_fails_its_cell(session: Session) -> None:
    """And the cells after it do not run on something else."""
    told = session.execute(script("magic-nowhere") + "\nprint('ran')")
    assert told.status == "error"
    assert "there is no package called magic-nowhere" in told.text
    assert "\nran" not in told.text


def test_a_program_that_misses_a_module_is_answered_under_its_traceback(
    session: Session, server: JupyterServer
) -> None:
    """Where the overlay's own Python says so as its last words; the cell's outputs are as they were."""
    (server.root / "misses.py").write_text("print('begun')\nimport sksurv\n")
    told = session.execute("!python misses.py")
    assert "begun" in told.stdout
    assert told.text.count("No module named 'sksurv'") == 1
    line = "sksurv (package scikit-survival) is not in this notebook's environment:"
    assert told.text.rstrip().endswith(f"{line} %overlay add scikit-survival")
    assert "%overlay add" not in session.execute("!python misses.py; true").text
    assert "%overlay add" not in session.execute("!echo python misses.py").text
    assert session.execute("print('as ever')").stdout == "as ever\n"


# --- libraries of one's own --------------------------------------------------------------------------


def test_a_library_of_ones_own_is_imported_from_its_directory(server: JupyterServer, tmp_path: Path) -> None:
    """From the restart on; what is changed there counts at the next one, and the notebook names it alone."""
    library = build_project(tmp_path / "library", "magic-own", requires=["magic-leaf"])
    notebook = write_notebook(server.root / "own.ipynb", torch_env={"accelerator": "cpu"})
    with server.session("own.ipynb", "torch-cpu") as opened:
        done = opened.execute(f"%overlay add -e {library}")
        assert "own.ipynb now declares magic-own" in done.stdout, done.text
        assert extras_of(notebook) == ["magic-own"]
        opened.restart()
        told = opened.execute("import magic_own, magic_leaf; print(magic_own.__file__)")
        assert told.stdout.splitlines()[-1] == f"{library}/src/magic_own.py", told.text
        (library / "src/magic_own.py").write_text("V = 'changed'\n")
        opened.restart()
        assert opened.execute("import magic_own; print(magic_own.V)").stdout.endswith("changed\n")
        assert "magic-own 1.0" in opened.execute("%overlay tree").stdout
        later = opened.execute("%overlay add magic-root")
        assert "Added magic-root 1.0" in later.stdout, later.text
        assert opened.execute("import magic_root, magic_own").status == "ok"


# --- the shell, while a notebook is open -------------------------------------------------------------


def test_a_shell_command_says_where_the_notebook_is_open(
    server: JupyterServer, home: Path, torch_base_home: TorchBase
) -> None:
    """Its editor still holds what was there before; a notebook that is open nowhere is just changed."""
    env = torch_base_home.environment(home)
    closed = write_notebook(server.root / "closed.ipynb")
    opened = write_notebook(server.root / "deep/opened é.ipynb")
    with server.session("deep/opened é.ipynb", "torch-cpu"):
        for notebook in (closed, opened):
            words = [sys.executable, "-m", "kernel_provisioner.cli.app", "add", str(notebook), "magic-leaf"]
            done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=WITHIN, check=True)
            lines = done.stdout.splitlines()[2:]
            told = f"opened é.ipynb is open in {server.url}, in an editor that takes no changes from here."
            assert [told in line for line in lines[:1]] == ([True] if notebook == opened else []), lines
