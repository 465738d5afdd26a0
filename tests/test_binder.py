"""What repo2docker makes of ``binder/``: its steps, run in a copy of this tree with its own environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.environ import clean_environment

REPOSITORY = Path(__file__).parents[1]
BINDER = REPOSITORY / "binder"
DEMO = Path("kernel_provisioner/demo/demo.ipynb")

READ_BY_REPO2DOCKER = frozenset(
    ["apt.txt", "environment.yml", "postBuild", "requirements.txt", "runtime.txt", "start"]
)
"""The files it looks for in ``binder/`` for a Python image, and does something with."""

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "test-artefacts")


class Image:
    """What would be the image: the repository's copy, the environment, and how commands run there."""

    def __init__(self, repository: Path, prefix: Path, env: Mapping[str, str]) -> None:
        self.repository, self.prefix, self._env = repository, prefix, env

    def run(self, *words: str | Path) -> str:
        """What a command prints, run in the repository as the image's user."""
        done = subprocess.run(
            words, cwd=self.repository, env=dict(self._env), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The steps of repo2docker 2026.4 for a repository with such a ``binder/``: pip, then postBuild."""
    home = tmp_path_factory.mktemp("binder")
    shutil.copytree(REPOSITORY, home / "repository", ignore=_NOT_COPIED)
    prefix = home / "notebook"
    env = clean_environment(home, PATH=os.pathsep.join([str(prefix / "bin"), os.environ["PATH"]]))
    made = Image(home / "repository", prefix, env)
    made.run(sys.executable, "-m", "venv", prefix)
    made.run(prefix / "bin/pip", "install", "--quiet", "-r", "binder/requirements.txt")
    made.run("./binder/postBuild")
    yield made
    for folder, _, _ in os.walk(prefix):  # a base is read-only, and a gigabyte
        Path(folder).chmod(0o700)
    shutil.rmtree(home)


def test_every_file_is_one_that_repo2docker_reads() -> None:
    """A file of another name would sit there and do nothing."""
    assert {path.name for path in BINDER.iterdir()} <= READ_BY_REPO2DOCKER
    assert os.access(BINDER / "postBuild", os.X_OK)


def test_the_python_of_the_image_is_one_that_the_package_runs_on() -> None:
    """runtime.txt names a minor version, from 3.10 on."""
    named = re.fullmatch(r"python-3\.(\d+)\n", (BINDER / "runtime.txt").read_text(encoding="utf-8"))
    assert named
    assert int(named[1]) >= 10


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.torch
def test_the_image_has_the_kernel_and_its_base(image: Image) -> None:
    """After postBuild the kernel torch-cpu lies in the image's environment, and so does its base."""
    specs = json.loads(image.run("jupyter", "kernelspec", "list", "--json"))["kernelspecs"]
    assert specs["torch-cpu"]["spec"]["display_name"] == "torch-cpu (shared)"
    assert Path(specs["torch-cpu"]["resource_dir"]).is_relative_to(image.prefix)
    (base,) = json.loads(image.run("jupyter", "overlay", "base", "list", "--json"))
    assert Path(base["path"]).is_relative_to(image.prefix)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.torch
def test_the_demo_notebook_is_ready_in_the_image(image: Image) -> None:
    """Its overlay was built with the image, so that opening it installs nothing."""
    shown = json.loads(image.run("jupyter", "overlay", "show", DEMO, "--kernel", "torch-cpu", "--json"))
    assert shown["overlay"]["state"] == "ready"
    assert shown["base"]["tag"] == "cpu"


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.torch
def test_the_first_cell_of_the_demo_runs_in_the_image(image: Image) -> None:
    """Torch comes from the image's base; the declared packages from the notebook's overlay."""
    nb = json.loads((image.repository / DEMO).read_text(encoding="utf-8"))
    nb["cells"] = [next(cell for cell in nb["cells"] if cell["cell_type"] == "code")]
    (image.repository / "first.ipynb").write_text(json.dumps(nb), encoding="utf-8")
    image.run("jupyter", "overlay", "run", "first.ipynb", "--kernel", "torch-cpu", "--output", "ran.ipynb")
    ran = json.loads((image.repository / "ran.ipynb").read_text(encoding="utf-8"))
    printed = "".join(
        text
        for output in ran["cells"][0]["outputs"]
        if output.get("name") == "stdout"
        for text in output["text"]
    )
    assert re.search(
        rf"^torch +{re.escape(str(image.prefix))}/share/jupyter/torch-bases/cpu-", printed, re.MULTILINE
    )
    assert re.search(r"^einops +.*/torch-overlays/first-", printed, re.MULTILINE)
