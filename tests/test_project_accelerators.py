"""astral-sh/uv 12290, word by word: one project for several accelerators, on bases for cpu and CUDA.

https://github.com/astral-sh/uv/issues/12290. PyTorch's indexes and PyPI are laid out locally, with tiny
builds of torch, triton and the nvidia packages; an oracle watches every request and every file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.heavy import Watch
from tests.support.index import LocalIndex, serve_index
from tests.test_project_uv import Bench

PROJECT = """\
[project]
name = "accelerated"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["efficientnet-pytorch>=0.7.1"]

[project.optional-dependencies]
cpu = ["torch>=2.2", "torchvision"]
cu124 = ["torch>=2.2", "torchvision"]
cu126 = ["torch>=2.2", "torchvision"]

[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "cu124" }, { extra = "cu126" }]]

[tool.uv.sources]
torch = [
    { index = "pytorch-cpu", extra = "cpu" },
    { index = "pytorch-cu124", extra = "cu124" },
    { index = "pytorch-cu126", extra = "cu126" },
]
torchvision = [
    { index = "pytorch-cpu", extra = "cpu" },
    { index = "pytorch-cu124", extra = "cu124" },
    { index = "pytorch-cu126", extra = "cu126" },
]
"""
INDEX = """
[[tool.uv.index]]
name = "pytorch-{tag}"
url = "{url}"
explicit = true
"""
CODE = "import torch, efficientnet_pytorch; print(torch.__version__)"
RUN = f"uv run python -c '{CODE}'"


class Accelerators(Bench):
    """A machine with bases for cpu and CUDA 12.6, torchvision among them, and none for CUDA 12.4."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index)
        self.stock("cu124")
        self.publish("efficientnet-pytorch", "0.7.1", requires=["torch"])
        self.cpu = self.create("cpu", packages=["torchvision"]).base
        self.cuda = self.create("cu126", packages=["torchvision"]).base

    def clone(self, folder: Path, name: str = "project") -> Path:
        """The project as its authors have it in version control: locked, by a uv that knows nothing of us."""
        project = folder / name
        project.mkdir()
        urls = {tag: self.index.template.format(tag=tag) for tag in ("cpu", "cu124", "cu126")}
        text = PROJECT + "".join(INDEX.format(tag=tag, url=url) for tag, url in urls.items())
        (project / "pyproject.toml").write_text(text)
        (project / ".gitignore").write_text(".venv\n")
        self.plain(project, "lock")
        return project

    def torch(self, project: Path) -> str:
        """The torch that the environment's Python imports, and where from."""
        code = "import torch; print(torch.__version__, torch.__file__)"
        python = str(project / ".venv/bin/python")
        return subprocess.check_output([python, "-c", code], env=self.env, text=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accelerators]:
    """One machine for this module."""
    with serve_index() as index:
        yield Accelerators(tmp_path_factory.mktemp("accelerators"), index)


@pytest.mark.system
@pytest.mark.parametrize("tag", ["cpu", "cu126"])
def test_all_that_the_thread_typed_keeps_the_chosen_accelerator(
    bench: Accelerators, tmp_path: Path, tag: str
) -> None:
    """There `uv run` fetched thirteen nvidia packages and triton, and `uv sync` took them off again."""
    project, base = bench.clone(tmp_path), bench.cpu if tag == "cpu" else bench.cuda
    torch = f"2.6.0+{tag} {base.manifest.site_dirs[0]}/torch/__init__.py\n"
    watch = Watch(bench, project)
    made = bench.venv(project, "--extra", tag)
    assert (made["base"]["id"], made["locked"]) == (base.manifest.id, f"2.6.0+{tag}")
    for typed in (RUN, "uv sync", RUN, f"uv sync --extra {tag}", RUN, "uv add more", RUN, "uv remove more",
                  "uv lock --check", "uv tree", f"uv run --extra {tag} python -c '{CODE}'"):  # fmt: skip
        said = bench.active(project, typed)
        assert "python -c" not in typed or said == f"2.6.0+{tag}\n"
        assert bench.torch(project) == torch
        watch.check()
    assert json.loads((project / ".venv/project.json").read_text())["choices"] == {".": ["--extra", tag]}
    assert {"torch", "torchvision", "efficientnet-pytorch"} <= bench.names(project)
    assert ("nvidia-cudnn-cu12" in bench.names(project)) is (tag == "cu126")
    assert str(bench.home) not in (project / "uv.lock").read_text()
    bench.plain(project, "lock", "--check")


