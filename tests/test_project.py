"""``jupyter overlay venv``: an environment of a project's own on a shared base, that any tool can use."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay.environment import REMOVED, kernel_environment
from kernel_provisioner.project.notes import known, standing_on
from kernel_provisioner.project.wanted import wanted
from tests.support.bases import Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.tree import tree_hash
from tests.support.wheels import build_sdist

SHELLS = ("sh", "bash")
VARIABLES = (
    "VIRTUAL_ENV", "PATH", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_FIND_LINKS", "UV_TORCH_BACKEND",
    "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "TORCH_EXTENSIONS_DIR", "PYTHONNOUSERSITE",
)  # fmt: skip


BY_ITSELF = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os, zipfile
def build_editable(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(directory, "app-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("app-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: app\\nVersion: 1\\n")
        wheel.writestr("app-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("app-1.dist-info/RECORD", "")
    return "app-1-py3-none-any.whl"
"""


class Bench(Workshop):
    """One workshop for this module, with a cpu base and a few packages."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu", "cu124")
        self.tempt("cpu")
        say = {"einops/__init__.py": "def say():\n    import sys; print(sys.prefix)\n"}
        self.publish("einops", "0.8", entry_points={"console_scripts": {"einsay": "einops:say"}}, files=say)
        self.publish("vision-user", requires=["torchvision", "torch"])
        self.publish("futuristic", requires=["torch>=99"])
        self.base: RegisteredBase = self.create("cpu").base
        self.cuda: RegisteredBase = self.create("cu124").base

    def venv(self, *words: object, **more: str) -> dict[str, Any]:
        """``jupyter overlay venv … --json``: what it prints."""
        done = self.command("venv", *map(str, words), "--json", check=False, **more)
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    def shell(self, script: str, *, shell: str = "sh", **more: str) -> subprocess.CompletedProcess[str]:
        """A script in a shell, from the root directory."""
        env = {**self.env, **more}
        return subprocess.run([shell, "-eu", "-c", script], env=env, cwd="/", capture_output=True,
                              text=True, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The module's workshop."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("venv"), index)


def test_two_projects_share_one_torch(bench: Bench, tmp_path: Path) -> None:
    """Each has packages of its own and the base's torch; the base stays as it was."""
    before = tree_hash(bench.base.directory)
    bench.index.asked.clear()
    one = bench.venv(tmp_path / "one", "--base", "cpu", "einops")
    two = bench.venv(tmp_path / "two", "vision-user", "--base", bench.base.manifest.id)
    assert (one["existed"], one["installed"]) == (False, {"einops": "0.8"})
    assert two["installed"] == {"torchvision": "0.21.0+cpu", "vision-user": "1.0"}
    assert one["base"]["torch"] == "2.6.0+cpu"
    code = "import torch; print(torch.__version__, torch.__file__)"
    said = {
        subprocess.check_output([tmp_path / name / "bin/python", "-c", code], text=True)
        for name in ("one", "two")
    }
    assert said == {f"2.6.0+cpu {bench.base.manifest.site_dirs[0]}/torch/__init__.py\n"}
    assert subprocess.check_output([tmp_path / "one/bin/einsay"], text=True).strip() == str(tmp_path / "one")
    assert not bench.fetched("torch")
    assert tree_hash(bench.base.directory) == before


def test_a_second_run_says_that_it_is_there(bench: Bench, tmp_path: Path) -> None:
    """The same arguments, in whatever order: nothing is looked up, nothing changes."""
    place = tmp_path / "env"
    bench.venv(place, "--base", "cpu", "einops", "vision-user")
    before = tree_hash(place)
    bench.index.asked.clear()
    again = bench.venv("--base=cpu", place, "einops", "vision-user")
    assert again["existed"]
    assert not bench.index.asked
    assert tree_hash(place) == before
    assert bench.command("venv", str(place), "--base", "cpu", "einops", "vision-user").stdout.startswith(
        f"Already there: {place}\n"
    )


def test_other_arguments_are_refused_with_the_difference(bench: Bench, tmp_path: Path) -> None:
    """What is there may be in use: it is built again only where that is asked for."""
    place = tmp_path / "env"
    bench.venv(place, "--base", "cpu", "einops")
    told = bench.venv(place, "--base", "cpu", "vision-user")
    assert told["why"] == "extras: einops, and now vision-user"
    assert "--recreate" in told["fix"]
    assert f". {place}/bin/activate; uv pip install" in told["fix"]


