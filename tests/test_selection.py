from __future__ import annotations

import dataclasses

import pytest

from kernel_provisioner.hardware import Gpu, Hardware
from kernel_provisioner.model.manifest import BaseManifest
from kernel_provisioner.model.request import Request
from kernel_provisioner.selection import creatable, rank, select
from tests.support.machines import (
    B200,
    CPU,
    CU118,
    CU124,
    CU126,
    CU130,
    EVERY,
    H100,
    LAPTOP,
    NEW_DRIVER,
    OLD_DRIVER,
    P100,
    ROCM,
    RTX,
    V100,
    XPU,
    base,
)


@pytest.mark.parametrize(
    ("hardware", "chosen"),
    [
        (LAPTOP, CPU),
        (OLD_DRIVER, CU126),
        (NEW_DRIVER, CU130),
        (Hardware(driver="580.65.06", gpus=(V100,)), CU126),
        (Hardware(driver="580.65.06", gpus=(P100,)), CU126),
        (Hardware(driver="470.82.01", gpus=(V100,)), CU118),
        (Hardware(driver="580.65.06", gpus=(B200,)), CU130),
        (Hardware(driver="570.86.15", gpus=(B200,)), CPU),
        (Hardware(driver="580.65.06", gpus=(V100, H100)), CU126),
        (Hardware(driver="580.65.06", gpus=(Gpu("an NVIDIA GPU"),)), CU130),
        (Hardware(driver="566.36", gpus=(RTX, RTX), wsl=True), CU126),
        (Hardware(driver="527.41", gpus=(RTX,), wsl=True), CU118),
        (Hardware(driver="527.41", gpus=(RTX,)), CU126),
        (Hardware(amd=("gfx942",)), ROCM),
        (Hardware(amd=("gfx1036",)), CPU),
        (Hardware(xpu=True), XPU),
        (Hardware(driver="580.65.06", gpus=(H100,), amd=("gfx1100",), xpu=True), CU130),
        (Hardware(platform="darwin", machine="arm64", mps=True), CPU),
    ],
    ids=[
        "laptop", "H100 on 550", "H100 on 580", "V100 on 580", "P100 on 580", "V100 on 470", "B200 on 580",
        "B200 on 570", "V100 and H100", "GPU of unknown kind", "two GPUs in WSL", "WSL with Windows' 527",
        "Linux' 527", "MI300", "Ryzen's graphics", "Arc", "all three vendors", "Mac",
    ],
)  # fmt: skip
def test_auto_takes_the_newest_build_that_driver_and_gpu_run(
    hardware: Hardware, chosen: BaseManifest
) -> None:
    """A driver alone does not decide: V100 and P100 with 580 get CUDA 12.6, which has kernels for them."""
    assert select(Request(), hardware, EVERY).base == chosen


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (("sm_80", "sm_90"), (8, 6), True),
        (("sm_86",), (8, 0), False),
        (("sm_80",), (9, 0), False),
        (("compute_80",), (12, 0), True),
        (("compute_90",), (8, 9), False),
        (("sm_90a", "compute_90a"), (9, 0), True),
        (("compute_90a",), (10, 0), False),
        (("sm_100f",), (10, 3), True),
        (("sm_100",), (10, 3), True),
        (("sm_100", "sm_120"), (12, 1), True),
        (("sm_100f",), (12, 0), False),
        (("sm_100a",), (10, 3), False),
        (("gfx942",), (9, 0), True),
    ],
)
def test_what_torch_says_it_was_built_for_is_believed(
    built_for: tuple[str, ...],
    capability: tuple[int, int],
    runs: bool,
) -> None:
    """Kernels run on later GPUs of their generation, PTX on any later one; words of no GPU say nothing."""
    hardware = Hardware(driver="580.65.06", gpus=(Gpu("NVIDIA Test", capability),))
    own = base("cu130", "2.13.0", architectures=built_for)
    assert (select(Request(), hardware, [own, CPU]).base == own) is runs


def test_the_manifest_counts_more_than_the_table() -> None:
    """Somebody's own build for Volta with CUDA 13 is taken on Volta."""
    own = base("cu130", "2.13.0a0+git1234", architectures=("sm_70",))
    assert select(Request(), Hardware(driver="580.65.06", gpus=(V100,)), [own, CPU]).base == own


