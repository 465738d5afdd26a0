"""Extras on a base: what comes from where, what is never touched, and what is told where it cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.bases import Bench
from tests.support.torch_wheels import NVIDIA
from tests.support.tree import tree_hash


@pytest.mark.parametrize("tag", Bench.tags)
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
    base = bench.base()  # before there is a newer numpy
    bench.publish("numpy", "2.3")
    bench.publish("wants-numpy", requires=["numpy>=2.2"])
    built = bench.overlay(base, "wants-numpy")
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
    base = bench.base()  # which that setting would keep from being made
    bench.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    bench.publish("torchaudio", "9.0")
    bench.publish("torchaudio", "2.6.0+cpu", tag="cpu", requires=["torch==2.6.0"])
    built = bench.overlay(base, "torchaudio")
    assert not built.ready
    assert f"torchaudio would come from {bench.index.default}" in built.told
    assert "UV_INDEX_STRATEGY" in built.told


def test_a_private_mirror_is_used_and_its_credentials_are_kept_to_itself(bench: Bench) -> None:
    """The index is a template with a password in it; messages, progress, locks and logs have none."""
    base = bench.base()
    bench.index.require("me", "s3cret")
    private = {"index_template": bench.index.template.replace("http://", "http://me:s3cret@")}
    bench.env["UV_DEFAULT_INDEX"] = bench.index.default.replace("http://", "http://me:s3cret@")
    bench.publish("needs-vision", requires=["torchvision"])
    built = bench.overlay(base, "needs-vision", **private)
    assert built.installed == {"needs-vision": "1.0", "torchvision": "0.21.0+cpu"}
    failed = bench.overlay(base, "torchtext", **private)
    assert not failed.ready
    wrong = {"index_template": private["index_template"].replace("s3cret", "exp1red")}
    refused = bench.overlay(base, "torchvision", notebook="other.ipynb", **wrong)
    assert "401" in refused.told
    assert "~/.netrc" in refused.told
    for secret in ("s3cret", "exp1red"):
        assert secret not in failed.told + refused.told
        leaks = [path for path in bench.overlays.root.rglob("*") if path.is_file() and _holds(path, secret)]
        assert leaks == []


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
    """Where the extras demand it: said, and for nobody else; installs by hand may replace it too."""
    bench.publish("numpy", "1.26")
    bench.publish("old-fashioned", requires=["numpy<2"])
    before = tree_hash(bench.base().directory)
    built = bench.overlay(bench.base(), "old-fashioned")
    assert built.content["replaced"] == {"numpy": ["2.1", "1.26"]}
    assert "numpy" not in (built.path / "constraints.txt").read_text()
    bench.enter(built)
    assert built.python("import numpy; print(numpy.__version__)") == "1.26"
    assert bench.pip(built, "list", "--format", "freeze").count("numpy==") == 1
    assert "compatible" in bench.pip(built, "check")
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


def test_a_cpu_base_refuses_gigabytes_of_accelerator_libraries(bench: Bench) -> None:
    """However deep; the extra that brings them is given, and what to declare to have them all the same."""
    bench.publish("nvidia-cublas-cu12", "12.9")
    bench.publish("middle", requires=["nvidia-cublas-cu12"])
    bench.publish("greedy", requires=["middle"])
    bench.publish("harmless")
    built = bench.overlay(bench.base(), "harmless", "greedy")
    assert built.failure["what"] == (
        "greedy would bring libraries for an accelerator: nvidia-cublas-cu12 12.9"
    )
    assert "cpu base" in built.failure["why"]
    assert not bench.fetched("nvidia-cublas-cu12")
    assert "jupyter overlay add NOTEBOOK nvidia-cublas-cu12" in built.failure["fix"]
    insists = bench.overlay(bench.base(), "greedy", "nvidia-cublas-cu12", notebook="insists.ipynb")
    assert insists.installed == {"greedy": "1.0", "middle": "1.0", "nvidia-cublas-cu12": "12.9"}


def test_the_same_for_the_cpu_is_offered_where_there_is_one(bench: Bench) -> None:
    """jax without its extra, for one."""
    bench.publish("nvidia-cudnn-cu12", "9.9")
    bench.publish("jax", extras={"cuda12": ["nvidia-cudnn-cu12"]})
    built = bench.overlay(bench.base(), "jax[cuda12]")
    assert built.failure["fix"].startswith("declare jax instead of jax[cuda12]; or")


def test_what_a_program_needs_on_every_machine_is_no_reason_to_refuse_it(bench: Bench) -> None:
    """xgboost loads nccl, and monitors ask about GPUs with nvidia-ml-py, where there is none."""
    bench.publish("nvidia-nccl-cu12", "2.21.5")
    bench.publish("nvidia-ml-py", "13")
    bench.publish("boosts", requires=["nvidia-nccl-cu12", "nvidia-ml-py"])
    built = bench.overlay(bench.base(), "boosts")
    assert built.installed == {"boosts": "1.0", "nvidia-nccl-cu12": "2.21.5", "nvidia-ml-py": "13"}


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


@pytest.mark.parametrize("trouble", ["hang", 500, 401, "redirect-loop", "cut-short"])
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
    built = bench.overlay(bench.base(), name)
    assert built.failure["error"] == "InstallFailed"
    assert f"{bench.index.address}{page}" in built.told or f"({bench.index.default})" in built.told
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", built.told)) == {str(bench.index.port)}
    assert built.failure["fix"]


def test_what_pytorchs_index_does_not_have_is_told(bench: Bench) -> None:
    """It is not looked for anywhere else; the index that has it not is named."""
    bench.publish("torchserve", "9.0")
    built = bench.overlay(bench.base(), "torchserve")
    assert built.failure["error"] == "ResolutionFailed"
    assert f"{bench.index.address}/whl/cpu/ has no torchserve" in built.failure["why"]


def test_where_a_known_wheel_is_gone_all_is_looked_up_anew(bench: Bench) -> None:
    """A known lock names a file that its index has withdrawn: the same build goes on without it."""
    old = bench.publish("withdrawn", "1.1")
    bench.overlay(bench.base(), "withdrawn")
    bench.forget_wheels()
    del bench.index.files["/simple/withdrawn/"][old.name]
    bench.publish("withdrawn", "1.0")
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
    assert built.failure["error"] == "ResolutionFailed"
    assert built.failure["what"] == "there is no package called no-such-package"
    assert "correct how it is spelt" in built.failure["fix"]


@pytest.mark.parametrize(
    ("written", "meant"), [("transfomers>=4", "transformers"), ("of_our_owm", "of-our-own")]
)
def test_a_misspelt_name_is_told_with_the_one_that_was_meant(bench: Bench, written: str, meant: str) -> None:
    """One that is well known, and one that was resolved here before."""
    bench.publish("of-our-own")
    assert bench.overlay(bench.base(), "of-our-own", notebook="before.ipynb").ready
    built = bench.overlay(bench.base(), written)
    name = re.split("[>]", written)[0].replace("_", "-")
    assert built.failure["what"] == f"there is no package called {name}; did you mean {meant}?"
    assert f"write {meant} in its place" in built.failure["fix"]


def test_a_missing_package_that_only_an_extra_needs_is_told_as_that(bench: Bench) -> None:
    """The user has not written its name."""
    bench.publish("half-there", requires=["gone-for-good"])
    built = bench.overlay(bench.base(), "half-there")
    assert built.failure["what"] == "there is no package called gone-for-good, which the extras need"
    assert "half-there" in built.failure["why"]


def _holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()