def test_recreate_builds_it_anew_and_says_what_was_put_in_by_hand(bench: Bench, tmp_path: Path) -> None:
    """The old one is gone, nothing lies beside it, and scripts run from where they are."""
    place = tmp_path / "env"
    bench.publish("by-hand")
    bench.venv(place, "--base", "cpu", "einops")
    bench.shell(f". {place}/bin/activate; uv pip install by-hand").check_returncode()
    made = bench.venv(place, "--base", "cu124", "einops", "vision-user", "--recreate")
    assert (made["base"]["tag"], made["lost"], made["existed"]) == ("cu124", ["by-hand"], False)
    assert sorted(made["installed"]) == ["einops", "torchvision", "vision-user"]
    assert subprocess.check_output([place / "bin/einsay"], text=True).strip() == str(place)
    assert [path.name for path in tmp_path.iterdir()] == ["env"]
    assert standing_on(bench.overlays.root, bench.cuda) == [place]


def test_a_failed_recreate_leaves_the_old_one_at_work(bench: Bench, tmp_path: Path) -> None:
    """It is built beside first, so that what cannot be built takes nothing away."""
    place = tmp_path / "env"
    bench.venv(place, "--base", "cpu", "einops")
    before = tree_hash(place)
    told = bench.venv(place, "--base", "cpu", "futuristic", "--recreate")
    assert told["error"] == "ResolutionFailed"
    assert "torch>=99" in told["why"]
    assert "kernel" not in told["fix"]
    assert tree_hash(place) == before
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_a_failed_first_run_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    """No directory, no note, nothing that a second run could stumble on."""
    told = bench.venv(tmp_path / "deep/env", "--base", "cpu", "futuristic")
    assert told["error"] == "ResolutionFailed"
    assert not (tmp_path / "deep/env").exists()
    assert tmp_path / "deep/env" not in [venv.path for venv in known(bench.overlays.root)]
    assert bench.venv(tmp_path / "deep/env", "--base", "cpu")["installed"] == {}


@pytest.mark.parametrize("left", ["unfinished", "old-beside"])
def test_what_a_killed_run_left_is_put_right(bench: Bench, tmp_path: Path, left: str) -> None:
    """Killed in the first run: made now. Killed between old and new: the old one is there again."""
    place = tmp_path / "env"
    bench.venv(place, "--base", "cpu", "einops")
    (place / "pip.conf").write_text("the old one")
    if left == "unfinished":
        (place / layout.OVERLAY).unlink()
    else:
        place.rename(tmp_path / ".env.previous-ab_12345")
        place.mkdir()
    again = bench.venv(place, "--base", "cpu", "einops")
    assert again["existed"] is (left == "old-beside")
    assert ((place / "pip.conf").read_text() == "the old one") is (left == "old-beside")
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


@pytest.mark.fault(38)
@pytest.mark.parametrize("what", ["file", "directory", "venv", "link", "overlay"])
def test_what_is_not_ours_is_refused(bench: Bench, tmp_path: Path, what: str) -> None:
    """With --recreate too: somebody's work is never removed."""
    place = tmp_path / "env"
    if what == "file":
        place.write_text("mine")
    elif what == "directory":
        (place / "src").mkdir(parents=True)
    elif what == "venv":
        bench.uv.run("venv", place).check("no")
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place = bench.begin(bench.base, "einops").path
    before = tree_hash(tmp_path)
    told = bench.venv(place, "--base", "cpu", "--recreate")
    assert told["error"] == "InvalidRequest"
    assert "was not created by this command" in told["what"]
    assert tree_hash(tmp_path) == before


def test_a_base_with_environments_is_not_removed(bench: Bench, tmp_path: Path) -> None:
    """They are named, idle as they are; once they are gone, or on another base, it can go."""
    bench.stock("cu126")
    base = bench.create("cu126").base
    for name in ("one", "two"):
        bench.venv(tmp_path / name, "--base", "cu126")
    told = json.loads(bench.command("base", "remove", base.manifest.id, "--json", check=False).stdout)
    assert told["error"] == "BaseInUse"
    assert f"{tmp_path}/one\n{tmp_path}/two" in told["why"]
    shown = json.loads(bench.command("base", "show", "cu126", "--json").stdout)
    assert shown["venvs"] == [f"{tmp_path}/one", f"{tmp_path}/two"]
    assert "environments of projects: jupyter overlay du" in bench.command("list").stdout
    bench.venv(tmp_path / "one", "--base", "cpu", "--recreate")
    subprocess.run(["rm", "-r", tmp_path / "two"], check=True)
    assert bench.command("base", "remove", base.manifest.id).returncode == 0