def test_the_reason_is_one_sentence_with_the_facts() -> None:
    """Tag, device, driver, capability, and among how many."""
    reason = select(Request(), OLD_DRIVER, [CPU, CU124]).reason
    assert reason == (
        "torch-cu124: NVIDIA H100 80GB HBM3 (driver 550.54.15, compute capability 9.0) runs it; "
        "first of 2 bases that fit"
    )
    reason = select(Request(), dataclasses.replace(OLD_DRIVER, gpus=(H100,) * 8), [CPU, CU126]).reason
    assert reason.endswith("and 7 more run it; newest of 2 bases that fit")
    assert select(Request(), NEW_DRIVER, [CU126, CU130]).reason.endswith("newest of 2 bases that fit")
    hidden = dataclasses.replace(LAPTOP, notes=("CUDA_VISIBLE_DEVICES='' hides this machine's NVIDIA GPUs",))
    assert select(Request(), hidden, EVERY).reason == (
        "torch-cpu: no usable GPU was found (CUDA_VISIBLE_DEVICES='' hides this machine's NVIDIA GPUs); "
        "the only base that fits"
    )


def test_auto_that_passes_a_gpu_by_says_so_and_how_to_use_it() -> None:
    """cpu is taken because nothing registered runs the V100, and the command names a build that does."""
    chosen = select(Request(), Hardware(driver="580.65.06", gpus=(V100,)), [CPU, CU130])
    assert chosen.base == CPU
    (notice,) = chosen.notices
    assert notice == (
        "torch-cpu was chosen: no base that fits runs Tesla V100-SXM2-16GB (compute capability 7.0). "
        "To create one: jupyter overlay base create cu126"
    )


def test_a_gpu_that_no_published_build_runs_is_not_advised_on() -> None:
    """A Kepler card in a workstation is no reason to trouble anybody."""
    old = Hardware(driver="470.82.01", gpus=(Gpu("NVIDIA GeForce GT 710", (3, 5)),))
    assert select(Request(), old, [CPU]).notices == ()


def test_a_base_that_leaves_out_a_gpu_says_which() -> None:
    """Where nothing runs both, the newest build is taken, and the other GPU is named."""
    both = Hardware(driver="580.65.06", gpus=(V100, H100))
    assert select(Request(), both, [CPU, CU130]).notices == (
        "torch-cu130 has no kernels for Tesla V100-SXM2-16GB (compute capability 7.0), which is here too.",
    )


@pytest.mark.parametrize(
    ("torch", "chosen"),
    [
        (">=2.6", CU126),
        ("<2.7", CU124),
        ("==2.6.*", CU124),
        ("==2.13.0+cu126", CU126),
        ("==2.13.0+cpu", CPU),
        ("!=2.13.0,!=2.6.0", None),
        ("this is no specifier", None),
    ],
)
def test_the_torch_specifier_is_held(torch: str, chosen: BaseManifest | None) -> None:
    """A local label counts where it is asked for and does not matter otherwise."""
    ranked = rank(Request(torch=torch), OLD_DRIVER, [CPU, CU124, CU126, CU130])
    assert (ranked[0].base if ranked else None) == chosen


def test_a_label_that_pypi_leaves_out_is_known_from_the_tag() -> None:
    """PyPI's 2.13.0 is the cu130 build, whatever its version says."""
    assert select(Request(torch="==2.13.0+cu130"), NEW_DRIVER, EVERY).base == CU130


def test_a_pre_release_counts_like_a_release() -> None:
    """Who registers a nightly means to use it."""
    nightly = base("cpu", "2.16.0.dev20261120+cpu")
    assert select(Request(torch=">=2.14"), LAPTOP, [CPU, nightly]).base == nightly


def test_requires_python_is_held() -> None:
    """The base's interpreter runs the notebook."""
    newer = base("cpu", "2.13.0+cpu", "3.13.1")
    assert select(Request(requires_python=">=3.12"), LAPTOP, [CPU, newer]).base == newer
    assert select(Request(requires_python="<3.12"), LAPTOP, [CPU, newer]).base == CPU
    assert select(Request(), LAPTOP, [CPU, newer]).base == newer


def test_the_base_that_a_tag_means_now_comes_before_a_newer_one_of_the_tag() -> None:
    """Administrators roll out and back by the alias."""
    newer = base("cu126", "2.15.0+cu126")
    assert select(Request(), OLD_DRIVER, [CU126, newer]).base == newer
    assert select(Request(), OLD_DRIVER, [CU126, newer], aliases={"cu126": CU126.id}).base == CU126
    ranked = rank(Request(torch=">=2.14"), OLD_DRIVER, [CU126, newer], aliases={"cu126": CU126.id})
    assert [selection.base for selection in ranked] == [newer]


def test_twins_are_told_apart_by_their_ids() -> None:
    """Two bases that differ in nothing that counts: the choice must not change from launch to launch."""
    twin = CPU._replace(id=CPU.id + "-b")
    assert select(Request(), LAPTOP, [twin, CPU]).base == select(Request(), LAPTOP, [CPU, twin]).base == CPU


