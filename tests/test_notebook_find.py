"""Which notebook a kernel is for, from what its variables, its directory and its server's sessions say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace

import pytest
from jupyter_server.services.contents.filemanager import AsyncFileContentsManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.services.sessions.sessionmanager import SessionManager

from kernel_provisioner.notebook.find import FoundNotebook, find_notebook
from tests.support.notebooks import write_notebook

UUID = "8f0d9a50-5a4e-4b7c-9c0e-1f6d2b3a4c5d"
OUTER = "/somewhere/outer.ipynb"


def found(
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    kernel_manager: object = None,
    frames: Iterable[FrameType] = (),
    inherited: Mapping[str, str] | None = None,
) -> FoundNotebook:
    """What is found where this is all there is to go by."""
    return find_notebook(
        env=env or {},
        cwd=cwd,
        kernel_manager=kernel_manager,
        kernel_id="k1",
        frames=frames,
        inherited=inherited or {},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A server's directory with ``books/nb.ipynb`` in it."""
    write_notebook(tmp_path / "books" / "nb.ipynb")
    return tmp_path


@pytest.fixture
def notebook(root: Path) -> Path:
    """The notebook in ``root``."""
    return root / "books" / "nb.ipynb"


class Server:
    """A kernel manager inside a server with a real table of sessions."""

    def __init__(self, root: Path) -> None:
        kernels = AsyncMappingKernelManager(root_dir=str(root))  # type: ignore[no-untyped-call]
        contents = AsyncFileContentsManager(root_dir=str(root))
        self.sessions = SessionManager(  # type: ignore[no-untyped-call]
            kernel_manager=kernels, contents_manager=contents
        )
        app = SimpleNamespace(session_manager=self.sessions)
        self.kernel_manager = SimpleNamespace(parent=SimpleNamespace(root_dir=str(root), parent=app))

    def add(self, path: str, name: str | None, kind: str = "notebook", kernel: str = "k1") -> None:
        """A row as ``POST /api/sessions`` makes it once the kernel runs."""
        self.sessions.cursor.execute(
            "INSERT INTO session VALUES (?,?,?,?,?)", ("s1", path, name, kind, kernel)
        )


@pytest.fixture
def server(root: Path) -> Server:
    """A server on ``root`` with no session yet."""
    return Server(root)


def test_nothing_is_found_where_nothing_says_so() -> None:
    """As for ``POST /api/kernels``."""
    assert found() == FoundNotebook(None, None, "none")


def test_a_caller_that_names_its_notebook_is_believed(root: Path, notebook: Path) -> None:
    """Before any other trace, relative to the kernel's directory, and whether or not the file is there."""
    env = {"KERNEL_NOTEBOOK_PATH": str(notebook), "JPY_SESSION_NAME": str(root / "other.ipynb")}
    assert found(env) == FoundNotebook(notebook, how="KERNEL_NOTEBOOK_PATH")
    assert found({"KERNEL_NOTEBOOK_PATH": "nb.ipynb"}, cwd=root / "books").path == notebook
    assert found({"KERNEL_NOTEBOOK_PATH": "gone.ipynb"}, cwd=root).path == root / "gone.ipynb"


def test_a_session_names_its_notebook(notebook: Path) -> None:
    """JupyterLab's and Notebook's servers give the absolute path."""
    assert found({"JPY_SESSION_NAME": str(notebook)}) == FoundNotebook(notebook, how="JPY_SESSION_NAME")


@pytest.mark.parametrize("name", ["books/nb.ipynb", "/books/nb.ipynb"])
def test_a_path_of_the_servers_api_starts_at_its_directory(server: Server, notebook: Path, name: str) -> None:
    """Clients that send no name leave such a path in the variable."""
    assert found({"JPY_SESSION_NAME": name}, kernel_manager=server.kernel_manager).path == notebook


def test_without_a_server_the_kernels_directory_is_where_the_notebook_is(notebook: Path) -> None:
    """Whatever the API path says of the directories above."""
    assert found({"JPY_SESSION_NAME": "elsewhere/nb.ipynb"}, cwd=notebook.parent).path == notebook


@pytest.mark.parametrize("name", [f"nb-jvsc-{UUID}.ipynb", f"nb.ipynb-jvsc-{UUID}"])
def test_the_unique_name_that_vs_code_makes_is_undone(notebook: Path, name: str) -> None:
    """Its sessions on a remote server are named so, in the notebook's directory."""
    assert found({"JPY_SESSION_NAME": str(notebook.with_name(name))}).path == notebook
    assert found({"JPY_SESSION_NAME": name}, cwd=notebook.parent).path == notebook


@pytest.mark.parametrize("name", ["Console 1", f"Console 1-{UUID}", UUID, "", ".", "gone.ipynb", "a\0b"])
def test_a_console_has_no_notebook(root: Path, server: Server, name: str) -> None:
    """Its name is that of no file."""
    env = {"JPY_SESSION_NAME": str(root / name) if name else ""}
    assert found(env, cwd=root, kernel_manager=server.kernel_manager).how == "none"


