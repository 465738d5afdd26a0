from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_core.utils import run_sync
from jupyter_server.services.contents.filemanager import AsyncFileContentsManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.services.sessions.sessionmanager import SessionManager
from nbclient import NotebookClient
from nbconvert.exporters import NotebookExporter
from traitlets.config import Config

from kernel_provisioner.notebook.find import FoundNotebook, find_notebook
from kernel_provisioner.notebook.frames import calling_frames
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
    """A server's directory with ``work/nb.ipynb`` in it."""
    write_notebook(tmp_path / "work" / "nb.ipynb")
    return tmp_path


@pytest.fixture
def notebook(root: Path) -> Path:
    """The notebook in ``root``."""
    return root / "work" / "nb.ipynb"


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
    assert found({"KERNEL_NOTEBOOK_PATH": "nb.ipynb"}, cwd=root / "work").path == notebook
    assert found({"KERNEL_NOTEBOOK_PATH": "gone.ipynb"}, cwd=root).path == root / "gone.ipynb"


def test_a_session_names_its_notebook(notebook: Path) -> None:
    """JupyterLab's and Notebook's servers give the absolute path."""
    assert found({"JPY_SESSION_NAME": str(notebook)}) == FoundNotebook(notebook, how="JPY_SESSION_NAME")


@pytest.mark.parametrize("name", ["work/nb.ipynb", "/work/nb.ipynb"])
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
    server.add("work/nb.ipynb", "nb.ipynb")
    stale = write_notebook(notebook.with_name("Untitled.ipynb"))
    for env in ({}, {"JPY_SESSION_NAME": str(stale)}):
        assert found(env, kernel_manager=server.kernel_manager) == FoundNotebook(notebook, how="session")


def test_a_random_path_is_read_by_the_notebooks_name(server: Server, notebook: Path) -> None:
    """JupyterLab 4 sends one in the right directory until the kernel runs."""
    server.add(f"work/{UUID}", "nb.ipynb")
    assert found(kernel_manager=server.kernel_manager).path == notebook


def test_a_console_on_a_notebooks_kernel_does_not_hide_the_notebook(server: Server, notebook: Path) -> None:
    """Several sessions can share a kernel."""
    server.add("work/Console 1", "Console 1", "console")
    server.add("work/nb.ipynb", "nb.ipynb")
    assert found(kernel_manager=server.kernel_manager).path == notebook


def test_rows_of_other_kernels_and_of_gone_notebooks_do_not_count(server: Server) -> None:
    """A session that outlived its file has nothing to read."""
    server.add("work/nb.ipynb", "nb.ipynb", kernel="k2")
    server.add("work/gone.ipynb", "gone.ipynb")
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


class Looked(Exception):
    """A kernel manager has looked for its notebook, which is all it does."""

    def __init__(self, found: FoundNotebook) -> None:
        super().__init__()
        self.found = found


def look(kernel_manager: object) -> Looked:
    """What a provisioner would find for this kernel manager."""
    inherited = {"JPY_SESSION_NAME": OUTER}
    return Looked(found({}, kernel_manager=kernel_manager, frames=calling_frames(), inherited=inherited))


class AsyncLooking(AsyncKernelManager):
    """Starts no kernel."""

    async def start_kernel(self, **_: Any) -> None:  # type: ignore[override]
        """Look instead."""
        raise look(self)


class Looking(KernelManager):
    """The blocking kind, whose coroutines run in a thread of their own under a running loop."""

    async def _async_start_kernel(self, **_: Any) -> None:
        raise look(self)

    def start_kernel(self, **_: Any) -> None:
        """Look instead, in the way that the original starts."""
        run_sync(self._async_start_kernel)()


def read(path: Path) -> Any:
    """The notebook as runners load it."""
    return nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("manager", [AsyncLooking, Looking])
@pytest.mark.parametrize("in_loop", [False, True])
def test_nbclient_has_the_notebook_in_memory(notebook: Path, manager: type, *, in_loop: bool) -> None:
    """The library alone knows no path."""
    nb = read(notebook)
    client = NotebookClient(nb, kernel_manager_class=manager)
    with pytest.raises(Looked) as looked:
        start(client, in_loop=in_loop)
    assert looked.value.found.content is nb
    assert looked.value.found.path is None
    assert looked.value.found.how == "nbclient"


def start(client: NotebookClient, *, in_loop: bool) -> None:
    """Start the kernel as ``execute`` does, without the hooks for the end of the process that it sets."""
    client.create_kernel_manager()
    if in_loop:
        asyncio.run(client.async_start_new_kernel())
    else:
        client.start_new_kernel()


class Another(AsyncKernelManager):
    """Lets a kernel of its own look while it starts."""

    async def start_kernel(self, **_: Any) -> None:  # type: ignore[override]
        """Start another manager's kernel first, as a hook of a running notebook may."""
        await AsyncLooking().start_kernel()


