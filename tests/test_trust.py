"""Opening a notebook runs no code of a package that it names, nor a file that lies beside it.

Three steps through a real server: the notebook is opened, it is closed and opened again, and only
then its user runs a cell, which is consent. Whatever is hostile leaves a mark where it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from kernel_provisioner.overlay.store import Generation, State, Store
from tests.conftest import TorchBase
from tests.support.environ import default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.launches import followed
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Execution, Session
from tests.support.waiting import patient, wait_for
from tests.support.wheels import build_sdist, build_wheel

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

BUILT_WITHIN = patient(120.0)
"""Seconds for the builder to come as far as it can without a cell."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A server, its user's overlays, the index that counts, one that must not, and the marks."""

    server: JupyterServer
    overlays: Store
    index: LocalIndex
    hostile_index: LocalIndex
    marks: Path

    def mark(self, name: str) -> Path:
        """The file that the hostile part ``name`` writes to when it runs."""
        return self.marks / name

    def marking(self, name: str, more: str = "") -> str:
        """Python code that leaves a line in that file, and then does ``more``."""
        return f"open({str(self.mark(name))!r}, 'a').write('ran\\n')\n{more}"

    @property
    def ran(self) -> list[str]:
        """The hostile parts that have run."""
        return sorted(path.name for path in self.marks.iterdir())

    def open(self, path: str, kernel: str = "torch-cpu") -> _Opened:
        """Open a notebook, as a context."""
        return _Opened(self, path, kernel)


class _Opened:
    """An open notebook; entered once nothing more is done for it without a cell."""

    def __init__(self, stage: Stage, path: str, kernel: str) -> None:
        self._stage, self._path = stage, path
        self._session = stage.server.session(path, kernel)

    def __enter__(self) -> Session:
        session = self._session.__enter__()
        directory = self._stage.overlays.notebook_dir(self._stage.server.root / self._path)
        wait_for(
            lambda: _at_rest(self._stage.overlays, directory), "the builder to rest", within=BUILT_WITHIN
        )
        # What frontends ask for by themselves, before anybody has run a cell.
        session.ask("complete_request", {"code": "hos", "cursor_pos": 3})
        session.execute("1", silent=True, store_history=False)
        return session

    def __exit__(self, *how: object) -> None:
        self._session.__exit__(None, None, None)


def _at_rest(overlays: Store, directory: Path) -> bool:
    generations = overlays.generations(directory)
    return bool(generations) and generations[0].state() is not State.BUILDING


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, torch_base_home: TorchBase) -> Iterator[Stage]:
    """One server for this module."""
    home = tmp_path_factory.mktemp("trust")
    (home / "marks").mkdir()
    with serve_index(upstream=default_index()) as index, serve_index() as hostile:
        env = torch_base_home.environment(
            home,
            UV_DEFAULT_INDEX=index.default,
            TORCH_OVERLAY_ROOT=str(home / "overlays"),
            UV_HTTP_RETRIES="0",
        )
        index.publish(build_wheel(home / "wheels", "plain-extra"))
        # Higher versions on the index that nobody may listen to.
        hostile.publish(build_wheel(home / "hostile", "plain-extra", "9.0"))
        hostile.publish(build_wheel(home / "hostile", "torch", "9.0"))
        with jupyter_server(home / "work", env) as server:
            yield Stage(server, Store(home / "overlays"), index, hostile, home / "marks")


# --- packages ----------------------------------------------------------------------------------------

Files = Callable[[Stage, str], Mapping[str, str | bytes]]


@dataclasses.dataclass(frozen=True)
class Hostile:
    """A package: its files, and what becomes of it once a cell has run.

    ``refused`` are words of the message that every cell then shows; ``runs`` says whether the first
    cell alone makes its code run.
    """

    files: Files
    refused: str = ""
    runs: bool = False
    scripts: tuple[str, ...] = ()


