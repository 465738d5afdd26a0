"""The Dockerfiles of the documentation: each instruction is done, and what is built is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bases import REPOSITORY, Workshop
from tests.support.images import build
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.pages import blocks
from tests.support.parts import need
from tests.support.tiny import offer_tiny_torch

PAGE = REPOSITORY / "docs/how-to/build-an-image.md"
PROJECT = """\
[project]
name = "ranker"
version = "1"
requires-python = ">=3.10"
dependencies = ["einops"]
[project.optional-dependencies]
cpu = ["torch>=2.2"]
[tool.uv.sources]
torch = {{ index = "pytorch-cpu" }}
[[tool.uv.index]]
name = "pytorch-cpu"
url = "{url}"
explicit = true
"""
OWN = re.compile("CACHE|DIR|HOME|PATH|ROOT|USER|XDG")
"""What the names of variables have in them that are about this machine's own directories."""
HOW = {
    "project": "jupyter overlay venv --project . --extra cpu",
    "requirements": "jupyter overlay venv .venv --base cpu -r requirements.txt",
}


def reach(shop: Workshop) -> dict[str, str]:
    """How a workshop's indexes are reached from this machine, and nothing of its directories."""
    return {name: value for name, value in shop.env.items() if not OWN.search(name)}


@pytest.fixture
def able() -> None:
    """What every test here needs."""
    mounts = "mount --make-rprivate / && mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c"
    over = "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/a,workdir=/mnt/b /mnt/c"
    apart = ["unshare", "--mount", "sh", "-c", f"{mounts} && {over}"]
    able = os.getuid() == 0 and subprocess.run(apart, check=False).returncode == 0
    need(able, "needs root, and the right to mounts of its own")


@pytest.mark.root
@pytest.mark.usefixtures("able")
@pytest.mark.system
@pytest.mark.parametrize("how", HOW)
def test_the_image_of_the_page_runs_its_project(tmp_path: Path, index: LocalIndex, how: str) -> None:
    """As a user without rights, on torch that lies in the first layers alone."""
    shop = Workshop(tmp_path, index)
    shop.stock("cpu")
    shop.tempt("cpu")
    shop.publish("einops")
    project = tmp_path / "ranker"
    (project / "ranker").mkdir(parents=True)
    (project / "ranker/__main__.py").write_text(
        "import einops, torch; print(torch.__version__, torch.__file__)\n"
    )
    (project / "pyproject.toml").write_text(PROJECT.format(url=index.template.format(tag="cpu")))
    (project / "requirements.txt").write_text("einops\ntorch>=2.2\n")
    (project / ".venv").mkdir()
    (project / ".venv/mine").touch()
    recipe, ignored = (block.text for block in blocks(PAGE) if block.kind in ("dockerfile", "text"))
    assert HOW["requirements"] in PAGE.read_text()
    (project / ".dockerignore").write_text(ignored)
    image = build(
        recipe.replace(HOW["project"], HOW[how]),
        project,
        tmp_path,
        python=Path(sys.executable),
        env=reach(shop),
    )
    base = r"/torch-bases/cpu-torch2\.6\.0-\S+/torch/__init__\.py"
    assert re.fullmatch(rf"2\.6\.0\+cpu {re.escape(sys.prefix)}/share/jupyter{base}\n", image.printed)
    assert [path for path in shop.fetched("torch") if "/whl/cpu/" not in path] == []
    assert len(shop.fetched("torch")) == 1
    assert image.layer("overlay venv") < 1_000_000


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.system
@pytest.mark.network
@pytest.mark.usefixtures("able")
def test_an_exported_image_runs_its_notebook(tmp_path: Path, front_index: LocalIndex) -> None:
    """With JupyterLab and the notebook's own kernel, and nothing of this program."""
    shop = Workshop(tmp_path, front_index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
    offer_tiny_torch(front_index, shop.wheels, "cpu")
    shop.publish("good-package")
    shop.command("base", "create", "cpu", "--user")
    code = "import good_package, torch; print(torch.__version__, 'in', torch.__file__)"
    env = {"extras": ["good-package"]}
    notebook = write_notebook(tmp_path / "notes.ipynb", code, kernel="torch-cpu", torch_env=env)
    text = shop.command("export", str(notebook), "--format", "dockerfile").stdout
    pytorch = front_index.template.format(tag="cpu")
    text = text.replace("--torch-backend cpu", f"--index {pytorch}")  # the one address that cannot be set
    python = Path(os.path.realpath(sys.executable))
    front = {**reach(shop), "UV_BREAK_SYSTEM_PACKAGES": "1"}  # the Python of FROM is not Debian's
    started = "jupyter lab --version && jupyter nbconvert --execute --to markdown --stdout notes.ipynb"
    image = build(text, tmp_path, tmp_path, python=python, env=front, command=["sh", "-ec", started])
    assert re.search(
        rf"2\.6\.0\+cpu in {re.escape(str(python.parents[1]))}/\S*/torch/__init__\.py", image.printed
    )