def test_a_name_copied_from_the_own_environment_is_that_of_another_kernel(notebook: Path) -> None:
    """A runner started from inside a notebook carries that notebook's name along."""
    inherited = {"JPY_SESSION_NAME": str(notebook), "KERNEL_NOTEBOOK_PATH": str(notebook)}
    assert found(inherited, inherited=inherited).how == "none"
    assert found({}, inherited=inherited).how == "none"


def test_a_server_started_from_inside_a_notebook_can_open_that_notebook(
    server: Server, notebook: Path
) -> None:
    """A server sets the name itself, so that being equal to the inherited one says nothing."""
    env = {"JPY_SESSION_NAME": str(notebook)}
    assert found(env, kernel_manager=server.kernel_manager, inherited=env).path == notebook


def test_the_row_of_the_session_is_found_at_a_restart(server: Server, notebook: Path) -> None:
    """It says where the notebook is now, also when the name from the first start is stale."""
    server.add("books/nb.ipynb", "nb.ipynb")
    stale = write_notebook(notebook.with_name("Untitled.ipynb"))
    for env in ({}, {"JPY_SESSION_NAME": str(stale)}):
        assert found(env, kernel_manager=server.kernel_manager) == FoundNotebook(notebook, how="session")


def test_a_random_path_is_read_by_the_notebooks_name(server: Server, notebook: Path) -> None:
    """JupyterLab 4 sends one in the right directory until the kernel runs."""
    server.add(f"books/{UUID}", "nb.ipynb")
    assert found(kernel_manager=server.kernel_manager).path == notebook


def test_a_console_on_a_notebooks_kernel_does_not_hide_the_notebook(server: Server, notebook: Path) -> None:
    """Several sessions can share a kernel."""
    server.add("books/Console 1", "Console 1", "console")
    server.add("books/nb.ipynb", "nb.ipynb")
    assert found(kernel_manager=server.kernel_manager).path == notebook


def test_rows_of_other_kernels_and_of_gone_notebooks_do_not_count(server: Server) -> None:
    """A session that outlived its file has nothing to read."""
    server.add("books/nb.ipynb", "nb.ipynb", kernel="k2")
    server.add("books/gone.ipynb", "gone.ipynb")
    assert found(kernel_manager=server.kernel_manager).how == "none"


class Trap:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def test_objects_that_misbehave_are_passed_over(notebook: Path) -> None:
    """A launch never fails because another program's insides changed."""
    assert found(kernel_manager=Trap()).how == "none"
    broken = SimpleNamespace(
        parent=SimpleNamespace(root_dir=5, parent=SimpleNamespace(session_manager=Trap()))
    )
    assert found({"KERNEL_NOTEBOOK_PATH": str(notebook)}, kernel_manager=broken).path == notebook
    assert found({"JPY_SESSION_NAME": "x"}, kernel_manager=broken, frames=[Trap()]).how == "none"  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("script_name", "single"),
    [("/voila/render/books/nb%20%C3%A4.ipynb", False), ("/", True)],
    ids=["page", "single"],
)
def test_voila_says_which_page_was_asked_for(tmp_path: Path, script_name: str, *, single: bool) -> None:
    """In the environment of the request; a server of one notebook has that at its root."""
    path = write_notebook(tmp_path / "nb ä.ipynb")
    app = type("Voila", (), {"__module__": "voila.app", "notebook_path": str(path) if single else ""})()
    manager = SimpleNamespace(parent=SimpleNamespace(root_dir=str(tmp_path), parent=app))
    env = {
        "VOILA_REQUEST_URL": f"http://127.0.0.1:8866{script_name}",
        "SCRIPT_NAME": script_name,
        "JPY_SESSION_NAME": OUTER,
    }
    told = found(env, cwd=tmp_path, kernel_manager=manager, inherited={"JPY_SESSION_NAME": OUTER})
    assert told == FoundNotebook(path, how="voila")


def test_voila_inside_a_server_started_from_a_notebook_is_not_that_notebook(
    server: Server, root: Path
) -> None:
    """It copies its environment for the kernel, with the name of the notebook it was started from."""
    outer, page = write_notebook(root / "outer.ipynb"), write_notebook(root / "page.ipynb")
    env = {
        "VOILA_REQUEST_URL": "http://127.0.0.1:8888/voila/render/page.ipynb",
        "SCRIPT_NAME": "/voila/render/page.ipynb",
        "JPY_SESSION_NAME": str(outer),
    }
    told = found(
        env, cwd=root, kernel_manager=server.kernel_manager, inherited={"JPY_SESSION_NAME": str(outer)}
    )
    assert told == FoundNotebook(page, how="voila")