def _startup(stage: Stage, name: str) -> Mapping[str, str | bytes]:
    """A line that Python runs as it starts, in both forms: https://peps.python.org/pep-0829/"""
    code = f"def main():\n    {stage.marking(name)}"
    return {
        f"hostile_{name}.py": code,
        f"hostile_{name}.pth": f"import hostile_{name}; hostile_{name}.main()\n",
        f"hostile_{name}.start": f"hostile_{name}:main\n",
    }


def _modules(*paths: str) -> Files:
    return lambda stage, name: {f"hostile_{name}.py": "", **dict.fromkeys(paths, stage.marking(name))}


PACKAGES = {
    "startup": Hostile(_startup, runs=True),
    "ipykernel": Hostile(_modules("ipykernel.py"), refused="would hide ipykernel.py"),
    "torch": Hostile(_modules("torch/__init__.py"), refused="would hide torch"),
    # These count from the next start on: the user has run a cell by then.
    "customize": Hostile(
        _modules("sitecustomize.py", "usercustomize.py", "hostile_target.py"),
        scripts=("uv", "pip", "jupyter"),
    ),
}
"""What is put where Python or a shell looks by itself, and what would take another's place."""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_runs_only_once_a_cell_has_run(name: str, stage: Stage, tmp_path: Path) -> None:
    """Opened, closed and opened again it leaves no mark; the first cell takes it, or says why not."""
    package = PACKAGES[name]
    points = {"console_scripts": dict.fromkeys(package.scripts, "hostile_target:main")}
    files = package.files(stage, name)
    wheel = build_wheel(tmp_path, f"hostile-{name}", files=files, entry_points=points)
    stage.index.publish(wheel)
    done = _in_three_steps(stage, name, f"hostile-{name}", f"import hostile_{name}; print('imported')")
    if package.refused:
        assert done.status == "error"
        assert package.refused in " ".join(done.text.split()), done.text
    else:
        assert done.stdout == "imported\n", done.text
    assert (name in stage.ran) == package.runs


def test_a_source_distribution_is_built_only_once_a_cell_has_run(stage: Stage, tmp_path: Path) -> None:
    """Neither its build back end nor its ``setup.py`` runs to resolve, fetch or unpack."""
    stage.index.publish(build_sdist(tmp_path, "hostile-sdist", mark=stage.mark("sdist")))
    done = _in_three_steps(stage, "sdist", "hostile-sdist", "import hostile_sdist; print('imported')")
    assert done.stdout == "imported\n", done.text
    assert "sdist" in stage.ran


def _in_three_steps(stage: Stage, name: str, extra: str, cell: str) -> Execution:
    """Open, close and open again, run a cell; what became of the cell."""
    path = f"{name}.ipynb"
    write_notebook(stage.server.root / path, torch_env={"accelerator": "cpu", "extras": [extra]})
    with stage.open(path):
        assert name not in stage.ran, "opened"
    with stage.open(path) as session:
        assert name not in stage.ran, "opened again"
        return session.execute(cell)


# --- files beside the notebook -----------------------------------------------------------------------

MODULES = (
    "IPython", "_torch_base_site", "comm", "conftest", "ipykernel", "ipykernel_launcher", "jedi",
    "kernel_provisioner", "numpy", "setup", "sitecustomize", "traitlets", "usercustomize", "zmq",
)  # fmt: skip
"""Names of modules that a kernel, or what starts it, imports."""

SETTINGS = (
    ".ipython/profile_default/ipython_config.py", ".ipython/profile_default/startup/00-hostile.py",
    "ipython_config.py", "ipython_kernel_config.py", "jupyter_config.py", "jupyter_overlay_config.py",
    "jupyter_server_config.py", "profile_default/ipython_kernel_config.py",
    "profile_default/startup/00-hostile.py", "startup/00-hostile.py",
)  # fmt: skip
"""Names of Python files that IPython and Jupyter read as settings, in other places."""


