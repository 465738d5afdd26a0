"""Extras on a base: what comes from where, what is never touched, and what is told where it cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.overlay import store
from tests.support.bases import REPOSITORY, Built, Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.torch_wheels import NVIDIA
from tests.support.tree import tree_hash
from tests.support.waiting import wait_for
from tests.support.wheels import build_sdist, flip_a_bit

TAGS = ("cpu", "cu118", "cu121", "cu124", "cu126", "rocm6.2", "xpu")
SOON = 30.0
"""Seconds in which a build has failed whose index gives it two to answer."""


class Bench(Workshop):
    """One workshop for this module, with a base for each tag that was asked for."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index)
        self.stock(*TAGS)
        self.tempt(*TAGS)
        self._bases: dict[str, RegisteredBase] = {}

    def base(self, tag: str = "cpu") -> RegisteredBase:
        """The base of ``tag``, made when it is first asked for."""
        if tag not in self._bases:
            self._bases[tag] = self.create(tag).base
        return self._bases[tag]


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The module's workshop."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("resolution"), index)


@pytest.fixture
def bench(workbench: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The workshop as it was at first; each test has a notebook of its own name."""
    env = dict(workbench.env)
    workbench.notebook = f"{request.node.name}.ipynb"
    workbench.index.asked.clear()
    yield workbench
    workbench.env = env
    workbench.index.behave()
    workbench.index.credentials = None


# --- what comes from where ---------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
def test_pytorchs_packages_come_from_the_index_of_the_bases_tag(bench: Bench, tag: str) -> None:
    """Also where only an extra needs them; the tempting newer build and the stale copy are never taken."""
    bench.publish("timm", requires=["torchvision", "numpy", "torch"])
    before = tree_hash(bench.base(tag).directory)
    bench.index.asked.clear()
    built = bench.overlay(bench.base(tag), "timm")
    assert built.installed == {"timm": "1.0", "torchvision": f"0.21.0+{tag}"}
    assert not bench.fetched("torch"), "torch itself is the base's"
    bench.enter(built)
    said = built.python("import timm, torch, torchvision, numpy; print(torch.__version__, numpy.__version__)")
    assert said == f"2.6.0+{tag} 2.1"
    assert tree_hash(bench.base(tag).directory) == before


def test_everything_else_comes_from_the_default_index(bench: Bench) -> None:
    """PyTorch's index holds a numpy 99.0; an extra that wants a newer numpy gets the normal one."""
    bench.publish("numpy", "2.3")
    bench.publish("wants-numpy", requires=["numpy>=2.2"])
    built = bench.overlay(bench.base(), "wants-numpy")
    assert built.installed == {"numpy": "2.3", "wants-numpy": "1.0"}
    assert not [one for one in bench.index.asked if one.path.startswith("/whl/cpu/numpy")]


def test_a_further_index_of_the_users_counts_but_never_for_pytorchs_packages(bench: Bench) -> None:
    """UV_INDEX is heard for a private package; its torchvision, however new, is not."""
    bench.publish("private", tag="corp", requires=["torchvision"])
    bench.publish("torchvision", "9.9.9", tag="corp")
    bench.env["UV_INDEX"] = bench.index.template.format(tag="corp")
    built = bench.overlay(bench.base(), "private")
    assert built.installed == {"private": "1.0", "torchvision": "0.21.0+cpu"}


def test_a_users_index_strategy_never_brings_a_wrong_build(bench: Bench) -> None:
    """With ``unsafe-best-match`` uv prefers the newest of all; the overlay is refused, and says why."""
    bench.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    bench.publish("torchaudio", "9.0")
    bench.publish("torchaudio", "2.6.0+cpu", tag="cpu", requires=["torch==2.6.0"])
    built = bench.overlay(bench.base(), "torchaudio")
    assert not built.ready
    assert f"torchaudio would come from {bench.index.default}" in built.told
    assert "UV_INDEX_STRATEGY" in built.told


def test_a_private_mirror_is_used_and_its_credentials_are_kept_to_itself(bench: Bench) -> None:
    """The index is a template with a password in it; messages, progress, locks and logs have none."""
    bench.index.require("me", "s3cret")
    private = {"index_template": bench.index.template.replace("http://", "http://me:s3cret@")}
    bench.env["UV_DEFAULT_INDEX"] = bench.index.default.replace("http://", "http://me:s3cret@")
    bench.publish("needs-vision", requires=["torchvision"])
    built = bench.overlay(bench.base(), "needs-vision", **private)
    assert built.installed == {"needs-vision": "1.0", "torchvision": "0.21.0+cpu"}
    failed = bench.overlay(bench.base(), "torchtext", **private)
    assert not failed.ready
    wrong = {"index_template": private["index_template"].replace("s3cret", "exp1red")}
    refused = bench.overlay(bench.base(), "torchvision", notebook="other.ipynb", **wrong)
    assert "401" in refused.told
    for secret in ("s3cret", "exp1red"):
        assert secret not in failed.told + refused.told
        leaks = [path for path in bench.overlays.root.rglob("*") if path.is_file() and _holds(path, secret)]
        assert {path.name for path in leaks} <= {store.ORDER}, "the private order alone needs them"
    for path in bench.overlays.root.rglob(store.ORDER):
        assert path.stat().st_mode & 0o077 == 0


def test_a_renewed_password_makes_no_new_overlay(bench: Bench) -> None:
    """Tokens that last for hours are common; the order is the same, so the known lock serves."""
    phases = []
    for password in ("monday", "tuesday"):
        bench.index.require("me", password)
        template = bench.index.template.replace("http://", f"http://me:{password}@")
        built = bench.overlay(bench.base(), "torchvision", index_template=template)
        assert built.ready
        phases.append(built.phases)
    assert ["plan" in one for one in phases] == [True, False]


# --- what is held ------------------------------------------------------------------------------------


def test_an_extra_that_needs_another_torch_is_refused_with_the_reason(bench: Bench) -> None:
    """The message names the extra, what it needs, what the base holds, and where to look on."""
    bench.publish("futuristic", requires=["torch>=99"])
    built = bench.overlay(bench.base(), "futuristic")
    assert not built.ready
    assert built.done.returncode == 1
    failure = built.failure
    assert failure["error"] == "ResolutionFailed"
    assert "futuristic" in failure["what"]
    assert bench.base().manifest.id in failure["what"]
    assert "torch 2.6.0+cpu" in failure["what"]
    assert "torch>=99" in failure["why"]
    assert "jupyter overlay base list" in failure["fix"]
    assert not list(built.path.glob("staging"))


def test_a_base_package_is_replaced_in_that_overlay_alone(bench: Bench) -> None:
    """Where the extras demand it: said, in the constraints, and for nobody else."""
    bench.publish("numpy", "1.26")
    bench.publish("old-fashioned", requires=["numpy<2"])
    before = tree_hash(bench.base().directory)
    built = bench.overlay(bench.base(), "old-fashioned")
    assert built.content["replaced"] == {"numpy": ["2.1", "1.26"]}
    constraints = (built.path / "constraints.txt").read_text().splitlines()
    assert "numpy==1.26" in constraints
    assert "numpy==2.1" not in constraints
    bench.enter(built)
    assert built.python("import numpy; print(numpy.__version__)") == "1.26"
    assert _uv(bench, built, "pip", "list", "--format", "freeze").count("numpy==") == 1
    assert "compatible" in _uv(bench, built, "pip", "check")
    other = bench.overlay(bench.base(), "timm", notebook="other.ipynb")
    bench.enter(other)
    assert other.python("import numpy; print(numpy.__version__)") == "2.1"
    assert tree_hash(bench.base().directory) == before


def test_the_policy_can_forbid_every_replacement(bench: Bench) -> None:
    """``pins = all``: the machine's owner wants every notebook on the same packages."""
    bench.publish("old-fashioned", requires=["numpy<2"])
    built = bench.overlay(bench.base(), "old-fashioned", pins="all")
    assert not built.ready
    assert "numpy" in built.told


def test_a_replacement_must_leave_the_whole_consistent(bench: Bench) -> None:
    """torch itself needs torch-plain-dependency from 1 on: an extra that wants less is refused."""
    bench.publish("torch-plain-dependency", "0.5")
    bench.publish("backward", requires=["torch-plain-dependency<1"])
    built = bench.overlay(bench.base(), "backward")
    assert not built.ready
    assert "torch-plain-dependency" in built.told


@pytest.mark.parametrize("name", ["ipykernel", "comm"])
def test_what_the_kernel_runs_on_is_never_replaced(bench: Bench, name: str) -> None:
    """It is in memory before any overlay is ready."""
    bench.publish(name, "99.0")
    bench.publish(f"wants-{name}", requires=[f"{name}>=99"])
    built = bench.overlay(bench.base(), f"wants-{name}")
    assert not built.ready
    assert f"{name}>=99" in built.told


def test_a_cpu_base_never_receives_accelerator_libraries(bench: Bench) -> None:
    """Whatever depends on them, and however deep."""
    bench.publish("nvidia-nccl-cu12", "2.21.5")
    bench.publish("middle", requires=["nvidia-nccl-cu12"])
    bench.publish("greedy", requires=["middle"])
    built = bench.overlay(bench.base(), "greedy")
    assert not built.ready
    assert "nvidia-nccl-cu12 2.21.5" in built.failure["what"]
    assert "cpu base" in built.failure["why"]
    assert not bench.fetched("nvidia-nccl-cu12")


def test_on_a_cuda_base_no_nvidia_byte_is_fetched_twice(bench: Bench) -> None:
    """What the base holds is there; what it does not hold may be added."""
    bench.publish("nvidia-nccl-cu12", "2.21.5", files={"nvidia/nccl/lib.so": b"x"})
    bench.publish("needs-cuda", requires=["nvidia-cudnn-cu12", "nvidia-nccl-cu12", "triton", "torch"])
    bench.base("cu124")
    bench.index.asked.clear()
    built = bench.overlay(bench.base("cu124"), "needs-cuda")
    assert built.installed == {"needs-cuda": "1.0", "nvidia-nccl-cu12": "2.21.5"}
    for name in ("torch", "triton", *NVIDIA["cu124"]):
        assert not bench.fetched(name), name


# --- what a package may not bring --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["torch/extra.py", "torch.py", "ipykernel.py", "ipykernel/kernelbase.py", "comm/__init__.py",
             "numpy.cpython-311-x86_64-linux-gnu.so"]
)  # fmt: skip
def test_a_package_that_would_hide_a_module_of_the_base_is_refused(bench: Bench, path: str) -> None:
    """It would run in place of the base's own, in this notebook at least."""
    name = "hostile-" + re.sub(r"\W", "-", path)
    bench.publish(name, files={path: b"x = 1\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert "would hide" in built.failure["what"]
    assert Path(path).parts[0] in built.failure["what"]


def test_who_replaces_one_package_may_not_hide_another(bench: Bench) -> None:
    """A numpy of its own that also brings a torch."""
    bench.publish("numpy", "1.25", files={"numpy/__init__.py": "", "torch/__init__.py": ""})
    built = bench.overlay(bench.base(), "numpy==1.25")
    assert not built.ready
    assert "would hide torch" in built.failure["what"]


def test_a_replaced_package_brings_its_own_module_whatever_that_is_called(bench: Bench) -> None:
    """As PyYAML brings ``yaml``."""
    for version in ("1.0", "2.0"):
        bench.publish("py-odd", version, files={"odd/__init__.py": f"__version__ = {version!r}\n"})
    base = bench.create("cpu", packages=["py-odd==1.0"]).base
    built = bench.overlay(base, "py-odd>=2")
    assert built.content["replaced"] == {"py-odd": ["1.0", "2.0"]}
    bench.enter(built)
    assert built.python("import odd; print(odd.__version__)") == "2.0"


def test_a_file_that_would_hide_a_shared_namespace_is_taken_out(bench: Bench) -> None:
    """``nvidia/__init__.py`` would hide all of the base's CUDA libraries; the rest of the package stays."""
    files = {"nvidia/__init__.py": "", "nvidia/dali/__init__.py": "here = True\n"}
    bench.publish("nvidia-dali-cuda120", files=files)
    built = bench.overlay(bench.base("cu124"), "nvidia-dali-cuda120")
    assert built.ready, built.told
    bench.enter(built)
    record = next(built.path.glob("lib/python*/site-packages/nvidia_dali*/RECORD")).read_text()
    assert "nvidia/__init__.py" not in record
    assert "nvidia/dali/__init__.py" in record
    code = "import nvidia, nvidia.dali; print(len(list(nvidia.__path__)), nvidia.dali.here)"
    assert built.python(code) == "2 True"
    cached = next(Path(bench.env["UV_CACHE_DIR"]).rglob("nvidia_dali*.dist-info/RECORD"))
    assert "nvidia/__init__.py" in cached.read_text(), "uv's cache is left as it is"


@pytest.mark.parametrize(
    "path",
    ["{}.data/data/pyvenv.cfg", "{}.data/data/overlay.json", "{}.data/data/constraints.txt",
     "{}.data/data/entered", "{}.data/scripts/python", "{}.data/scripts/python3", "zzz_torch_base.pth"],
)  # fmt: skip
def test_a_package_may_not_replace_what_the_overlay_itself_stands_on(bench: Bench, path: str) -> None:
    """Files of a wheel can land anywhere below the prefix."""
    name = "sly-" + re.sub(r"\W", "-", path).strip("-").lower()
    inside = path.format(f"{name.replace('-', '_')}-1.0")
    bench.publish(name, files={f"{name.replace('-', '_')}.py": "", inside: "#!python\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert Path(path).name in built.told


def test_a_wheel_whose_record_lies_is_rejected(bench: Bench) -> None:
    """uv installs a file whose hash is not the one in RECORD; our own check does not let it pass."""
    bench.publish("liar", record="wrong-hash")
    built = bench.overlay(bench.base(), "liar")
    assert not built.ready
    assert "is damaged" in built.failure["what"]
    assert "RECORD" in built.failure["why"]


def test_a_damaged_wheel_is_rejected_and_the_next_try_succeeds(bench: Bench) -> None:
    """Nothing is published, nothing of it is used again."""
    wheel = bench.publish("fragile")
    good = wheel.read_bytes()
    flip_a_bit(wheel)
    assert not bench.overlay(bench.base(), "fragile").ready
    wheel.write_bytes(good)
    assert bench.overlay(bench.base(), "fragile").installed == {"fragile": "1.0"}


# --- whose code runs when ----------------------------------------------------------------------------


@pytest.mark.parametrize("static", [True, False])
def test_a_source_distribution_waits_for_the_users_first_cell(
    bench: Bench, tmp_path: Path, static: bool
) -> None:
    """Not even its metadata are built before; then the builder, started again, builds and publishes."""
    mark = tmp_path / "mark"
    name = f"only-source-{static}".lower()
    sdist = build_sdist(tmp_path, name, mark=mark, requires=["torchvision"], static_metadata=static)
    bench.index.publish(sdist)
    built = bench.overlay(bench.base(), name)
    assert (built.done.returncode, built.ready, built.failure) == (0, False, {})
    assert built.phases[-1] == "needs-cell"
    assert not mark.exists()
    again = bench.build(built.generation, "--cell-ran")
    assert again.installed == {name: "1.0", "torchvision": "0.21.0+cpu"}
    assert "build_wheel" in mark.read_text()
    bench.enter(again)
    assert again.python(f"import {name.replace('-', '_')}") == ""


def test_an_old_wheel_does_not_stand_in_for_a_newer_source_distribution(bench: Bench, tmp_path: Path) -> None:
    """Nobody expects a version of years ago: the newest is waited for, unless the policy forbids builds."""
    mark = tmp_path / "mark"
    bench.publish("moved-on", "1.0")
    bench.index.publish(build_sdist(tmp_path, "moved-on", "2.0", mark=mark, static_metadata=True))
    waiting = bench.overlay(bench.base(), "moved-on")
    assert waiting.phases[-1] == "needs-cell"
    never = bench.overlay(bench.base(), "moved-on", source_builds="never")
    assert never.installed == {"moved-on": "1.0"}
    assert not mark.exists()
    assert bench.build(waiting.generation, "--cell-ran").installed == {"moved-on": "2.0"}


def test_an_old_wheel_does_not_stand_in_where_a_dependency_has_none(bench: Bench, tmp_path: Path) -> None:
    """The newest has a wheel but needs a package that has none: no reason to go back to an old version.

    hydra-core 1.3 needs antlr4-python3-runtime, a source distribution; 0.11 of years ago did not.
    """
    mark = tmp_path / "mark"
    bench.publish("needs-little", "0.11")
    bench.publish("needs-little", "1.3", requires=["old-school"])
    bench.index.publish(build_sdist(tmp_path, "old-school", mark=mark, static_metadata=True))
    waiting = bench.overlay(bench.base(), "needs-little")
    assert waiting.phases[-1] == "needs-cell"
    assert not mark.exists()
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"needs-little": "1.3", "old-school": "1.0"}


def test_an_old_version_that_the_base_asks_for_waits_for_nobody(bench: Bench) -> None:
    """The newest wants another torch than the base's: the older one that fits is built at once."""
    bench.publish("keeps-up", "1.0")
    bench.publish("keeps-up", "2.0", requires=["torch>=9000"])
    assert bench.overlay(bench.base(), "keeps-up").installed == {"keeps-up": "1.0"}


def test_where_source_builds_are_forbidden_the_reason_is_told(bench: Bench, tmp_path: Path) -> None:
    """Also once a cell has run: the policy is the owner's."""
    mark = tmp_path / "mark"
    bench.index.publish(build_sdist(tmp_path, "forbidden", mark=mark, static_metadata=True))
    built = bench.overlay(bench.base(), "forbidden", source_builds="never")
    assert not built.ready
    assert "forbidden" in built.told
    assert "wheel" in built.told
    assert not bench.build(built.generation, "--cell-ran").ready
    assert not mark.exists()


def test_a_source_build_sees_the_bases_torch_and_fetches_no_other(bench: Bench, tmp_path: Path) -> None:
    """What a package needs at build time is held by the same pins."""
    mark = tmp_path / "mark"
    sdist = build_sdist(
        tmp_path, "builds-on-torch", mark=mark, build_requires=["torch"], static_metadata=True
    )
    bench.index.publish(sdist)
    waiting = bench.overlay(bench.base(), "builds-on-torch")
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"builds-on-torch": "1.0"}
    assert not bench.fetched("torch", default=True), "neither 9.9.0 nor any other"


def test_no_pth_file_of_an_extra_runs_before_it_is_entered(bench: Bench, tmp_path: Path) -> None:
    """Not in the builder, not when the overlay's interpreter starts; the gate honours it."""
    mark = tmp_path / "mark"
    pth = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    bench.publish("startup", files={"startup.py": "", "startup.pth": pth})
    built = bench.overlay(bench.base(), "startup")
    assert built.ready
    assert "startup.pth" in built.staged
    assert built.python("import sys; print(sys.version_info[0])") == "3"
    assert "ModuleNotFoundError" in built.python("import startup")
    assert not mark.exists()
    bench.enter(built)
    assert built.python("import startup; print('there')") == "there"
    assert mark.exists()


# --- locks -------------------------------------------------------------------------------------------


def test_the_same_request_in_another_notebook_asks_no_index(bench: Bench) -> None:
    """Names, versions and hashes are known, the wheels are in uv's cache."""
    bench.publish("common", requires=["torchvision"])
    first = bench.overlay(bench.base(), "common")
    bench.index.asked.clear()
    second = bench.overlay(bench.base(), "common", notebook="other.ipynb")
    assert second.installed == first.installed
    assert bench.index.asked == []
    assert "plan" not in second.phases


def test_with_an_empty_cache_the_known_versions_are_fetched_again(bench: Bench) -> None:
    """The lock holds, although there is something newer by now; and the hash is checked."""
    wheel = bench.publish("steady", "1.0")
    bench.overlay(bench.base(), "steady")
    bench.publish("steady", "2.0")
    bench.uv.run("cache", "clean").check("cache clean")
    again = bench.overlay(bench.base(), "steady", notebook="other.ipynb")
    assert again.installed == {"steady": "1.0"}
    bench.uv.run("cache", "clean").check("cache clean")
    bench.publish("steady", "1.0", files={"steady.py": "another file of the same version"})
    replaced = bench.overlay(bench.base(), "steady", notebook="third.ipynb")
    assert not replaced.ready
    assert "ash mismatch" in replaced.told
    assert wheel.exists()


def test_another_base_has_a_lock_of_its_own(bench: Bench) -> None:
    """What fits one torch need not fit another."""
    cpu = bench.overlay(bench.base("cpu"), "torchvision")
    cuda = bench.overlay(bench.base("cu124"), "torchvision")
    assert (cpu.installed, cuda.installed) == ({"torchvision": "0.21.0+cpu"}, {"torchvision": "0.21.0+cu124"})


@pytest.mark.parametrize("content", ["", "lock-version = ", 'lock-version = "1.0"\npackages = []\n', "\0"])
def test_a_damaged_lock_is_set_aside(bench: Bench, content: str) -> None:
    """The order is solved anew."""
    bench.publish("locked-before")
    first = bench.overlay(bench.base(), "locked-before")
    order = first.generation.read(store.ORDER)["order"]
    bench.overlays.lock_path(store.order_key(order)).write_text(content)
    assert bench.overlay(bench.base(), "locked-before", notebook="other.ipynb").installed == first.installed


def test_offline_a_known_lock_still_works_and_an_unknown_one_is_told(bench: Bench) -> None:
    """``offline`` uses uv's cache alone; what is not there is said, with the way out."""
    bench.publish("at-home")
    bench.publish("far-away")
    bench.overlay(bench.base(), "at-home")
    bench.index.asked.clear()
    assert bench.overlay(bench.base(), "at-home", offline=True, notebook="other.ipynb").ready
    built = bench.overlay(bench.base(), "far-away", offline=True)
    assert not built.ready
    assert built.failure["error"] == "InstallFailed"
    assert "go online once" in built.failure["fix"]
    assert bench.index.asked == []


def test_offline_a_wrong_build_from_a_cache_is_never_taken(bench: Bench) -> None:
    """The default index's torchaudio is in the cache, PyTorch's was never looked up."""
    bench.publish("torchaudio", "1.0")
    bench.publish("torchaudio", "2.6.0+cpu", tag="cpu", requires=["torch==2.6.0"])
    venv = bench.environment("elsewhere")
    bench.uv.run("pip", "install", "--python", venv / "bin/python", "torchaudio==1.0").check("fill the cache")
    built = bench.overlay(bench.base(), "torchaudio", offline=True)
    assert not built.ready
    assert "go online" in built.told


def test_exclude_newer_reaches_the_resolver(bench: Bench) -> None:
    """A moment before every upload: nothing is new enough to have been there."""
    bench.publish("recent")
    built = bench.overlay(bench.base(), "recent", exclude_newer="2001-01-01T00:00:00Z")
    assert not built.ready
    assert "recent" in built.told
    assert "2001-01-01" in built.told


def test_exclude_newer_leaves_pytorchs_index_to_the_base(bench: Bench) -> None:
    """That index names no dates, and a cut-off must not make torchvision impossible."""
    built = bench.overlay(bench.base(), "torchvision", exclude_newer="2001-01-01T00:00:00Z")
    assert built.installed == {"torchvision": "0.21.0+cpu"}


# --- an index in trouble -----------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["hang", "trickle", 500, 401, "redirect-loop", "cut-short"])
@pytest.mark.parametrize("which", ["torchvision", "plain-extra"])
def test_an_index_in_trouble_is_told_soon_and_by_its_real_name(
    bench: Bench, trouble: str | int, which: str
) -> None:
    """PyTorch's or the default one: a message with the address that a person knows, never our own."""
    name = f"needs-{which}-{trouble}"  # no lock is known yet
    bench.publish(name, requires=[which])
    bench.publish("plain-extra")
    bench.base()
    bench.env["UV_HTTP_TIMEOUT"] = "2"
    page = "/whl/cpu/torchvision/" if which == "torchvision" else "/simple/plain-extra/"
    bench.index.misbehave(page, trouble)  # type: ignore[arg-type] # one of Trouble
    started = time.monotonic()
    built = bench.overlay(bench.base(), name)
    assert built.failure["error"] == "InstallFailed"
    assert time.monotonic() - started < SOON
    assert f"{bench.index.address}{page}" in built.told or f"({bench.index.default})" in built.told
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", built.told)) == {str(bench.index.port)}
    assert built.failure["fix"]


def test_what_pytorchs_index_does_not_have_is_told(bench: Bench) -> None:
    """It is not looked for anywhere else; the index that has it not is named."""
    bench.publish("torchserve", "9.0")
    built = bench.overlay(bench.base(), "torchserve")
    assert built.failure["error"] == "ResolutionFailed"
    assert f"{bench.index.address}/whl/cpu/ has no torchserve" in built.failure["why"]


def test_a_wheel_that_is_gone_is_looked_for_anew_at_the_next_try(bench: Bench) -> None:
    """A known lock names a file that its index has withdrawn: told once, then solved again."""
    old = bench.publish("withdrawn", "1.1")
    bench.overlay(bench.base(), "withdrawn")
    bench.uv.run("cache", "clean").check("cache clean")
    del bench.index.files["/simple/withdrawn/"][old.name]
    bench.publish("withdrawn", "1.0")
    gone = bench.overlay(bench.base(), "withdrawn")
    assert "404" in gone.told
    assert bench.overlay(bench.base(), "withdrawn").installed == {"withdrawn": "1.0"}


def test_a_file_that_cannot_be_fetched_is_told(bench: Bench) -> None:
    """The plan was made, the wheel does not come."""
    bench.publish("out-of-reach")
    bench.index.misbehave("/simple/out_of_reach-1.0-py3-none-any.whl", 503)
    built = bench.overlay(bench.base(), "out-of-reach")
    assert not built.ready
    assert f"{bench.index.default}/out_of_reach-1.0" in built.told
    assert "503" in built.told


def test_a_name_that_nobody_has_is_told(bench: Bench) -> None:
    """A typing error; the message names it."""
    built = bench.overlay(bench.base(), "no-such-package")
    assert not built.ready
    assert "no-such-package" in built.told
    assert built.failure["error"] == "ResolutionFailed"


# --- builders ----------------------------------------------------------------------------------------


def test_a_second_builder_of_one_overlay_steps_back(bench: Bench) -> None:
    """One builds; the other ends at once and leaves everything to the first."""
    bench.publish("slow-one")
    bench.index.misbehave("/simple/slow-one/", "wait")
    generation = bench.begin(bench.base(), "slow-one")
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=bench.env, cwd=REPOSITORY) as first:
        wait_for(lambda: bench.index.asked_for("slow-one"), "the first builder is at it")
        assert generation.state() is store.State.BUILDING
        second = bench.build(generation)
        assert (second.done.returncode, second.ready) == (0, False)
        bench.index.behave()
        assert first.wait(60) == 0
    assert Built(generation, second.done).installed == {"slow-one": "1.0"}


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_a_builder_that_is_ended_leaves_no_overlay(bench: Bench, signal_: signal.Signals) -> None:
    """Not ready, and no uv that writes on; a new generation then succeeds."""
    name = f"cut-off-{signal_.name.lower()}"
    bench.publish(name)
    bench.index.misbehave(f"/simple/{name.replace('-', '_')}-1.0-py3-none-any.whl", "wait")
    generation = bench.begin(bench.base(), name)
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=bench.env, cwd=REPOSITORY) as builder:
        wait_for(lambda: bench.fetched(name), "the wheel is being fetched")
        builder.send_signal(signal_)
        builder.wait(30)
    assert generation.state() is not store.State.READY
    bench.index.behave()
    if signal_ is signal.SIGTERM:
        assert generation.state() is store.State.ABANDONED
        wait_for(lambda: not _named_in_processes(str(generation.path)), "uv has ended as well")
    assert bench.overlay(bench.base(), name).ready