@pytest.mark.system
def test_another_accelerator_is_another_base(bench: Accelerators, tmp_path: Path) -> None:
    """The command says how to change to it; the lock serves all of them, and is never written."""
    project = bench.clone(tmp_path)
    lock = (project / "uv.lock").read_bytes()
    watch = Watch(bench, project)
    bench.venv(project, "--extra", "cpu")
    told = bench.venv(project, "--extra", "cu126", check=False)
    assert "--recreate" in told["fix"]
    assert bench.torch(project).startswith("2.6.0+cpu ")
    bench.venv(project, "--extra", "cu126", "--recreate")
    assert bench.active(project, RUN) == "2.6.0+cu126\n"
    bench.venv(project, "--extra", "cpu", "--recreate")
    assert bench.active(project, f"{RUN}; uv sync --extra cu126; {RUN}").splitlines()[-1] == "2.6.0+cpu"
    watch.check()
    assert (project / "uv.lock").read_bytes() == lock


def test_an_accelerator_without_a_base_is_told_and_uses_what_is_there(
    bench: Accelerators, tmp_path: Path
) -> None:
    """`--exact` names the base to create; without it the base's torch takes the place of the locked one."""
    project = bench.clone(tmp_path)
    watch = Watch(bench, project)
    told = bench.venv(project, "--extra", "cu124", "--exact", check=False)
    assert told["what"] == f"no base has torch 2.6.0+cu124, which {project}/uv.lock says"
    assert "jupyter overlay base create cu124 --torch 2.6.0" in told["fix"]
    made = bench.venv(project, "--extra", "cu124", "--base", "cu126")
    assert (made["locked"], made["base"]["torch"]) == ("2.6.0+cu124", "2.6.0+cu126")
    assert bench.active(project, RUN) == "2.6.0+cu126\n"
    watch.check()


def test_a_uv_that_is_not_the_environments_keeps_torch_where_it_is_told_the_extra(
    bench: Accelerators, tmp_path: Path
) -> None:
    """Without it that uv does what the thread complains of; then one command brings the base's torch back."""
    project = bench.clone(tmp_path)
    bench.venv(project, "--extra", "cpu")
    watch = Watch(bench, project)
    bench.plain(project, "sync", "--extra", "cpu")
    assert bench.plain(project, "run", "--extra", "cpu", "python", "-c", CODE).stdout == "2.6.0+cpu\n"
    watch.check()
    assert bench.plain(project, "run", "python", "-c", CODE).stdout == "9.9.0\n"
    assert "nvidia-cudnn-cu13" in bench.names(project)
    watch = Watch(bench, project)
    done = json.loads(bench.command("sync", str(project), "--json").stdout)
    assert {"torch", "triton", "nvidia-cudnn-cu13"} <= {*done["removed"]}
    assert bench.torch(project).startswith(f"2.6.0+cpu {bench.cpu.manifest.site_dirs[0]}/")
    assert not any(name.startswith(("nvidia", "triton", "cuda")) for name in bench.names(project))
    assert bench.active(project, RUN) == "2.6.0+cpu\n"
    watch.check()


@pytest.mark.parametrize("how", ["fetched", "made"])
def test_the_oracle_sees_a_heavy_byte(bench: Accelerators, tmp_path: Path, how: str) -> None:
    """In a request, or in a file of whatever name."""
    project = bench.clone(tmp_path)
    watch = Watch(bench, project)
    watch.check()
    if how == "fetched":
        bench.uv.run("cache", "clean", "triton").check("no")
        bench.install(bench.environment("victim"), "triton")
        watch.before = {
            *watch.before,
            *map(str, bench.home.rglob("*")),
        }  # the request alone is left to be seen
    else:
        wheel = next(bench.wheels.rglob("nvidia_cudnn*.whl"))
        (project / "cache").mkdir()
        (project / "cache/blob").write_bytes(wheel.read_bytes())
    with pytest.raises(AssertionError):
        watch.check()