def test_files_beside_the_notebook_run_only_where_a_cell_imports_them(stage: Stage) -> None:
    """No module, setting, environment or index of the folder counts, until a cell imports one by name."""
    folder = stage.server.root / "hostile-folder"
    for name in (*MODULES, "torch"):
        _write(folder / f"{name}.py", stage.marking(f"{name}.py", "__file__ = 'beside the notebook'\n"))
    for path in SETTINGS:
        _write(folder / path, stage.marking(path.replace("/", "-")))
    index = f'[[index]]\nurl = "{stage.hostile_index.default}"\ndefault = true\n'
    _write(folder / "uv.toml", index)
    _write(folder / "pyproject.toml", index.replace("[[index]]", "[[tool.uv.index]]"))
    _write(folder / "pip.conf", f"[global]\nindex-url = {stage.hostile_index.default}\n")
    _write(
        folder / ".env", f"UV_DEFAULT_INDEX={stage.hostile_index.default}\nPYTHONSTARTUP={folder}/setup.py\n"
    )
    _write(folder / ".python-version", "2.7\n")
    python = _write(folder / ".venv/bin/python", f"#!/bin/sh\necho ran >> {stage.mark('.venv')}\n")
    python.chmod(0o755)
    _write(folder / ".venv/pyvenv.cfg", f"home = {folder}/.venv/bin\n")
    path = "hostile-folder/nb.ipynb"
    write_notebook(folder / "nb.ipynb", torch_env={"accelerator": "cpu", "extras": ["plain-extra"]})
    before = set(stage.ran)
    with stage.open(path):
        assert set(stage.ran) == before, "opened"
    with stage.open(path) as session:
        assert set(stage.ran) == before, "opened again"
        done = session.execute("import plain_extra; print(plain_extra.__version__)")
        assert done.stdout == "1.0\n", done.text
        assert set(stage.ran) == before, "a cell that imports none of them"
        # As in every Jupyter: the notebook's folder comes before site-packages once a cell runs.
        assert session.execute("import torch; print(torch.__file__)").stdout == "beside the notebook\n"
        assert set(stage.ran) - before == {"torch.py"}
    assert stage.hostile_index.asked == []


def test_the_folder_counts_as_in_a_plain_kernel(stage: Stage) -> None:
    """Which of two modules a cell gets, that of the folder or an installed one, is what ipykernel says."""
    _write(stage.server.root / "plain/einops.py", "")
    write_notebook(stage.server.root / "plain/nb.ipynb", torch_env={})
    cell = "import sys, sysconfig; print(sys.path.index('') < sys.path.index(sysconfig.get_path('purelib')))"
    said = []
    for kernel in ("torch-cpu", "python3"):
        with stage.server.session("plain/nb.ipynb", kernel) as session:
            said.append(session.execute(cell).stdout)
    assert said == ["True\n", "True\n"]


def test_an_overlay_counts_as_entered_only_once_a_cell_has_run(stage: Stage, tmp_path: Path) -> None:
    """Its record says so, and a second notebook of the same request is asked for its own consent."""
    name = "twice"
    stage.index.publish(build_wheel(tmp_path, "hostile-twice", files=_startup(stage, name)))
    done = _in_three_steps(stage, name, "hostile-twice", "1")
    assert done.status == "ok", done.text
    stage.mark(name).unlink()
    request = {"accelerator": "cpu", "extras": ["hostile-twice"]}
    write_notebook(stage.server.root / "other.ipynb", torch_env=request)
    with stage.open("other.ipynb"):
        assert name not in stage.ran
        assert not _newest(stage, "other.ipynb").entered
    *_, first = stage.overlays.generations(stage.overlays.notebook_dir(stage.server.root / f"{name}.ipynb"))
    following = followed(first)
    assert name not in stage.ran, "while the store is filled"
    with stage.open(f"{name}.ipynb"):  # this one's user has run a cell: its start honours it
        assert following.entered
        assert name in stage.ran


def _newest(stage: Stage, path: str) -> Generation:
    return stage.overlays.generations(stage.overlays.notebook_dir(stage.server.root / path))[0]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
