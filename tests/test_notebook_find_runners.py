"""Which notebook a kernel is for, from the program that runs it: nbclient, nbconvert, papermill, voila."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbconvert.exporters import NotebookExporter
from traitlets.config import Config

from kernel_provisioner.notebook.find import FoundNotebook, find_notebook
from kernel_provisioner.notebook.frames import calling_frames
from tests.support.notebooks import write_notebook

OUTER = "/somewhere/outer.ipynb"


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook in ``books``, from whose parent commands are run."""
    return write_notebook(tmp_path / "books" / "nb.ipynb")


class Looked(Exception):
    """A kernel manager has looked for its notebook, which is all it does."""

    def __init__(self, found: FoundNotebook) -> None:
        super().__init__()
        self.found = found


def look(kernel_manager: object) -> Looked:
    """What a provisioner would find for this kernel manager."""
    inherited = {"JPY_SESSION_NAME": OUTER}
    return Looked(
        find_notebook(
            env={},
            cwd=None,
            kernel_manager=kernel_manager,
            kernel_id="k1",
            frames=calling_frames(),
            inherited=inherited,
        )
    )


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


@pytest.mark.parametrize("what", ["books/nb.ipynb", "books"], ids=["one notebook", "a directory"])
def test_voila_warms_kernels_for_notebooks(
    probe: Callable[..., list[Any]], notebook: Path, what: str
) -> None:
    """Its pool starts them in tasks that nobody's frames lead to."""
    write_notebook(notebook, "1", kernel="probe")
    told = probe("voila", what, "--no-browser", "--port=0", "--preheat_kernel=True", "--Voila.ip=127.0.0.1")
    assert told == [str(notebook), "voila", False]
