"""What type checkers, VS Code and PyCharm ask of a project's environment: torch and an extra are found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.uv.discovery import uv_path
from tests.conftest import TorchBase
from tests.support.bases import REPOSITORY
from tests.support.environ import clean_environment
from tests.support.pages import blocks
from tests.support.parts import need
from tests.support.waiting import patient

pytestmark = [pytest.mark.torch, pytest.mark.system, pytest.mark.slow, pytest.mark.network]

PAGE = REPOSITORY / "docs/how-to/share-torch-between-projects.md"
TOOLS = ("pyright", "basedpyright", "ty", "mypy")
CODE = """\
import einops.layers.torch
import torch
import torch.nn

a: int = torch.ones(3)
b: int = torch.nn.Linear(2, 3)
c: int = einops.layers.torch.Rearrange("a b -> b a")
"""
FOUND = ("Tensor", "Linear", "Rearrange")
"""What a checker says instead of ``int``, where it has found the types."""
UNRESOLVED = re.compile("could not be resolved|unresolved|Cannot find|missing library stubs", re.IGNORECASE)
# https://github.com/microsoft/vscode-python: python_files/interpreterInfo.py, by get_output_via_markers.py
VSCODE = """\
import json, sys
print(">>>PYTHON-EXEC-OUTPUT")
print(json.dumps({"versionInfo": tuple(sys.version_info), "sysPrefix": sys.prefix, "sysVersion": sys.version,
                  "is64Bit": sys.maxsize > 2**32}))
print("<<<PYTHON-EXEC-OUTPUT")
"""
# PyCharm lists the search path, and then packages by the metadata on it.
PYCHARM = """\
import importlib.metadata, json, sys
named = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
print(json.dumps([sys.path, named]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, torch_base_home: TorchBase) -> Path:
    """A project with its environment on the real base, and the checkers in one of their own beside it."""
    home = tmp_path_factory.mktemp("editors")
    env = torch_base_home.environment(home, TORCH_OVERLAY_ROOT=str(home / "overlays"))
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "venv", str(home / "project/.venv")]
    subprocess.run([*command, "--base", "cpu", "einops"], env=env, check=True)
    tools = str(home / "tools")
    for words in (["venv", tools], ["pip", "install", "--python", tools, *TOOLS]):
        subprocess.run([uv_path(), *words, "-q"], env=env, check=True)
    (home / "project/code.py").write_text(CODE)
    return home / "project"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_checker_finds_torch_and_extras(project: Path, tool: str) -> None:
    """Typed as the page has it, in the project's directory, nothing activated and nothing configured."""
    (recipe,) = (block.text for block in blocks(PAGE) if block.kind == "sh" and "basedpyright" in block.text)
    (command,) = (line for line in recipe.splitlines() if line.partition(" ")[0] == tool)
    need(
        tool not in ("pyright", "basedpyright") or shutil.which("node"),
        "Node.js is not there: apt install nodejs",
    )
    env = clean_environment(project.parent)
    env["PATH"] = f"{project.parent}/tools/bin:{env['PATH']}"
    done = subprocess.run(["sh", "-c", command], env=env, cwd=project, capture_output=True, text=True,
                          timeout=patient(240), check=False)  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert not UNRESOLVED.search(said), said
    assert [name for name in FOUND if name not in said] == [], said


def test_vs_code_takes_it_for_a_virtual_environment(project: Path) -> None:
    """It lies where VS Code looks, is told by its pyvenv.cfg, and answers what the Python extension asks."""
    place = project / ".venv"
    config = dict(line.split(" = ") for line in (place / "pyvenv.cfg").read_text().splitlines())
    done = subprocess.run([place / "bin/python", "-I", "-c", VSCODE], env={}, capture_output=True, text=True,
                          check=True)  # fmt: skip
    found = re.search(r">>>PYTHON-EXEC-OUTPUT\n(.*)\n<<<PYTHON-EXEC-OUTPUT", done.stdout)
    assert found
    said = json.loads(found[1])
    assert said["sysPrefix"] == str(place)
    assert ".".join(map(str, said["versionInfo"][:3])) == config["version_info"]
    assert said["is64Bit"] is (sys.maxsize > 2**32)
    assert (Path(config["home"]) / f"python{config['version_info'].rpartition('.')[0]}").exists()
    for script in ("activate", "activate.fish", "Activate.ps1"):  # for the terminals that it opens
        assert (place / "bin" / script).exists()


def test_pycharm_sees_the_packages_of_the_base(project: Path) -> None:
    """On the search path, which it indexes, and in the list of packages."""
    python = str(project / ".venv/bin/python")
    path, named = json.loads(subprocess.check_output([python, "-c", PYCHARM], env={}, text=True))
    assert {"torch", "einops", "numpy"} <= named.keys()
    assert any((Path(place) / "torch/nn").is_dir() for place in path)
    assert any((Path(place) / "einops/layers").is_dir() for place in path)