def test_every_base_that_fits_is_ranked() -> None:
    """The builder takes the next one where the extras need what the first does not hold."""
    ranked = rank(Request(), NEW_DRIVER, EVERY)
    assert [selection.base for selection in ranked] == [CU130, CU126, CU124, CU118, CPU]
    assert [selection.base for selection in rank(Request(accelerator="cuda"), OLD_DRIVER, EVERY)] == [
        CU126,
        CU124,
        CU118,
    ]


@pytest.mark.parametrize("accelerator", ["auto", "cuda"])
def test_a_preference_of_the_machine_decides_what_auto_and_cuda_mean(accelerator: str) -> None:
    """It comes from configuration, so that it holds from launch to launch."""
    chosen = select(Request(accelerator=accelerator), NEW_DRIVER, EVERY, preference="cu124")
    assert chosen.base == CU124
    assert "preferred on this machine" in chosen.reason
    assert chosen.notices == ()


def test_a_preference_may_be_cpu_for_auto_and_never_for_cuda() -> None:
    """A shared server can spare its GPU for who asks for it."""
    assert select(Request(), NEW_DRIVER, EVERY, preference="cpu").base == CPU
    chosen = select(Request(accelerator="cuda"), NEW_DRIVER, EVERY, preference="cpu")
    assert (chosen.base, chosen.notices) == (CU130, ())


def test_a_preference_gives_way_where_no_base_of_it_fits_and_says_so() -> None:
    """It is a preference, the request is a demand."""
    chosen = select(Request(torch=">=2.10"), NEW_DRIVER, EVERY, preference="cu124")
    assert chosen.base == CU130
    assert chosen.notices == ("No base of cu124, which this machine prefers, fits: torch-cu130 was chosen.",)


def test_a_preference_that_no_base_can_meet_is_not_passed_over() -> None:
    """Shaped like a tag, and newer than any that is known, or mistyped."""
    chosen = select(Request(), NEW_DRIVER, EVERY, preference="cu999")
    assert chosen.base == CU130
    assert chosen.notices == ("No base of cu999, which this machine prefers, fits: torch-cu130 was chosen.",)


@pytest.mark.parametrize(("asked", "chosen"), [("cu126", CU126), ("rocm", None), ("cpu", CPU)])
def test_a_preference_does_not_touch_what_a_notebook_names(asked: str, chosen: BaseManifest | None) -> None:
    """Only auto and cuda are open to interpretation."""
    ranked = rank(Request(accelerator=asked), NEW_DRIVER, EVERY, preference="cu124")
    assert (ranked[0].base if ranked else None) == chosen


def test_the_kernel_that_was_picked_wins_over_the_notebook() -> None:
    """In one line, so that nobody wonders."""
    chosen = select(Request(accelerator="cpu"), OLD_DRIVER, EVERY, pinned="cu124", preference="cpu")
    assert chosen.base == CU124
    assert chosen.notices == (
        "The kernel that you picked is torch-cu124, the notebook asks for cpu: the picked kernel is used.",
    )
    for agreeing in ("auto", "cuda", "cu124"):
        assert select(Request(accelerator=agreeing), OLD_DRIVER, EVERY, pinned="cu124").notices == ()


@pytest.mark.parametrize(
    ("hardware", "pinned", "why"),
    [
        (LAPTOP, "cu124", "no usable NVIDIA GPU was found"),
        (OLD_DRIVER, "cu130", "it needs NVIDIA driver 580 or newer, this machine has 550.54.15"),
        (Hardware(driver="580.65.06", gpus=(V100,)), "cu130", "its torch has no kernels for Tesla V100"),
        (LAPTOP, "rocm6.4", "no usable AMD GPU was found"),
        (LAPTOP, "xpu", "no usable Intel GPU was found"),
    ],
)
def test_a_picked_kernel_starts_without_its_device_and_says_so(
    hardware: Hardware, pinned: str, why: str
) -> None:
    """torch imports on any machine, and who picked it may only want to read a model."""
    chosen = select(Request(), hardware, EVERY, pinned=pinned)
    assert chosen.base.tag == pinned
    (notice,) = chosen.notices
    assert notice.startswith(f"torch-{pinned} can compute only on the CPU here: {why}")


def test_of_two_bases_of_a_picked_tag_the_one_that_the_gpu_runs_is_taken() -> None:
    """cu128 lost Volta with torch 2.11."""
    old, new = base("cu128", "2.10.0+cu128"), base("cu128", "2.11.0+cu128")
    machine = Hardware(driver="580.65.06", gpus=(V100,))
    assert select(Request(), machine, [old, new], pinned="cu128", aliases={"cu128": new.id}).base == old


def test_what_is_advised_runs_every_gpu_if_anything_does() -> None:
    """V100 and H100: 12.6 for both rather than 13.2 for one."""
    assert creatable("auto", Request(), Hardware(driver="580.65.06", gpus=(V100, H100))) == "cu126"