def test_doctor_names_an_environment_whose_base_is_gone(bench: Bench, tmp_path: Path) -> None:
    """It cannot run; the fix is the command with another base."""
    bench.venv(tmp_path / "env", "--base", "cpu")
    bases = bench.home / "jupyter-data/torch-bases"
    bases.rename(bases.with_name("away"))
    try:
        findings = json.loads(bench.command("doctor", "--json", check=False).stdout)
    finally:
        bases.with_name("away").rename(bases)
    (finding,) = [one for one in findings if str(tmp_path) in one["text"]]
    assert finding["level"] == "wrong"
    assert f"jupyter overlay venv {tmp_path}/env --base" in finding["fix"]


@pytest.mark.parametrize("shell", SHELLS)
def test_activate_sets_what_a_kernel_has_and_takes_it_back(bench: Bench, tmp_path: Path, shell: str) -> None:
    """Under ``set -eu``, in a directory with a blank and a quote; what is the user's own stays."""
    place = tmp_path / "it's an env"
    bench.venv(place, "--base", "cpu", "einops")
    own = {"UV_FIND_LINKS": "/my/links", "UV_CONSTRAINT": "/my/c.txt", "PYTHONPATH": "/my/lib"}
    code = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {_names()}}}))"
    show = f"{sys.executable} -c {shlex.quote(code)}"
    script = f". {shlex.quote(str(place))}/bin/activate; {show}; einsay; deactivate; {show}"
    done = bench.shell(script, shell=shell, **own)
    active, prefix, after = done.stdout.splitlines()
    expected = kernel_environment({**bench.env, **own}, place)
    assert json.loads(active) == {name: expected.get(name) for name in json.loads(_names())}
    assert prefix == str(place)
    assert json.loads(after) == {name: {**bench.env, **own}.get(name) for name in json.loads(_names())}


def test_activating_another_lets_go_of_the_first(bench: Bench, tmp_path: Path) -> None:
    """As with any environment: one deactivate and the shell is as it was."""
    for name in ("one", "two"):
        bench.venv(tmp_path / name, "--base", "cpu")
    script = (
        f". {tmp_path}/one/bin/activate; . {tmp_path}/two/bin/activate;"
        "echo $VIRTUAL_ENV $TORCH_EXTENSIONS_DIR;"
        "deactivate; echo $PATH ${VIRTUAL_ENV-none} ${TORCH_EXTENSIONS_DIR-none}"
    )
    done = bench.shell(script)
    assert done.stdout.splitlines() == [
        f"{tmp_path}/two {tmp_path}/two/torch_extensions", f"{bench.env['PATH']} none none",
    ]  # fmt: skip


def test_installs_in_it_are_held_to_the_base(bench: Bench, tmp_path: Path) -> None:
    """Active or not, by uv and by pip; what is no part of torch's stack is free, ipykernel too."""
    place = tmp_path / "env"
    bench.venv(place, "--base", "cpu")
    bench.publish("ipykernel", "5.0")
    pip = f"{sys.executable} -m pip --python {place}/bin/python"
    for install in ("uv pip", f"cd {place.parent}; {place}/bin/uv pip", f"{place}/bin/python -m uv pip", pip):
        activate = f". {place}/bin/activate;" if install == "uv pip" else "unset PIP_CONFIG_FILE;"
        target = "--python env " if install.startswith("cd") else ""
        for package, works in (("torch==9.9.0", False), ("ipykernel<6", True)):
            done = bench.shell(f"{activate} {install} install {target}--dry-run '{package}'")
            assert (done.returncode == 0) is works, done.stdout + done.stderr
            assert works or "2.6.0+cpu" in done.stdout + done.stderr
    assert not list(place.glob("lib/python*/site-packages/torch"))


