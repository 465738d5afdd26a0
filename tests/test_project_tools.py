"""Poetry, PDM, hatch, pip-tools, tox and nox on a base, as docs/how-to/use-with-other-tools.md has it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bases import Workshop
from tests.support.environ import clean_environment, default_index
from tests.support.heavy import Watch
from tests.support.index import serve_index
from tests.support.pages import Block, blocks
from tests.support.torch_wheels import build_torch

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.network]

PAGE = Path(__file__).parents[1] / "docs/how-to/use-with-other-tools.md"
TOOLS = {
    "hatch": ["hatch"],
    "nox": ["nox"],
    "PDM": ["pdm[locked]"],  # without: broken by hishel 2
    "pip-tools": ["pip-tools"],
    "Poetry": ["poetry"],
    "tox": ["tox", "tox-current-env"],
}
"""Each tool by its heading, and what is installed of it, from PyPI."""
FILES = {"ini": "tox.ini", "py": "noxfile.py", "toml": "pyproject.toml"}
"""The file that a block of the page is added to, by its language."""
PYPI, PYTORCH = "https://pypi.org/simple", "https://download.pytorch.org/whl/"
CHECK = "python -c 'import torch, einops; print(torch.__version__)'"
PROJECT = """\
[project]
name = "ranker"
version = "1.0"
requires-python = ">=3.10,<4"
dependencies = ["torch>=2.6,<3", "einops"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
TEST = """\
import einops, torch

def test_torch():
    assert torch.__version__ == "2.6.0+{tag}"
"""


class Tool:
    """A tool that its user installed beside the project, and what the page says of it."""

    def __init__(self, heading: str, shop: Workshop) -> None:
        self.heading, self.shop = heading, shop
        self.bin = shop.home / heading / "bin"
        if not self.bin.exists():
            env = clean_environment(shop.home)
            for words in (
                ["venv", "-q", "--python", sys.executable, str(self.bin.parent)],
                ["pip", "install", "-q", "--python", str(self.bin / "python"), *TOOLS[heading]],
            ):
                subprocess.run([shop.uv.path, *words], env=env, check=True)

    def project(self, folder: Path, tag: str) -> Path:
        """A project on the base of a tag, with the files of the page, and a test."""
        project = folder / "project"
        (project / "ranker").mkdir(parents=True)
        (project / "ranker/__init__.py").touch()
        (project / "test_ranker.py").write_text(TEST.format(tag=tag))
        (project / "pyproject.toml").write_text(PROJECT)
        if self.heading == "Poetry":  # which takes the address of PyPI from nowhere else
            self.add(project, "toml", f'[[tool.poetry.source]]\nname = "front"\nurl = "{PYPI}"\n')
        done = self.shop.command("venv", str(project / ".venv"), "--base", tag, check=False)
        assert done.returncode == 0, done.stderr
        return project

    def add(self, project: Path, kind: str, text: str) -> None:
        """Put a block of the page into the file that it belongs to."""
        text = text.replace(PYTORCH, self.shop.index.template.format(tag=""))
        with (project / FILES[kind]).open("a") as file:
            file.write(text.replace(PYPI, self.shop.index.default))

    def follow(self, project: Path, tag: str, *, heading: str = "") -> str:
        """Do what the page says below a heading; what the commands print."""
        said = ""
        for block in below(heading or self.heading):
            text = block.text.replace(f"{PYTORCH}cpu", f"{PYTORCH}{tag}")
            if block.kind == "sh":
                said += self.type(project, text)
            else:
                self.add(project, block.kind, text)
        return said

    def type(self, project: Path, script: str) -> str:
        """What a script prints in the activated environment, on both streams."""
        env = {**self.shop.env, "PATH": f"{self.bin}{os.pathsep}{self.shop.env['PATH']}"}
        command = ["bash", "-ec", f". .venv/bin/activate\n{script}"]
        done = subprocess.run(command, env=env, cwd=project, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


def below(heading: str) -> list[Block]:
    """The blocks of the page under a heading."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(f"## {heading}") + 1
    after = [number for number, line in enumerate(lines, 1) if line.startswith("## ") and number > first]
    return [block for block in blocks(PAGE) if first < block.line < min([*after, len(lines) + 1])]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Bases for cpu and CUDA; on the default index PyPI's own builds of torch, which need all of CUDA."""
    with serve_index(upstream=default_index()) as index:
        home = tmp_path_factory.mktemp("tools")
        shop = Workshop(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"), PDM_CHECK_UPDATE="0")
        shop.stock("cpu", "cu126")
        del index.files["/simple/pip/"]  # the real one is needed
        shop.tempt("cpu", "cu126")
        theirs = build_torch(shop.wheels / "pypi", "cu126", local_label=False)
        index.publish(theirs.torch, *theirs.ecosystem, *theirs.ordinary)
        shop.publish("einops")
        shop.create("cpu")
        shop.create("cu126")
        yield shop


@pytest.mark.parametrize("tag", ["cpu", "cu126"])
@pytest.mark.parametrize("heading", TOOLS)
def test_the_recipe_of_a_tool_takes_torch_from_the_base(
    heading: str, tag: str, shop: Workshop, tmp_path: Path
) -> None:
    """The project runs, and no file of torch, triton or nvidia is fetched or written."""
    tool = Tool(heading, shop)
    project = tool.project(tmp_path, tag)
    watch = Watch(shop, project)
    tool.follow(project, tag)
    assert tool.type(project, CHECK).splitlines()[-1] == f"2.6.0+{tag}"
    watch.check()


def test_hatch_with_uv_takes_torch_from_the_base(shop: Workshop, tmp_path: Path) -> None:
    """As the page says of ``installer``."""
    tool = Tool("hatch", shop)
    project = tool.project(tmp_path, "cpu")
    tool.add(project, "toml", '[tool.hatch.envs.default]\ninstaller = "uv"\n')
    watch = Watch(shop, project)
    assert tool.follow(project, "cpu").splitlines()[-1] == "2.6.0+cpu"
    watch.check()


@pytest.mark.parametrize("heading", ["Poetry", "PDM"])
def test_a_lock_with_pypis_torch_is_left_to_uv(heading: str, shop: Workshop, tmp_path: Path) -> None:
    """The limit is the one that the page tells of, and so is the way around it."""
    tool = Tool(heading, shop)
    project = tool.project(tmp_path, "cpu")
    if heading == "PDM":  # which takes it from a variable otherwise, or from the user's settings
        tool.add(project, "toml", f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{PYPI}"\n')
    command = heading.lower()
    tool.type(project, f"{command} lock")
    assert "nvidia" in tool.type(project, f"{command} install --dry-run"), "the page says otherwise"
    watch = Watch(shop, project)
    tool.follow(project, "cpu", heading="A Poetry or PDM lock with PyPI's torch")
    assert tool.type(project, f"{command} run {CHECK}").splitlines()[-1] == "2.6.0+cpu"
    watch.check()


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("Poetry", "poetry sync"),
        ("PDM", "pdm sync --clean"),
        ("pip-tools", "pip-sync --python-executable .venv/bin/python requirements.txt"),
        ("pip-tools", "uv pip sync requirements.txt"),
    ],
)
def test_what_an_exact_install_takes_off_the_list_comes_back(
    heading: str, command: str, shop: Workshop, tmp_path: Path
) -> None:
    """It can be imported all the while; ``jupyter overlay sync`` lists it again."""
    tool = Tool(heading, shop)
    project = tool.project(tmp_path, "cpu")
    watch = Watch(shop, project)
    tool.follow(project, "cpu")
    tool.type(project, command)
    listed = "uv pip list --format freeze"
    assert "numpy==" not in tool.type(project, listed)
    assert tool.type(project, CHECK.replace("torch", "torch, numpy", 1)).splitlines()[-1] == "2.6.0+cpu"
    shop.command("sync", str(project))
    assert "numpy==" in tool.type(project, listed)
    watch.check()


def test_pip_compile_writes_nothing_of_this_machine(shop: Workshop, tmp_path: Path) -> None:
    """The requirements name the base's torch, and no path."""
    tool = Tool("pip-tools", shop)
    project = tool.project(tmp_path, "cpu")
    tool.follow(project, "cpu")
    text = (project / "requirements.txt").read_text()
    assert "torch==2.6.0+cpu" in text
    assert "file:" not in text
    assert str(shop.home) not in text
    assert str(tmp_path) not in text


def test_pip_compile_knows_the_hash_of_the_receipt_alone(shop: Workshop, tmp_path: Path) -> None:
    """The limit that the page tells of: this is not the hash of the torch that an index has."""
    tool = Tool("pip-tools", shop)
    project = tool.project(tmp_path, "cpu")
    (recipe,) = below("pip-tools")
    compiling = recipe.text.splitlines()[0]
    tool.type(project, f"{compiling} --generate-hashes")
    (receipt,) = shop.data_dir.glob("torch-bases/cpu-*/receipts/torch-2*.whl")
    assert hashlib.sha256(receipt.read_bytes()).hexdigest() in (project / "requirements.txt").read_text()


@pytest.mark.parametrize("heading", ["Poetry", "PDM"])
def test_a_lock_with_pypis_torch_holds_on_a_base_of_it(heading: str, shop: Workshop, tmp_path: Path) -> None:
    """An adopted environment with PyPI's torch: the tool's own command finds all of it there."""
    theirs = shop.environment(f"theirs-{heading}")
    python = str(theirs / "bin/python")
    shop.uv.run("pip", "install", "--python", python, "torch==2.6.0").check("no")
    tool = Tool(heading, shop)
    project = tool.project(tmp_path, shop.adopt(theirs).base.manifest.id)
    if heading == "PDM":
        tool.add(project, "toml", f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{PYPI}"\n')
    command = heading.lower()
    watch = Watch(shop, project)
    tool.type(project, f"{command} lock\n{command} install")
    assert tool.type(project, f"{command} run {CHECK}").splitlines()[-1] == "2.6.0"
    watch.check()
