from __future__ import annotations

import re
import subprocess

import pytest
import uv
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.accelerators import (
    DEFAULT_INDEX_TEMPLATE,
    ECOSYSTEM,
    FAMILIES,
    TAGS,
    architectures,
    available_on,
    family_of,
    index_url,
    minimum_driver,
    parse_tag,
    published,
    tag_of_build,
    tag_of_torch,
)


def test_every_tag_is_a_torch_backend_of_uv() -> None:
    """A kernel's UV_TORCH_BACKEND is its base's tag, so uv must know each one."""
    command = [uv.find_uv_bin(), "pip", "install", "--torch-backend", "none-such", "torch"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    listed = re.search(r"possible values: ([^\]]+)", told)
    assert listed, told
    assert set(TAGS) <= set(listed[1].split(", "))


def test_every_tag_has_a_family() -> None:
    """No tag stands outside the families, and each family has a tag."""
    assert {tag.family for tag in TAGS.values()} == set(FAMILIES)


def test_tags_are_listed_newest_first_within_a_family() -> None:
    """The order of TAGS can be shown to a person and searched for the newest."""
    for family in FAMILIES:
        versions = [tag.version for tag in TAGS.values() if tag.family == family]
        assert versions == sorted(versions, reverse=True)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("cpu", ()),
        ("xpu", ()),
        ("cu92", (9, 2)),
        ("cu118", (11, 8)),
        ("cu130", (13, 0)),
        ("rocm6.2.4", (6, 2, 4)),
    ],
)
def test_a_tag_knows_its_toolkit(name: str, version: tuple[int, ...]) -> None:
    """cu118 is CUDA 11.8, rocm6.2.4 is ROCm 6.2.4."""
    assert TAGS[name].version == version


def test_a_tag_is_read_whatever_its_case() -> None:
    """People write CPU and CU126."""
    assert parse_tag(" CU126 ") is TAGS["cu126"]


@pytest.mark.parametrize("name", ["cuda", "cu12", "cu999", "12.4", "", "cpu\n\x1b[31m", "\uff43\uff50\uff55"])
def test_an_unknown_tag_is_answered_with_those_that_exist(name: str) -> None:
    """The message holds the whole list, so that nobody has to look it up."""
    with pytest.raises(InvalidRequest) as caught:
        parse_tag(name)
    assert caught.value.field == "accelerator"
    assert all(tag in caught.value.why for tag in ("cpu", "cu126", "rocm6.4", "xpu"))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("cpu", "cpu"),
        ("xpu", "xpu"),
        ("cu134", "cuda"),
        ("rocm8.0", "rocm"),
        ("cuda", None),
        ("rocm", None),
        ("cu12.4", None),
        ("cu\u0661\u0662\u0664", None),
        ("", None),
    ],
)
def test_a_tag_newer_than_the_table_still_has_its_family(name: str, family: str | None) -> None:
    """A base adopted from a future torch can be chosen by its family."""
    assert family_of(name) == family


def test_the_index_of_a_tag_comes_from_the_template() -> None:
    """The default is PyTorch's own, and a mirror keeps its prefix, credentials and query."""
    assert index_url(DEFAULT_INDEX_TEMPLATE, "cu126") == "https://download.pytorch.org/whl/cu126"
    mirror = "https://me:%7Bsecret%7D@mirror.example/pytorch/whl/{tag}?x={y}"
    assert index_url(mirror, "cpu") == "https://me:%7Bsecret%7D@mirror.example/pytorch/whl/cpu?x={y}"


def test_a_template_without_a_place_for_the_tag_is_refused() -> None:
    """One index for all builds would hand a cpu base the CUDA wheel, so it is said, without the password."""
    with pytest.raises(InvalidRequest, match=r"no \{tag\}") as caught:
        index_url("https://me:secret@mirror.example/whl", "cpu")
    assert "secret" not in str(caught.value)


def test_the_ecosystem_is_spelled_as_resolvers_compare_names() -> None:
    """A name that is not canonical would never match."""
    assert {canonicalize_name(name) for name in ECOSYSTEM} == ECOSYSTEM
    assert {"torch", "torchvision", "triton", "pytorch-triton-xpu"} <= ECOSYSTEM
    assert not any(name.startswith(("nvidia-", "cuda-")) for name in ECOSYSTEM)


