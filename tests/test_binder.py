"""What repo2docker makes of ``binder/``: its steps, run in a copy of this tree with its own environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.environ import clean_environment

REPOSITORY = Path(__file__).parents[1]
BINDER = REPOSITORY / "binder"
DEMO = Path("kernel_provisioner/demo/demo.ipynb")

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "test-artefacts")


class Image:
    """What would be the image: the repository's copy, the environment, and how commands run there."""

    def __init__(self, repository: Path, prefix: Path, env: Mapping[str, str], start: str) -> None:
        self.repository, self.prefix, self._env, self._start = repository, prefix, env, start

    def shell(self, script: str, *words: str | Path) -> str:
        """What a script of repo2docker's prints, run in the repository as the image's user."""
        return self._done(["bash", "-c", f'{script} "$@"', "bash", *words])

    def run(self, *words: str | Path) -> str:
        """What a command prints that the image's start script was handed."""
        return self.shell(self._start, *words)

    def _done(self, words: Sequence[str | Path]) -> str:
        done = subprocess.run(
            words, cwd=self.repository, env=dict(self._env), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds the repository's copy and all that is made of it."""
    home = tmp_path_factory.mktemp("binder")
    shutil.copytree(REPOSITORY, home / "repository", ignore=_NOT_COPIED)
    yield home
    for folder, _, _ in os.walk(home):  # a base is read-only, and a gigabyte
        Path(folder).chmod(0o700)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def plan(home: Path) -> dict[str, Any]:
    """What repo2docker's own build packs make of the repository."""
    prefix = home / "repo2docker"
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    pip = [str(prefix / "bin/python"), "-m", "pip", "install", "--quiet", "--quiet"]
    subprocess.run([*pip, "jupyter-repo2docker"], env=clean_environment(home), check=True)
    script = Path(__file__).parent / "support/image_plan.py"
    asked = [str(prefix / "bin/python"), str(script), str(home / "repository")]
    told: dict[str, Any] = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    return told


@pytest.fixture(scope="module")
def image(home: Path, plan: dict[str, Any]) -> Image:
    """The steps that repo2docker names, run where it would run them; conda's Python alone is another."""
    prefix = home / "notebook"
    env = clean_environment(
        home,
        PATH=os.pathsep.join([str(prefix / "bin"), os.environ["PATH"]]),
        KERNEL_PYTHON_PREFIX=str(prefix),
        NB_PYTHON_PREFIX=str(prefix),
        REPO_DIR=str(home / "repository"),
    )
    made = Image(home / "repository", prefix, env, start=plan["start"])
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    for script in (*plan["assemble"], *plan["post_build"]):
        made.shell(script)
    return made


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.network
def test_repo2docker_sees_what_is_meant(plan: dict[str, Any]) -> None:
    """The Python build pack, our requirements, postBuild and start, and a Python that the package runs on."""
    assert plan["pack"] == "PythonBuildPack"
    assert int(plan["python"].split(".")[1]) >= 10
    (assemble,) = plan["assemble"]
    assert assemble.endswith('pip install --no-cache-dir -r "binder/requirements.txt"')
    assert plan["post_build"] == ["binder/postBuild"]
    assert plan["start"] == "${REPO_DIR}/binder/start"


def test_what_is_run_can_be_run() -> None:
    """repo2docker makes postBuild executable, but not start."""
    assert os.access(BINDER / "postBuild", os.X_OK)
    assert os.access(BINDER / "start", os.X_OK)


@pytest.mark.system
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


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.torch
def test_the_demo_notebook_is_ready_in_the_image(image: Image) -> None:
    """Its overlay was built with the image, so that opening it installs nothing."""
    shown = json.loads(image.run("jupyter", "overlay", "show", DEMO, "--kernel", "torch-cpu", "--json"))
    assert shown["overlay"]["state"] == "ready"
    assert shown["base"]["tag"] == "cpu"


@pytest.mark.system
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