def test_a_ready_overlay_is_not_built_again(bench: Bench) -> None:
    """Whoever starts the builder once more changes nothing."""
    built = bench.overlay(bench.base(), "torchvision")
    before = tree_hash(built.path / "staging")
    assert bench.build(built.generation).done.returncode == 0
    assert tree_hash(built.path / "staging") == before


@pytest.mark.parametrize(
    "name", ["with blank", "it's", 'a "quoted" one', "größe-日本", "a$HOME;b", "x" * 120]
)
def test_overlays_lie_anywhere(bench: Bench, tmp_path: Path, name: str) -> None:
    """Blanks, quotes, other alphabets, shells' own characters, paths longer than a shebang may be."""
    code = "def say():\n    import sys\n    print('hello from', sys.prefix)\n"
    scripts = {"console_scripts": {"speak": "speaks:say"}}
    bench.publish("speaks", entry_points=scripts, files={"speaks.py": code})
    home = bench.overlays
    try:
        bench.overlays = store.Store(tmp_path / name)
        built = bench.overlay(bench.base(), "speaks", "torchvision", overlay_root=str(tmp_path / name))
    finally:
        bench.overlays = home
    assert built.ready, built.told + built.done.stderr
    bench.enter(built)
    for script, says in (("speak", f"hello from {built.path}"), ("torchrun", "2.6.0+cpu")):
        command = [built.path / "bin" / script]
        done = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == says, done.stderr
    assert built.python("import torch, torchvision, speaks; print(torch.__version__)") == "2.6.0+cpu"
    assert "compatible" in _uv(bench, built, "pip", "check")