@pytest.mark.parametrize(
    ("platform", "tags"),
    [("linux", "cpu cu130 rocm6.4 xpu"), ("win32", "cpu cu130 xpu"), ("darwin", "cpu")],
)
def test_builds_exist_for_some_platforms_only(platform: str, tags: str) -> None:
    """macOS has its one build, and ROCm is Linux only."""
    assert [tag for tag in ("cpu", "cu130", "rocm6.4", "xpu") if available_on(tag, platform)] == tags.split()


@pytest.mark.parametrize(
    ("tag", "linux", "windows"),
    [
        ("cu132", (580,), (580,)),
        ("cu130", (580,), (580,)),
        ("cu129", (525, 60, 13), (528, 33)),
        ("cu120", (525, 60, 13), (528, 33)),
        ("cu118", (450, 80, 2), (452, 39)),
        ("cu111", (450, 80, 2), (452, 39)),
        ("cu110", (450, 36, 6), (451, 22)),
        ("cu102", (440, 33), (441, 22)),
        ("cu80", (375, 26), (376, 51)),
        ("cpu", None, None),
        ("xpu", None, None),
        ("rocm6.4", None, None),
        ("cu140", None, None),
    ],
)
def test_a_build_needs_a_driver_of_its_cuda_generation(
    tag: str, linux: tuple[int, ...] | None, windows: tuple[int, ...] | None
) -> None:
    """Minor versions of CUDA share a minimum; of a generation that is not out yet nothing is claimed."""
    assert minimum_driver(tag) == linux
    assert minimum_driver(tag, windows=True) == windows


@pytest.mark.parametrize(
    ("torch", "tag", "has", "lacks"),
    [
        ("2.13.0+cu130", "cu130", "sm_75 sm_120 compute_120", "sm_60 sm_70"),
        ("2.15.0", "cu126", "sm_50 sm_60 sm_70 sm_90", "sm_100 compute_90"),
        ("2.11.0", "cu128", "sm_75 sm_100", "sm_70"),
        ("2.10.0", "cu128", "sm_70 sm_120", "sm_60"),
        ("2.8.0", "cu129", "sm_70 sm_120", "sm_60"),
        ("2.7.1", "cu128", "sm_75 sm_120", "sm_70"),
        ("2.6.0", "cu124", "sm_50 sm_90", "sm_37 compute_90"),
        ("2.5.1+cu124", "cu124", "sm_50 compute_90", "sm_37"),
        ("2.4.0", "cu118", "sm_37 sm_90", "sm_100"),
        ("2.13.0", "rocm6.2", "gfx90a gfx942 gfx1100", "gfx1101 gfx1201"),
        ("2.13.0", "rocm7.2", "gfx950 gfx1151", "sm_90"),
    ],
)
def test_a_build_holds_kernels_for_some_devices(torch: str, tag: str, has: str, lacks: str) -> None:
    """Volta and older left with CUDA 13, Blackwell came with CUDA 12.8."""
    built_for = architectures(torch, tag)
    assert built_for is not None
    assert set(has.split()) <= set(built_for)
    assert not set(lacks.split()) & set(built_for)


@pytest.mark.parametrize(
    ("torch", "tag"),
    [("2.16.0", "cu126"), ("2.3.1", "cu121"), ("2.13.0", "cu128"), ("2.13.0", "cpu"), ("nightly", "cu130")],
)
def test_of_builds_that_were_not_published_nothing_is_claimed(torch: str, tag: str) -> None:
    """None means ask no further, decide by the driver."""
    assert architectures(torch, tag) is None


def test_arm_builds_are_for_other_devices() -> None:
    """A Grace or Spark machine gets kernels for Ampere and later only."""
    assert architectures("2.13.0", "cu126", machine="aarch64") == ("sm_80", "sm_90")
    assert "sm_110" in (architectures("2.13.0", "cu130", machine="aarch64") or ())


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_published_build_is_a_tag_with_a_driver_and_devices(machine: str) -> None:
    """Whatever may be advised can be created and judged."""
    for release, tags in published(machine):
        for tag in tags:
            assert parse_tag(tag).family == "cuda"
            assert minimum_driver(tag)
            assert architectures(f"{release}.0", tag, machine=machine)


_LINUX_X86 = 'platform_system == "Linux" and platform_machine == "x86_64"'


