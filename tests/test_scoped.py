"""What is started from a kernel or an activated environment for another environment sees nothing of ours."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.overlay.environment import kernel_environment
from tests.support.bases import Workshop
from tests.support.environ import default_index
from tests.support.index import LocalIndex, serve_index

PIP = f"{sys.executable} -m pip --python"
SCRIPTS = {
    "a project": """
        uv lock; cp uv.lock got
        uv add plain; cat uv.lock >> got
        uv sync; uv pip freeze --python .venv >> got
        """,
    "requirements": "echo needs-torch > in.txt; uv pip compile --no-header in.txt -o got",
    "an environment": f"""
        uv venv o; uv pip install --python o needs-torch; uv pip freeze -p o > got
        uv venv p; $PYTHON -m uv pip install -p p/bin/python needs-torch; uv pip freeze -p p >> got
        uv venv q; {PIP} q install -q needs-torch; uv pip freeze -p q >> got
        export VIRTUAL_ENV=$PWD/r; uv venv r; uv pip install needs-torch; uv pip freeze >> got
        """,
    "a directory of packages": "uv pip install --target place needs-torch; ls place > got",
    "tools": """
        uv tool install needs-torch; uv pip freeze --python tools/needs-torch > got
        uv tool run needs-torch >> got
        """,
    "a build": "uv venv o; uv pip install --python o ./source; cat seen > got",
    "wheels": f'{PIP} "$HERE" wheel -q -w wheels needs-torch; ls wheels > got',
}
SAY = "def say():\n    import torch; print(torch.__version__, torch.__file__[-20:])\n"
PROJECT = """\
[project]
name = "app"
version = "1"
requires-python = ">=3.10"
dependencies = ["needs-torch"]
"""
SOURCE = """\
[build-system]
requires = ["torch"]
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os, torch, zipfile
open(os.environ["SEEN"], "w").write(f"{torch.__version__} {torch.__file__[-20:]}")
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(directory, "app-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("app-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: app\\nVersion: 1\\n")
        wheel.writestr("app-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("app-1.dist-info/RECORD", "")
    return "app-1-py3-none-any.whl"
"""


class Bench(Workshop):
    """A base with a notebook's overlay and a project's environment, and a newer torch to be tempted with."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu")
        self.tempt()
        self.publish("plain")
        self.publish("needs-torch", requires=["torch", "numpy"], files={"needs_torch/__init__.py": SAY},
                     entry_points={"console_scripts": {"needs-torch": "needs_torch:say"}})  # fmt: skip
        self.base: RegisteredBase = self.create("cpu").base
        self.notebooks = self.begin(self.base).path
        self.projects = home / "project env"
        self.command("venv", str(self.projects), "--base", "cpu")

    def start(self, where: str) -> tuple[dict[str, str], str]:
        """The environment that a command starts in, and what its shell does before it."""
        if where == "kernel":
            env = kernel_environment(self.env, self.notebooks)
            return {**env, "PYTHON": "python", "HERE": str(self.notebooks)}, ""
        if where == "activated":
            env = {**self.env, "PYTHON": "python", "HERE": str(self.projects)}
            return env, f". {shlex.quote(str(self.projects))}/bin/activate"
        path = f"{Path(self.uv.path).parent}:{self.env['PATH']}"
        return {**self.env, "PATH": path, "PYTHON": sys.executable, "HERE": sys.executable}, ""

    def left_by(self, script: str, where: str, folder: Path) -> str:
        """What a script writes into ``got``, started in a new project in ``folder``."""
        for name, text in (("pyproject.toml", PROJECT), ("source/pyproject.toml", SOURCE),
                           ("source/backend.py", BACKEND)):  # fmt: skip
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        env, before = self.start(where)
        own = {"UV_TOOL_DIR": f"{folder}/tools", "UV_TOOL_BIN_DIR": f"{folder}/bin", "SEEN": f"{folder}/seen"}
        done = subprocess.run(["sh", "-ec", f"{before}\n{script}"], env=env | own, cwd=folder,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return (folder / "got").read_text()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One workshop for this module, in a directory with a blank."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("scoped home"), index)


@pytest.mark.system
@pytest.mark.parametrize("what", SCRIPTS)
def test_another_environment_is_as_if_there_were_no_overlay(bench: Bench, tmp_path: Path, what: str) -> None:
    """The newest torch of the index; byte for byte as in a shell that knows of no overlay."""
    plain, *ours = (
        bench.left_by(SCRIPTS[what], where, tmp_path / where) for where in ("plain", "kernel", "activated")
    )
    assert "9.9.0" in plain
    assert ours == [plain, plain]


@pytest.mark.system
@pytest.mark.network
def test_pip_compile_names_nothing_of_the_overlay_that_it_runs_in(tmp_path: Path) -> None:
    """Neither its constraints nor the base's directory; pip-tools reads pip's settings in its own way."""
    with serve_index() as index:
        bench = Bench(tmp_path, index)
        env, _ = bench.start("kernel")
        (tmp_path / "in.txt").write_text("needs-torch\n")
        install = f"uv pip install -q --index {default_index()} 'pip>=23' pip-tools"
        for line in (install, "pip-compile -q --no-header --output-file out.txt in.txt"):
            done = subprocess.run(shlex.split(line), env=env, cwd=tmp_path, capture_output=True, text=True,
                                  check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
    compiled = (tmp_path / "out.txt").read_text()
    assert "torch==9.9.0" in compiled
    assert str(tmp_path) not in compiled