# --- what the rest rests on: uv, pip and receipts ----------------------------------------------------


@pytest.fixture(scope="module")
def entered(workbench: Bench) -> Built:
    """An overlay with one extra, entered."""
    workbench.notebook = "entered.ipynb"
    workbench.publish("first-extra", requires=["torch", "numpy"])
    built = workbench.overlay(workbench.base(), "first-extra")
    workbench.enter(built)
    return built


def test_uv_counts_receipts_as_installed(bench: Bench, entered: Built) -> None:
    """It lists the base, finds nothing missing, and installs what needs torch without fetching torch."""
    listed = _uv(bench, entered, "pip", "list", "--format", "freeze").split()
    assert set(bench.base().manifest.constraints) <= set(listed)
    assert "compatible" in _uv(bench, entered, "pip", "check")
    bench.publish("by-hand", requires=["torch", "ipykernel", "numpy"])
    said = _uv(bench, entered, "pip", "install", "by-hand")
    assert "+ by-hand==1.0" in said
    assert "torch==" not in said
    assert not bench.fetched("torch", default=True)


def test_uninstalling_a_receipt_leaves_the_base_alone(bench: Bench, entered: Built) -> None:
    """The receipt goes, the module stays, the base is as it was."""
    before = tree_hash(bench.base().directory)
    said = _uv(bench, entered, "pip", "uninstall", "torch-plain-dependency")
    assert "- torch-plain-dependency==1.0" in said
    assert entered.python("import torch_plain_dependency; print('still there')") == "still there"
    assert tree_hash(bench.base().directory) == before


