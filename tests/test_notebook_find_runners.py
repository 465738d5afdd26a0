"""Which notebook a kernel is for, from the program that runs it: nbclient, papermill, jupytext and others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import nbformat
import papermill
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_core.utils import run_sync
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, MappingKernelManager
from jupyter_server.utils import ApiPath
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
    assert looked.value.found.quiet
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
    assert not looked.value.found.quiet, "its output is the record of a run"


class Requested(AsyncLooking):
    """Looks where a server's kernel manager starts it, and fails with what it has found."""

    async def start_kernel(self, **_: Any) -> None:  # type: ignore[override]
        """Look instead."""
        cast("asyncio.Future[None]", self.ready).set_exception(look(self))


class RequestedInAThread(Looking):
    """The same, of the blocking kind."""

    async def _async_start_kernel(self, **_: Any) -> None:
        cast("asyncio.Future[None]", self.ready).set_exception(look(self))


@pytest.mark.parametrize("concurrent", [AsyncMappingKernelManager, MappingKernelManager])
@pytest.mark.parametrize("path", ["books/nb.ipynb", "/books/nb.ipynb"])
def test_a_server_knows_the_path_that_it_starts_a_kernel_for(
    notebook: Path, concurrent: type[MappingKernelManager], path: str
) -> None:
    """``POST /api/kernels`` hands on its directory only; the request waits, in a task or in its thread."""
    kind = Requested if concurrent is AsyncMappingKernelManager else RequestedInAThread

    async def start() -> None:
        root = str(notebook.parents[1])
        kernels = concurrent(root_dir=root, kernel_manager_class=f"{__name__}.{kind.__name__}")
        await kernels.start_kernel(path=ApiPath(path), kernel_name="python3")

    with pytest.raises(Looked) as looked:
        asyncio.run(start())
    assert looked.value.found == FoundNotebook(notebook, how="api/kernels")


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
        told = json.dumps([str(found.path), found.how, found.content is not None, found.quiet])
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
            [sys.executable, *command], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
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
    told = probe("-m", "jupyter", "execute", str(notebook.relative_to(notebook.parents[1])))
    assert told == [str(notebook), "jupyter execute", True, True]


@pytest.mark.system
@pytest.mark.parametrize("what", ["books/nb.ipynb", "books"], ids=["one notebook", "a directory"])
def test_voila_warms_kernels_for_notebooks(
    probe: Callable[..., list[Any]], notebook: Path, what: str
) -> None:
    """Its pool starts them in tasks that nobody's frames lead to."""
    write_notebook(notebook, "1", kernel="probe")
    told = probe(
        "-m", "voila", what, "--no-browser", "--port=0", "--preheat_kernel=True", "--Voila.ip=127.0.0.1"
    )
    assert told == [str(notebook), "voila", False, False]


TEXT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: probe
#     name: probe
# ---

print(1)
"""
PAGE = """\
---
kernelspec:
  display_name: probe
  name: probe
---

```{code-cell} python
print(1)
```
"""
CACHE = """
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
cache = get_cache("cache")
cache.add_nb_to_project("books/nb.ipynb")
load_executor("local-serial", cache=cache).run_and_cache()
"""


def myst_nb(mode: str, *words: str) -> str:
    """A program that makes a page with myst-nb, as Sphinx does."""
    words = (f"--nb-execution-mode={mode}", "--nb-execution-raise-on-error=yes", *words)
    return f"""
import sys
from myst_nb.docutils_ import cli_html
sys.argv[1:] = {list(words)}
cli_html()
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "how", "file"),
    [
        (("-m", "pytest", "-s", "--nbval", "books/nb.ipynb"), "nbval", "nb.ipynb"),
        (("-m", "pytest", "-s", "--nbmake", "books/nb.ipynb"), "nbmake", "nb.ipynb"),
        (("-m", "jupytext", "--to", "ipynb", "--execute", "books/text.py"), "jupytext", "text.py"),
        (("-c", CACHE), "jupyter-cache", "nb.ipynb"),
        (("-c", myst_nb("force", "--nb-read-as-md=yes", "books/page.md")), "myst-nb", "page.md"),
        (("-c", myst_nb("cache", "books/nb.ipynb")), "myst-nb", "nb.ipynb"),
        (("-c", myst_nb("inline", "books/nb.ipynb")), "myst-nb", "nb.ipynb"),
    ],
    ids=["nbval", "nbmake", "jupytext", "jupyter-cache", "myst-nb", "myst-nb with a cache", "myst-nb inline"],
)
def test_who_publishes_or_compares_outputs_is_known(
    probe: Callable[..., list[Any]], notebook: Path, command: tuple[str, ...], how: str, file: str
) -> None:
    """With the file that it runs; nothing is said in those outputs. A text notebook is read from its file."""
    write_notebook(notebook, "1", kernel="probe")
    (notebook.parent / "text.py").write_text(TEXT)
    (notebook.parent / "page.md").write_text(PAGE)
    assert probe(*command) == [str(notebook.parent / file), how, file == "nb.ipynb", True]


@pytest.mark.parametrize(
    ("files", "file"),
    [
        (["books/script.py"], "script.py"),
        (["books/script.py", "books/script.py"], None),
        (["books/code.ipy"], None),
        ([], None),
    ],
    ids=["a script", "two files in one kernel", "a file that is named as no notebook", "standard input"],
)
def test_jupyter_run_knows_its_script_and_prints_what_that_prints(
    probe: Callable[..., list[Any]], notebook: Path, files: list[str], file: str | None
) -> None:
    """Nothing is said in the output, which is the script's own; other code than a script is no notebook."""
    for name in ("script.py", "code.ipy"):
        (notebook.parent / name).write_text("print(1)")
    path = notebook.parent / file if file else None
    told = probe("-m", "jupyter", "run", "--kernel=probe", *files)
    assert told == [str(path), "jupyter run", False, True]


def test_a_console_runs_no_files(probe: Callable[..., list[Any]]) -> None:
    """It starts its kernel in the same lines as ``jupyter run``."""
    assert probe("-m", "jupyter", "console", "--kernel=probe") == ["None", "none", False, False]
