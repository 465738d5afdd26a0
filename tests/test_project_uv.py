"""A uv project on a base: uv does there what it does anywhere, and all of torch is the base's."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from tests.support.bases import BUILDS_WITHIN, Workshop
from tests.support.heavy import Watch
from tests.support.index import LocalIndex, serve_index
from tests.support.wheels import build_sdist

PROJECT = """\
[project]
name = "app"
version = "1"
requires-python = ">=3.10"
dependencies = ["needs-torch", "plain"]
"""
# https://github.com/astral-sh/uv/issues/12290
ACCELERATORS = """
[project.optional-dependencies]
cpu = ["torch>=2.2"]
cuda = ["torch>=2.2"]
[dependency-groups]
dev = []
docs = ["docs-tool"]
[tool.uv]
conflicts = [[{{extra = "cpu"}}, {{extra = "cuda"}}]]
[tool.uv.sources]
torch = [{{index = "cpu-index", extra = "cpu"}}, {{index = "cuda-index", extra = "cuda"}}]
[[tool.uv.index]]
name = "cpu-index"
url = "{cpu}"
explicit = true
[[tool.uv.index]]
name = "cuda-index"
url = "{cuda}"
explicit = true
"""


BUILT_WITH_TORCH = """
[build-system]
requires = ["torch"]
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import torch, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    open("seen", "w").write(torch.__version__)
    with zipfile.ZipFile(f"{directory}/app-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("app-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: app\\nVersion: 1\\n")
        wheel.writestr("app-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("app-1.dist-info/RECORD", "")
    return "app-1-py3-none-any.whl"
build_editable = build_wheel
"""


class Bench(Workshop):
    """A workshop with bases for cpu and CUDA, and a newer torch with all of CUDA on the default index."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu", "cu126")
        self.tempt("cpu")
        self.publish("plain")
        self.publish("more")
        self.publish("docs-tool")
        self.publish("needs-torch", requires=["torch>=2", "numpy"])
        self.publish("also-needs-torch", requires=["torch>=2"])
        self.cpu: RegisteredBase = self.create("cpu").base
        self.cuda: RegisteredBase = self.create("cu126").base

    def project(self, folder: Path, *, accelerators: bool = True, name: str = "project") -> Path:
        """The files of a project, locked by a uv that knows nothing of us."""
        project = folder / name
        project.mkdir()
        urls = {"cpu": self.index.template.format(tag="cpu"), "cuda": self.index.template.format(tag="cu126")}
        text = PROJECT + (ACCELERATORS.format(**urls) if accelerators else "")
        (project / "pyproject.toml").write_text(text)
        self.plain(project, "lock")
        return project

    def plain(self, project: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The uv of a colleague, who has none of our programs."""
        env = {**self.env, **more}
        return subprocess.run([self.uv.path, *words], env=env, cwd=project, capture_output=True,
                              text=True, timeout=BUILDS_WITHIN, check=True)  # fmt: skip

    def venv(self, project: Path, *words: str, check: bool = True) -> dict[str, Any]:
        """``jupyter overlay venv --project … --json``: what it prints."""
        done = self.command("venv", "--project", str(project), *words, "--json", check=False)
        assert done.stdout, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert not check or "error" not in said, said.get("why")
        return said

    def active(self, project: Path, script: str, *, check: bool = True, cwd: str = ".", **more: str) -> str:
        """What a script prints in the activated environment, on both streams."""
        activate = f". {shlex.quote(str(project))}/.venv/bin/activate; cd {shlex.quote(cwd)};"
        command, env = ["sh", "-ec", f"{activate}\n{script}"], {**self.env, **more}
        done = subprocess.run(command, env=env, cwd=project, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=BUILDS_WITHIN,
                              check=False)  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def names(self, project: Path) -> set[str]:
        """The packages that uv sees in the environment."""
        listed = self.plain(project, "pip", "list", "--python", ".venv", "--format", "json").stdout
        return {package["name"] for package in json.loads(listed)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One workshop for this module."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("projects"), index)


@pytest.fixture
def project(bench: Bench, tmp_path: Path) -> Path:
    """A project with extras for cpu and CUDA, chosen: cpu."""
    project = bench.project(tmp_path)
    bench.venv(project, "--extra", "cpu")
    return project


def test_the_base_is_the_one_whose_torch_is_locked(bench: Bench, tmp_path: Path) -> None:
    """By the extras that are chosen; nothing heavy is fetched, and the project's files stay as they are."""
    for extra, base in (("cpu", bench.cpu), ("cuda", bench.cuda)):
        project = bench.project(tmp_path, name=extra)
        files = [(project / name).read_bytes() for name in ("pyproject.toml", "uv.lock")]
        watch = Watch(bench, project)
        made = bench.venv(project, "--extra", extra)
        assert (made["base"]["id"], made["locked"]) == (base.manifest.id, base.manifest.torch)
        assert made["choice"] == ["--extra", extra]
        assert sorted(made["installed"]) == ["needs-torch", "plain"]
        watch.check()
        assert [(project / name).read_bytes() for name in ("pyproject.toml", "uv.lock")] == files


def test_uv_run_keeps_what_was_chosen_and_fetches_nothing(bench: Bench, project: Path) -> None:
    """astral-sh/uv 12290: `uv run` after the choice of cpu took PyPI's torch and 13 nvidia packages."""
    watch = Watch(bench, project)
    code = "import torch, needs_torch; print(torch.__version__)"
    said = bench.active(project, f"uv run python -c '{code}'; uv run true")
    assert said == "2.6.0+cpu\n"
    assert not [one for one in bench.index.asked if one.path.endswith(".whl")]
    assert {"torch", "needs-torch", "plain", "ipykernel"} <= bench.names(project)
    watch.check()


def test_what_uv_sync_was_told_is_kept(bench: Bench, project: Path) -> None:
    """In the environment, out of version control: the next commands keep it, until another sync."""
    watch = Watch(bench, project)
    bench.active(project, "uv sync --group docs")
    assert "docs-tool" in bench.names(project)
    bench.active(project, "uv sync")
    assert "docs-tool" in bench.names(project)
    assert json.loads((project / ".venv/project.json").read_text())["choices"] == {
        ".": ["--group", "docs", "--extra", "cpu"]
    }
    bench.active(project, "uv sync --no-group docs")
    assert "docs-tool" not in bench.names(project)
    watch.check()


def test_packages_are_added_and_removed(bench: Bench, project: Path) -> None:
    """What is added is installed, what is removed is gone, and nothing of this machine is in any file."""
    watch = Watch(bench, project)
    bench.active(project, "uv add more also-needs-torch; uv run python -c 'import more, also_needs_torch'")
    assert {"more", "also-needs-torch", "torch"} <= bench.names(project)
    bench.active(project, "uv remove more; uv lock; uv tree")
    assert "more" not in bench.names(project)
    assert {"also-needs-torch", "torch", "ipykernel"} <= bench.names(project)
    for name in ("pyproject.toml", "uv.lock"):
        assert str(bench.home) not in (project / name).read_text()
    watch.check()
    bench.plain(project, "sync", "--locked", "--extra", "cpu", "--dry-run")


def test_a_foreign_lock_stays_and_torch_is_the_bases(bench: Bench, tmp_path: Path) -> None:
    """It is said; `--exact` refuses with what would fit."""
    project = bench.project(tmp_path, accelerators=False)
    lock = (project / "uv.lock").read_bytes()
    watch = Watch(bench, project)
    told = bench.venv(project, "--base", "cpu", "--exact", check=False)
    assert told["what"].startswith("no base has torch 9.9.0")
    assert "torch==9.9.0" in told["fix"]
    assert not (project / ".venv").exists()
    made = bench.venv(project, "--base", "cpu")
    assert (made["locked"], made["base"]["torch"]) == ("9.9.0", "2.6.0+cpu")
    said = bench.active(project, "uv sync; uv run python -c 'import torch; print(torch.__version__)'")
    assert "torch 9.9.0 is locked; the base's 2.6.0+cpu is used in its place" in said
    assert said.endswith("2.6.0+cpu\n")
    assert (project / "uv.lock").read_bytes() == lock
    watch.check()


def test_run_with_more_packages_uses_the_bases_torch(bench: Bench, project: Path) -> None:
    """uv puts them into an environment of their own, which takes torch from the base, too."""
    watch = Watch(bench, project)
    code = "import torch, also_needs_torch; print(torch.__file__)"
    said = bench.active(project, f"uv run --with also-needs-torch python -c '{code}'")
    assert said.splitlines()[-1] == f"{bench.cpu.manifest.site_dirs[0]}/torch/__init__.py"
    watch.check()


def test_what_a_foreign_command_did_is_mended(bench: Bench, project: Path) -> None:
    """A uv that knows nothing of the base brought its own torch; what was installed by hand stays."""
    bench.active(project, "uv pip install more")
    bench.plain(project, "sync", "--inexact", "--extra", "cuda")
    (site,) = project.glob(".venv/lib/python*/site-packages")
    (site / "zzz_torch_base.pth").unlink()
    assert (site / "torch").is_dir()
    assert "nvidia-cudnn-cu12" in bench.names(project)
    watch = Watch(bench, project)
    done = bench.command("sync", str(project), "--json")
    assert json.loads(done.stdout)["linked"]
    assert {"torch", "triton", "nvidia-cudnn-cu12"} <= set(json.loads(done.stdout)["removed"])
    assert not (site / "torch").exists()
    assert {"torch", "ipykernel", "more", "plain"} <= bench.names(project)
    assert "nvidia-cudnn-cu12" not in bench.names(project)
    assert bench.active(project, "python -c 'import torch, more; print(torch.__version__)'") == "2.6.0+cpu\n"
    assert bench.command("sync", str(project)).stdout.startswith("Nothing to restore: ")
    watch.check()


def test_a_project_that_was_moved_is_mended(bench: Bench, project: Path, tmp_path: Path) -> None:
    """With its environment: the choice and what was installed by hand stay, and nothing heavy is fetched."""
    bench.active(project, "uv pip install more")
    before = bench.names(project)
    moved = project.rename(tmp_path / "elsewhere")
    watch = Watch(bench, moved)
    assert json.loads(bench.command("sync", str(moved), "--json").stdout)["moved"] == f"{project}/.venv"
    said = bench.active(moved, "uv run python -c 'import torch, more; print(torch.__version__)'")
    assert said == "2.6.0+cpu\n"
    assert bench.names(moved) == before
    watch.check()


def test_what_is_about_other_environments_is_uvs_own(bench: Bench, project: Path, tmp_path: Path) -> None:
    """A script with a PEP 723 block, another project, `--no-project`, a tool: as if there were no base."""
    script = project / "script.py"
    script.write_text(
        '# /// script\n# dependencies = ["also-needs-torch"]\n# ///\nimport torch; print(torch.__version__)\n'
    )
    other = bench.project(tmp_path, accelerators=False, name="other")
    said = bench.active(project, "uv run -q script.py; uv run -q --no-project --with also-needs-torch "
                                 "python -c 'import torch; print(torch.__version__)'")  # fmt: skip
    assert said == "9.9.0\n9.9.0\n"
    tool = "uv tool run -q --with also-needs-torch python -c 'import torch; print(torch.__version__)'"
    assert bench.active(project, tool) == "9.9.0\n"
    code = "import torch; print(torch.__version__)"
    assert bench.active(project, f"uv run -q python -c '{code}'", cwd=str(other)) == "9.9.0\n"
    assert bench.active(project, "uv run -q python -c 'import plain; print(plain.__version__)'") == "1.0\n"


def test_members_of_a_workspace_have_choices_of_their_own(bench: Bench, tmp_path: Path) -> None:
    """`--package`, or the directory, says which; the extras of the root are not asked of a member."""
    project = bench.project(tmp_path)
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(f'{text}\n[tool.uv.workspace]\nmembers = ["libs/*"]\n')
    member = project / "libs/small"
    member.mkdir(parents=True)
    (member / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["more"]\n'
    )
    bench.plain(project, "lock")
    bench.venv(project, "--extra", "cpu")
    watch = Watch(bench, project)
    assert "more" not in bench.names(project)
    bench.active(project, "uv run --package small python -c 'import more, torch, plain'")
    bench.active(project, "uv run python -c 'import more, torch, plain'", cwd="libs/small")
    assert {"more", "torch", "plain"} <= bench.names(project)
    bench.active(project, "uv sync")
    assert "more" not in bench.names(project)
    watch.check()


def test_what_python_is_wanted_is_checked_first(bench: Bench, project: Path, tmp_path: Path) -> None:
    """uv would delete an environment of another Python and make one anew, without the base."""
    other = bench.project(tmp_path, name="other")
    (other / ".python-version").write_text("3.99\n")
    told = bench.venv(other, "--base", "cpu", check=False)
    assert told["error"] == "NoBaseFits"
    assert told["why"] == ".python-version says 3.99"
    said = bench.active(project, "uv sync --python 3.99", check=False)
    assert said.startswith("error: --python 3.99 would delete")
    (project / ".python-version").write_text("3.99\n")
    bench.active(project, "uv run python -c 'import torch'; uv sync")
    assert (project / ".venv/project.json").exists()


def test_the_bases_torch_is_locked_on_demand(bench: Bench, tmp_path: Path) -> None:
    """`--relock` changes uv.lock alone; where no index has that torch, uv's reason is told."""
    project = bench.project(tmp_path, accelerators=False)
    url = bench.index.template.format(tag="cpu")
    text = PROJECT.replace('"plain"', '"plain", "torch"')
    text += f'[tool.uv.sources]\ntorch = {{index = "its"}}\n[[tool.uv.index]]\nname = "its"\nurl = "{url}"\n'
    text += "explicit = true\n"
    (project / "pyproject.toml").write_text(text)
    made = bench.venv(project, "--base", "cpu", "--relock")
    assert made["locked"] == "2.6.0+cpu"
    assert (project / "pyproject.toml").read_text() == text
    assert str(bench.home) not in (project / "uv.lock").read_text()
    elsewhere = bench.project(tmp_path, accelerators=False, name="elsewhere")
    told = bench.venv(elsewhere, "--base", "cpu", "--relock", check=False)
    assert told["what"] == f"{elsewhere} cannot be locked with torch 2.6.0+cpu"
    assert "[tool.uv.sources]" in told["fix"]


@pytest.mark.parametrize("torch", ["2.6.0+cpu", "2.6.0+cu126", "9.9.0"])
def test_what_has_to_be_built_for_uv_sync_is_built_with_the_bases_torch(
    bench: Bench, tmp_path: Path, torch: str
) -> None:  # fmt: skip
    """A package without a wheel, and the project itself: uv would fetch a torch for each build."""
    mark = tmp_path / "mark"
    bench.index.publish(build_sdist(tmp_path, "kernels", mark=mark, build_requires=["torch>=2"],
                                    static_metadata=True))  # fmt: skip
    tag = torch.partition("+")[2]
    project = bench.project(tmp_path, accelerators=False, name=f"builds-{tag}")
    text = (project / "pyproject.toml").read_text().replace('"plain"', '"plain", "kernels", "torch"')
    if tag:
        url = bench.index.template.format(tag=tag)
        text += '[tool.uv.sources]\ntorch = { index = "its" }\n'
        text += f'[[tool.uv.index]]\nname = "its"\nurl = "{url}"\n'
        text += "explicit = true\n"
    else:  # PyPI's torch, which has no label, as somebody has it
        theirs = bench.environment("theirs")
        bench.uv.run("pip", "install", "--python", theirs / "bin/python", f"torch=={torch}").check("no")
        bench.adopt(theirs)
    (project / "pyproject.toml").write_text(text + BUILT_WITH_TORCH)
    (project / "backend.py").write_text(BACKEND)
    bench.plain(project, "lock")
    bench.uv.run("cache", "clean", "torch", "triton", "kernels", "app").check("no")
    mark.unlink(missing_ok=True)
    watch = Watch(bench, project)
    assert bench.venv(project)["base"]["torch"] == torch
    assert "kernels" in bench.names(project)
    assert mark.exists()
    assert (project / "seen").read_text() == torch
    mark.unlink()
    again = "uv sync --refresh-package kernels --reinstall-package kernels"
    bench.active(project, again, UV_INDEX=f"{bench.index.address}/whl/cu126")
    assert mark.exists()
    watch.check()
    assert str(bench.home) not in (project / "uv.lock").read_text()


def test_a_build_takes_what_it_needs_of_torch_from_the_base(bench: Bench, project: Path) -> None:
    """`uv build` of the project itself; the wheel says nothing of this machine."""
    with (project / "pyproject.toml").open("a") as file:
        file.write(BUILT_WITH_TORCH)
    (project / "backend.py").write_text(BACKEND)
    watch = Watch(bench, project)
    said = bench.active(project, "uv build --wheel", check=False)
    assert (project / "seen").exists(), said
    assert (project / "seen").read_text() == "2.6.0+cpu"
    watch.check()