def test_an_extra_that_was_moved_in_can_be_uninstalled(bench: Bench, entered: Built) -> None:
    """RECORD is right after the move: nothing of it stays."""
    bench.publish("passing", entry_points={"console_scripts": {"pass-by": "passing:go"}})
    _uv(bench, entered, "pip", "install", "passing")
    built = bench.overlay(bench.base(), "passing")
    bench.enter(built)
    assert (built.path / "bin/pass-by").read_text().startswith(f"#!{built.path}/bin/python")
    said = _uv(bench, built, "pip", "uninstall", "passing")
    assert "- passing==1.0" in said
    assert not (built.path / "bin/pass-by").exists()
    assert not list(built.path.glob("lib/python*/site-packages/passing*"))


def test_the_overlay_says_which_environment_it_extends(bench: Bench, entered: Built) -> None:
    """uv and ty read the key; the interpreter is the true one, not a link into the base."""
    lines = (entered.path / "pyvenv.cfg").read_text().splitlines()
    assert f"extends-environment = {bench.base().manifest.prefix}" in lines
    assert "include-system-site-packages = false" in lines
    assert (entered.path / "bin/python").readlink() == Path(bench.base().manifest.interpreter)
    code = "import site, sys; print(site.getsitepackages(), sys.prefix)"
    assert bench.base().manifest.site_dirs[0] in entered.python(code)


