from __future__ import annotations

import dataclasses

import pytest

from kernel_provisioner.errors import NoBaseFits
from kernel_provisioner.hardware import Hardware
from kernel_provisioner.model.manifest import BaseManifest
from kernel_provisioner.model.request import Request
from kernel_provisioner.selection import refusal as refuse
from kernel_provisioner.selection import select
from tests.support.machines import (
    CPU,
    CU124,
    CU126,
    CU130,
    LAPTOP,
    NEW_DRIVER,
    OLD_DRIVER,
)


def refusal(request: Request, hardware: Hardware, *bases: BaseManifest, pinned: str = "") -> NoBaseFits:
    """Why none of ``bases`` fits."""
    with pytest.raises(NoBaseFits) as caught:
        select(request, hardware, bases, pinned=pinned)
    return caught.value


def test_a_refusal_explains_the_missing_gpu_by_what_was_seen_of_its_vendor() -> None:
    """What is wrong with the Intel graphics does not matter to who wants CUDA."""
    notes = ("torch does not support Intel's integrated GPU 0x9a49", "NVIDIA's driver is not loaded")
    hardware = dataclasses.replace(LAPTOP, notes=notes)
    why = refusal(Request(accelerator="cuda"), hardware, CU124).why
    assert why.endswith("no usable NVIDIA GPU was found (NVIDIA's driver is not loaded)")


@pytest.mark.parametrize("accelerator", ["cuda", "cu124"])
def test_a_notebook_that_asks_for_cuda_is_refused_without_a_gpu(accelerator: str) -> None:
    """Never silently on the cpu; the message names each base, its reason, and the line to change."""
    error = refusal(Request(accelerator=accelerator), LAPTOP, CPU, CU124)
    assert error.what == f"no registered base fits (accelerator {accelerator})"
    assert error.why.splitlines() == [
        f"cpu-torch2.13.0-py311: it is a cpu build, the notebook asks for {accelerator}",
        "cu124-torch2.6.0-py311: no usable NVIDIA GPU was found",
    ]
    assert error.fix == (
        'write "accelerator": "auto" in the notebook\'s torch_env metadata: cpu-torch2.13.0-py311 then fits'
    )


@pytest.mark.parametrize(
    ("request_", "hardware", "pinned", "fixes"),
    [
        (Request(accelerator="cuda"), OLD_DRIVER, "", ["base create cu126", '"auto"']),
        (Request(accelerator="cu124"), OLD_DRIVER, "", ["base create cu124", '"auto"']),
        (Request(accelerator="rocm"), Hardware(amd=("gfx942",)), "", ["base create rocm7.2", '"auto"']),
        (Request(accelerator="xpu"), Hardware(xpu=True), "", ["base create xpu", '"auto"']),
        (
            Request(torch=">=2.14"),
            LAPTOP,
            "",
            ["base create cpu --torch '>=2.14'", "torch requirement (>=2.14)"],
        ),
        (
            Request(torch="==2.8.*"),
            NEW_DRIVER,
            "",
            ["base create cu129 --torch '==2.8.*'", "torch requirement"],
        ),
        (
            Request(requires_python=">=3.12"),
            LAPTOP,
            "",
            ["cpu --python '>=3.12'", "requires-python (>=3.12)"],
        ),
        (Request(), LAPTOP, "cu130", ["base create cu130", "pick the kernel torch (shared)"]),
        (
            Request(accelerator="cuda", torch=">=2.14"),
            LAPTOP,
            "",
            ["base create cpu --torch '>=2.14', and write"],
        ),
    ],
)
def test_a_refusal_names_the_nearest_fixes(
    request_: Request, hardware: Hardware, pinned: str, fixes: list[str]
) -> None:
    """A base to create, and one change after which a registered base fits."""
    lines = refusal(request_, hardware, CPU, pinned=pinned).fix.splitlines()
    assert len(lines) == len(fixes)
    assert all(part in line for part, line in zip(fixes, lines, strict=True))


def test_the_fix_for_a_wrong_cuda_may_be_the_word_cuda() -> None:
    """cu130 needs a newer driver; another CUDA base is there."""
    assert 'write "accelerator": "cuda"' in refusal(Request(accelerator="cu130"), OLD_DRIVER, CPU, CU126).fix


@pytest.mark.parametrize(
    ("accelerator", "hardware", "pinned", "commands"),
    [
        ("auto", LAPTOP, "", ["jupyter overlay base create cpu"]),
        ("auto", OLD_DRIVER, "", ["jupyter overlay base create cu126", "or jupyter overlay base create cpu"]),
        ("auto", LAPTOP, "cu124", ["jupyter overlay base create cu124"]),
        ("cpu", NEW_DRIVER, "", ["jupyter overlay base create cpu"]),
        (
            "cuda",
            Hardware(platform="darwin", machine="arm64", mps=True),
            "",
            ["jupyter overlay base create cpu, and"],
        ),
    ],
)
def test_without_any_base_the_command_that_makes_one_is_named(
    accelerator: str, hardware: Hardware, pinned: str, commands: list[str]
) -> None:
    """The first thing that a new user sees must be enough."""
    error = refusal(Request(accelerator=accelerator), hardware, pinned=pinned)
    assert error.what.startswith("no torch base is registered yet")
    lines = error.fix.splitlines()
    assert len(lines) == len(commands)
    assert all(line.startswith(command) for command, line in zip(commands, lines, strict=True))


def test_where_users_make_no_bases_the_fix_names_whom_to_ask() -> None:
    """And what for."""
    error = refuse(Request(torch=">=2.6"), LAPTOP, [], "", ask="help@lab.example")
    assert error.fix == "ask help@lab.example for a base: cpu, torch >=2.6"


def test_builds_of_another_platform_are_no_choice() -> None:
    """A data directory shared between a Mac and a cluster holds both."""
    mac = Hardware(platform="darwin", machine="arm64", mps=True)
    assert "builds of cu130 do not run on darwin" in refusal(Request(), mac, CU130, pinned="cu130").why