@pytest.mark.parametrize(
    ("local", "requires", "tag"),
    [
        ("cpu", [], "cpu"),
        ("cpu.cxx11.abi", [], "cpu"),
        ("cu126", [f"nvidia-cuda-runtime-cu12==12.6.77; {_LINUX_X86}"], "cu126"),
        ("rocm6.2.4", ["pytorch-triton-rocm==3.2.0"], "rocm6.2.4"),
        ("xpu", ["intel-sycl-rt==2025.0.4"], "xpu"),
        (None, ["filelock", "sympy>=1.13.3", 'optree>=0.13.0; extra == "optree"'], "cpu"),
        (None, [f"nvidia-cuda-runtime-cu11 (==11.7.99) ; {_LINUX_X86}"], "cu117"),
        (None, [f"nvidia-cuda-runtime-cu12==12.1.105 ; {_LINUX_X86}", "nvidia-nvjitlink-cu12"], "cu121"),
        (None, [f"nvidia-cuda-runtime-cu12==12.8.90; {_LINUX_X86}"], "cu128"),
        (None, ['nvidia-cuda-runtime==13.0.48; platform_system == "Linux"'], "cu130"),
        (None, ['cuda-toolkit[cublas,cudart]==13.0.2; platform_system == "Linux"'], "cu130"),
        (
            None,
            ['cuda-toolkit[nvtx]==13.0.*; platform_system == "Linux"', "cuda-bindings<14,>=13.0.3"],
            "cu130",
        ),
        (None, ["nvidia-cudnn-cu13==9.19.0.56"], None),
        (None, ["rocm[libraries]==7.2.0"], "rocm7.2"),
        (None, ["triton-rocm==3.5.1"], None),
        (None, ["pytorch-triton-xpu==3.3.0"], "xpu"),
        ("a0.nv25.1", ["sympy"], None),
        (None, ["this is no requirement ==", "sympy"], "cpu"),
    ],
)
def test_a_wheel_tells_its_tag(local: str | None, requires: list[str], tag: str | None) -> None:
    """By its label, else by the CUDA runtime it needs; a private build without either stays unknown."""
    assert tag_of_build(local, requires) == tag


def test_a_requirement_of_another_platform_does_not_count() -> None:
    """PyPI's one metadata for 2.6 names CUDA for x86-64, and its Arm wheel is a cpu build."""
    requires = [f"nvidia-cuda-runtime-cu12==12.4.127; {_LINUX_X86}"]
    assert tag_of_build(None, requires, environment={"platform_machine": "aarch64"}) == "cpu"
    assert tag_of_build(None, requires, environment={"platform_system": "Darwin"}) == "cpu"
    assert tag_of_build(None, requires) == "cu124"


@given(local=st.none() | st.text(max_size=20), requires=st.lists(st.text(max_size=40), max_size=5))
def test_no_metadata_breaks_the_reading_of_a_tag(local: str | None, requires: list[str]) -> None:
    """Metadata of an adopted environment may hold anything."""
    tag = tag_of_build(local, requires)
    assert tag is None or family_of(tag) in FAMILIES


@pytest.mark.parametrize(
    ("version", "said", "tag"),
    [
        ("2.13.0+cpu", (None, None, False), "cpu"),
        ("2.13.0", (None, None, False), "cpu"),
        ("2.13.0", ("13.0", None, False), "cu130"),
        ("2.6.0+cu124", ("12.4", None, False), "cu124"),
        ("1.9.0", ("10.2", None, False), "cu102"),
        ("2.6.0a0+ecf3bae40a.nv25.01", ("12.8", None, False), "cu128"),
        ("2.6.0+rocm6.2.4", (None, "6.2.41134-65d174c3e", False), "rocm6.2.4"),
        ("2.5.1", (None, "6.2.41133-dd7f95766", False), "rocm6.2"),
        ("2.9.0+xpu", (None, None, True), "xpu"),
        ("2.9.0+cpu", ("12.8", None, False), "cu128"),
        ("2.9.0", ("unknown", None, False), None),
    ],
)
def test_torch_tells_its_tag(
    version: str, said: tuple[str | None, str | None, bool], tag: str | None
) -> None:
    """What torch says of itself counts before its label, also in conda's and one's own builds."""
    assert tag_of_torch(version, *said) == tag