def test_requirements_files_are_read(bench: Bench, tmp_path: Path) -> None:
    """Comments, markers, continued lines and further files; torch is a condition on the base."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/extra.txt").write_text("einops>=0.7  # tensors\n")
    file = tmp_path / "requirements.txt"
    file.write_text(
        "\ufeff# ours\n-r more/extra.txt\ntorch>=2.6\nvision-user \\\n  >=1; python_version > '3'\n"
    )
    made = bench.venv(tmp_path / "env", "--base", "cpu", "-r", file)
    assert sorted(made["installed"]) == ["einops", "torchvision", "vision-user"]
    file.write_text("torch>=99\n")
    told = bench.venv(tmp_path / "other", "--base", "cpu", "--requirement", file)
    assert told["what"] == f"torch>=99 is required, but {bench.base.manifest.id} has torch 2.6.0+cpu"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-e .", "option"),
        ("--index-url https://x", "UV_INDEX=https://x"),
        ("--extra-index-url https://download.pytorch.org/whl/cu126", "--base cu126"),
        ("--find-links wheels", "pip.conf"),
        ("./x.whl", "path"),
        ("a @ https://x/a.whl", "URL"),
        ("einops==1 --hash=sha256:00", "hashes"),
        ("${SECRET}", "variable"),
        ("-r gone.txt", "cannot be read"),
        ("-r r.txt", "includes itself"),
    ],
)
def test_a_line_that_cannot_be_taken_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    """File and line, and how to get there otherwise; never a word of notebooks' metadata."""
    file = tmp_path / "r.txt"
    file.write_text(f"einops\n{line}\n")
    with pytest.raises(InvalidRequest) as caught:
        wanted([], [file])
    assert said in str(caught.value)
    assert "torch_env" not in str(caught.value)
    if not line.startswith("-r"):
        assert f"{file}:2" in caught.value.what


def test_requirements_files_as_people_have_them(bench: Bench, tmp_path: Path) -> None:
    """Constraints, hashes and the user's own project: uv reads the file, held to the base."""
    wheel = bench.publish("exact-one", "1.0", requires=["torch>=2"])
    bench.publish("bounded", "1.0")
    bench.publish("bounded", "2.0")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/pyproject.toml").write_text(BY_ITSELF)
    (tmp_path / "app/backend.py").write_text(BACKEND)
    (tmp_path / "bounds.txt").write_text("bounded<2\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    file = tmp_path / "requirements.txt"
    file.write_text(f"-c bounds.txt\ntorch>=2.6\nexact-one==1.0 \\\n  --hash=sha256:{digest}\nbounded\n"
                    f"-e {tmp_path}/app\n")  # fmt: skip
    bench.index.asked.clear()
    made = bench.venv(tmp_path / "env", "--base", "cpu", "-r", file)
    assert made["installed"] == {"app": "1", "bounded": "1.0", "exact-one": "1.0"}
    assert not bench.fetched("torch")
    file.write_text("-c bounds.txt\ntorch>=99\n")
    assert bench.venv(tmp_path / "other", "--base", "cpu", "-r", file)["error"] == "NoBaseFits"


def test_a_source_distribution_is_built_at_once(bench: Bench, tmp_path: Path) -> None:
    """Running the command is the consent; a policy against builds still counts."""
    bench.index.publish(build_sdist(tmp_path, "only-source", mark=tmp_path / "mark", static_metadata=True))
    assert bench.venv(tmp_path / "env", "--base", "cpu", "only-source")["installed"] == {"only-source": "1.0"}
    assert "build_wheel" in (tmp_path / "mark").read_text()


def test_a_notebook_after_it_still_waits_for_its_first_cell(bench: Bench, tmp_path: Path) -> None:
    """What the command has built from source is no consent of the notebook's user."""
    bench.index.publish(build_sdist(tmp_path, "twice-source", mark=tmp_path / "mark", static_metadata=True))
    bench.venv(tmp_path / "env", "--base", "cpu", "twice-source")
    waiting = bench.overlay(bench.base, "twice-source")
    assert (waiting.phases[-1], waiting.failure) == ("needs-cell", {})
    assert bench.build(waiting.generation, "--cell-ran").installed == {"twice-source": "1.0"}


def test_git_passes_it_by_and_others_cannot_read_the_order(bench: Bench, tmp_path: Path) -> None:
    """It lies in a project's directory as a rule; the order may hold an index with a password."""
    bench.venv(tmp_path / ".venv", "--base", "cpu")
    assert (tmp_path / ".venv/.gitignore").read_text() == "*\n"
    assert (tmp_path / ".venv" / layout.SPEC).stat().st_mode & 0o077 == 0


def test_without_a_base_it_stands_on_what_a_notebook_would_run_on(bench: Bench, tmp_path: Path) -> None:
    """The machine's standing preference counts."""
    assert bench.venv(tmp_path / "env", TORCH_OVERLAY_ACCELERATOR="cpu")["base"]["tag"] == "cpu"


def _names() -> str:
    return json.dumps(sorted({*VARIABLES, *REMOVED}))