@pytest.mark.parametrize("folder", ["plain", "with blank"])
def test_pins_hold_uv_and_pip_whatever_the_path(bench: Bench, tmp_path: Path, folder: str) -> None:
    """The variables of the kernel's environment, read by both; pip is the server's own, for the test."""
    from kernel_provisioner.overlay.environment import kernel_environment

    base = bench.base()
    home = bench.overlays
    try:
        bench.overlays = store.Store(tmp_path / folder)
        generation = bench.begin(base)
    finally:
        bench.overlays = home
    bench.publish("numpy", "1.24")
    env = kernel_environment(bench.env, generation.path, base.manifest, base.receipts)
    for command in (
        [bench.uv.path, "pip", "install", "--dry-run", "numpy==1.24"],
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(generation.python),
            "install",
            "--dry-run",
            "numpy==1.24",
        ],
    ):
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode != 0, done.stdout
        assert "2.1" in done.stdout + done.stderr, done.stderr
        assert "No such file" not in done.stderr


# --- adding to an overlay that is in use -------------------------------------------------------------


def test_packages_are_added_to_an_overlay_in_use(bench: Bench, entered: Built) -> None:
    """``%overlay add``: held by the same pins, from the same indexes, told as one line of JSON."""
    bench.publish("later", requires=["torchvision"])
    told, status = _add(bench, entered, "later")
    assert (status, told) == (0, {"changed": []})
    assert entered.python("import later, torchvision; print(torchvision.__version__)") == "0.21.0+cpu"
    bench.publish("later", "2.0", requires=["torchvision"])
    assert _add(bench, entered, "later>=2") == ({"changed": ["later"]}, 0)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("torch==9.9", "torch is the base's"), ("futuristic", "torch>=99"), ("no-such-thing", "no-such-thing"),
     ("greedy", "nvidia-nccl-cu12"), ("https://example.org/x.whl", "extras")],
)  # fmt: skip
def test_what_cannot_be_added_is_told_and_changes_nothing(
    bench: Bench, entered: Built, wanted: str, said: str
) -> None:
    """The same rules as for declared extras."""
    bench.publish("futuristic", requires=["torch>=99"])
    bench.publish("nvidia-nccl-cu12", "2.21.5")
    bench.publish("greedy", requires=["nvidia-nccl-cu12"])
    before = _uv(bench, entered, "pip", "list")
    told, status = _add(bench, entered, wanted)
    assert status == 1
    assert said in json.dumps(told)
    assert _uv(bench, entered, "pip", "list") == before


def test_adding_takes_no_wrong_build_either(bench: Bench, entered: Built) -> None:
    """Whatever the user's own uv settings prefer."""
    bench.publish("torchtune", "9.0")
    bench.publish("torchtune", "0.5+cpu", tag="cpu")
    bench.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    told, status = _add(bench, entered, "torchtune")
    assert status == 1, told
    assert "torchtune would come from" in json.dumps(told)


def _add(bench: Bench, built: Built, *wanted: str) -> tuple[dict[str, object], int]:
    done = bench.build(built.generation, "--add", *wanted).done
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told, done.returncode


def _uv(bench: Bench, built: Built, *words: str) -> str:
    """uv as a user calls it in a cell: what it says on both streams."""
    env = {
        **bench.env,
        "VIRTUAL_ENV": str(built.path),
        "UV_CONSTRAINT": (built.path / "constraints.txt").as_uri(),
    }
    command = [bench.uv.path, *words, "--color", "never"]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


def _named_in_processes(text: str) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                return True
    return False