def test_a_kernel_that_the_waiting_client_did_not_ask_for_is_not_its(notebook: Path) -> None:
    """The client waits for another kernel manager."""
    client = NotebookClient(read(notebook), kernel_manager_class=Another)
    with pytest.raises(Looked) as looked:
        start(client, in_loop=False)
    assert looked.value.found.how == "none"


@pytest.mark.parametrize("relative", [False, True])
def test_nbconvert_knows_the_directory_and_the_name(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool
) -> None:
    """It leaves both to its preprocessors."""
    monkeypatch.chdir(notebook.parent)
    config = Config({"ExecutePreprocessor": {"enabled": True, "kernel_manager_class": AsyncLooking}})
    exporter = NotebookExporter(config=config)  # type: ignore[no-untyped-call]
    with pytest.raises(Looked) as looked:
        exporter.from_filename(notebook.name if relative else str(notebook))
    assert looked.value.found.path == notebook
    assert looked.value.found.how == "nbconvert"
    assert looked.value.found.content is not None


@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_papermill_knows_the_file(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, in_loop: bool, elsewhere: bool
) -> None:
    """Also run from another notebook's loop, and when it moves to another directory for the run."""
    monkeypatch.chdir(notebook.parent)

    def run() -> None:
        papermill.execute_notebook(
            notebook.name,
            None,
            kernel_manager_class=AsyncLooking,
            progress_bar=False,
            cwd=str(tmp_path) if elsewhere else None,
        )

    async def run_in_loop() -> None:
        run()

    with pytest.raises(Looked) as looked:
        asyncio.run(run_in_loop()) if in_loop else run()
    assert looked.value.found.path == notebook
    assert looked.value.found.how == "papermill"


PROVISIONER = """
import json, os, pathlib, sys
from jupyter_client.provisioning import LocalProvisioner
from kernel_provisioner.notebook.find import find_notebook
from kernel_provisioner.notebook.frames import calling_frames

class Probe(LocalProvisioner):
    async def pre_launch(self, **kwargs):
        cwd = kwargs.get("cwd")
        found = find_notebook(env=kwargs.get("env") or {}, cwd=pathlib.Path(cwd) if cwd else None,
                              kernel_manager=self.parent, kernel_id=self.kernel_id, frames=calling_frames())
        told = json.dumps([str(found.path), found.how, found.content is not None])
        print("FOUND", told, file=sys.stderr, flush=True)
        raise RuntimeError("that is all")
"""


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., list[Any]]:
    """Runs a command line with a provisioner that tells what it finds; the first thing told."""
    site = tmp_path / "site"
    (site / "probe-1.dist-info").mkdir(parents=True)
    (site / "probe.py").write_text(PROVISIONER)
    (site / "probe-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
    (site / "probe-1.dist-info" / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\nprobe = probe:Probe\n"
    )
    spec = tmp_path / "data" / "kernels" / "probe" / "kernel.json"
    spec.parent.mkdir(parents=True)
    metadata = {"kernel_provisioner": {"provisioner_name": "probe"}}
    spec.write_text(
        json.dumps({"argv": ["none"], "display_name": "", "language": "python", "metadata": metadata})
    )
    env = {
        **os.environ,
        "PYTHONPATH": f"{site}{os.pathsep}{Path(__file__).parent.parent}",
        "HOME": str(tmp_path),
        "JUPYTER_PATH": str(tmp_path / "data"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JPY_SESSION_NAME": OUTER,
    }

    def run(*command: str) -> list[Any]:
        with subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            told = list(_until_found(process.stderr))
            process.kill()  # it has started nothing, and voila takes long to shut down
        assert told[-1].startswith("FOUND "), "".join(told)
        answer: list[Any] = json.loads(told[-1].removeprefix("FOUND "))
        return answer

    return run


def _until_found(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("FOUND "):
            return


def test_jupyter_execute_knows_the_file(probe: Callable[..., list[Any]], notebook: Path) -> None:
    """The command itself, named relative to where it runs."""
    write_notebook(notebook, "1", kernel="probe")
    told = probe("jupyter", "execute", str(notebook.relative_to(notebook.parents[1])))
    assert told == [str(notebook), "jupyter execute", True]


@pytest.mark.parametrize("what", ["work/nb.ipynb", "work"], ids=["one notebook", "a directory"])
def test_voila_warms_kernels_for_notebooks(
    probe: Callable[..., list[Any]], notebook: Path, what: str
) -> None:
    """Its pool starts them in tasks that nobody's frames lead to."""
    write_notebook(notebook, "1", kernel="probe")
    told = probe("voila", what, "--no-browser", "--port=0", "--preheat_kernel=True", "--Voila.ip=127.0.0.1")
    assert told == [str(notebook), "voila", False]


@pytest.mark.parametrize(
    ("script_name", "single"),
    [("/voila/render/work/nb%20%C3%A4.ipynb", False), ("/", True)],
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
