from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.hardware import Gpu, Hardware, NvmlAnswer, NvmlUnavailable, detect
from kernel_provisioner.hardware.nvidia import capability_of, visible
from tests.support.machines import (
    B200,
    H100,
    NO_LIBRARY,
    P100,
    RTX,
    V100,
    RecordedNvml,
    answering,
    drm_files,
    kfd_files,
    nvidia_files,
    record,
)


@pytest.mark.parametrize(
    ("driver", "gpus"),
    [
        ("580.65.06", (V100,)),
        ("580.65.06", (P100,)),
        ("550.54.15", (H100, H100)),
        ("575.51.03", (B200,) * 8),
        ("580.65.06", (V100, H100)),
    ],
    ids=["V100", "P100", "two H100", "eight B200", "V100 and H100"],
)
def test_nvml_tells_the_driver_and_each_gpu(tmp_path: Path, driver: str, gpus: tuple[Gpu, ...]) -> None:
    """Name, compute capability and memory are what selection and the doctor need."""
    root = record(tmp_path, nvidia_files(driver, *(gpu.name for gpu in gpus)))
    found = detect(root=root, environ={}, nvml=answering(driver, *gpus), platform="linux", machine="x86_64")
    assert found == Hardware(driver=driver, gpus=gpus)


@pytest.mark.parametrize(
    ("model", "capability"),
    [
        ("Tesla V100-SXM2-16GB", (7, 0)),
        ("Tesla P100-PCIE-16GB", (6, 0)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
        ("NVIDIA GeForce RTX 5090", (12, 0)),
        ("NVIDIA Something New", None),
    ],
)
def test_without_nvml_the_kernel_module_tells(
    tmp_path: Path, model: str, capability: tuple[int, int] | None
) -> None:
    """Slim containers lack the library: /proc still names the model, and so what it can compute."""
    root = record(tmp_path, nvidia_files("580.65.06", model))
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.driver == "580.65.06"
    assert [(gpu.name, gpu.compute_capability) for gpu in found.gpus] == [(model, capability)]


def test_the_driver_is_read_from_proc_where_sys_is_hidden(tmp_path: Path) -> None:
    """Some containers mask /sys/module."""
    files = nvidia_files("550.54.15", "NVIDIA H100 80GB HBM3")
    del files["sys/module/nvidia/version"]
    assert (
        detect(root=record(tmp_path, files), environ={}, nvml=NO_LIBRARY, platform="linux").driver
        == "550.54.15"
    )


def test_a_closed_kernel_module_words_its_version_otherwise(tmp_path: Path) -> None:
    """NVIDIA's proprietary module leaves out "Open" and "for x86_64"."""
    words = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    root = record(tmp_path, {"proc/driver/nvidia/version": words, "dev/nvidia0": ""})
    assert detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux").driver == "535.183.01"


def test_devices_alone_count_as_gpus_of_unknown_kind(tmp_path: Path) -> None:
    """Where /proc is masked too, the device nodes still say how many GPUs were given."""
    root = record(
        tmp_path, {"sys/module/nvidia/version": "580.65.06", "dev/nvidia0": "", "dev/nvidiactl": ""}
    )
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.gpus == (Gpu("an NVIDIA GPU"),)


@pytest.mark.parametrize(
    "nvml",
    [
        NO_LIBRARY,
        answering("580.65.06", H100),
        RecordedNvml(NvmlUnavailable("NVIDIA's driver is not loaded", refused=True)),
    ],
    ids=["no library", "library of the image", "library says no"],
)
def test_a_container_that_was_given_no_gpu_has_none(tmp_path: Path, nvml: RecordedNvml) -> None:
    """/sys and /proc show the host's driver and GPUs there; only a device node makes one usable."""
    files = nvidia_files("580.65.06", "NVIDIA H100 80GB HBM3")
    del files["dev/nvidia0"]
    root = record(tmp_path, {**files, ".dockerenv": ""})
    found = detect(root=root, environ={}, nvml=nvml, platform="linux")
    assert found.gpus == ()
    assert found.container
    assert found.notes == (
        "NVIDIA driver 580.65.06 is loaded on the host, but no /dev/nvidia0 was given to this system",
    )


def test_a_container_sees_only_the_gpus_it_was_given(tmp_path: Path) -> None:
    """/proc lists all four of the host's, the container opens the third."""
    files = nvidia_files("580.65.06", *["NVIDIA H100 80GB HBM3"] * 4)
    for number in (0, 1, 3):
        del files[f"dev/nvidia{number}"]
    found = detect(root=record(tmp_path, files), environ={}, nvml=NO_LIBRARY, platform="linux")
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-2"]


def test_a_driver_upgraded_under_way_is_no_gpu_until_the_restart(tmp_path: Path) -> None:
    """CUDA fails then as well, and the note says what helps."""
    root = record(tmp_path, nvidia_files("580.65.06", "NVIDIA H100 80GB HBM3"))
    why = "NVIDIA's driver was upgraded since it was loaded: the machine needs a restart"
    found = detect(
        root=root, environ={}, nvml=RecordedNvml(NvmlUnavailable(why, refused=True)), platform="linux"
    )
    assert found.gpus == ()
    assert found.notes == (why,)


def test_wsl_has_the_gpus_that_windows_gives_it(tmp_path: Path) -> None:
    """There is no kernel module and no /dev/nvidia0 there, but /dev/dxg; several GPUs are several."""
    kernel = "Linux version 5.15.167.4-microsoft-standard-WSL2 (gcc 11.2.0) #1 SMP\n"
    root = record(tmp_path, {"proc/version": kernel, "dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""})
    found = detect(root=root, environ={}, nvml=answering("566.36", RTX, RTX), platform="linux")
    assert found.wsl
    assert found.driver == "566.36"
    assert found.gpus == (RTX, RTX)


def test_wsl_without_nvidia_has_none(tmp_path: Path) -> None:
    """/dev/dxg alone may be any vendor's."""
    root = record(tmp_path, {"proc/version": "Linux version 5.15-microsoft-standard-WSL2", "dev/dxg": ""})
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.wsl
    assert found.gpus == ()


@pytest.mark.parametrize("hidden", ["", "-1", "none", "NoDevFiles", "7", "GPU-99", "-1,0", "0,0"])
def test_cuda_visible_devices_can_hide_every_gpu(tmp_path: Path, hidden: str) -> None:
    """Empty and -1 mean none, and so does a list whose first entry fits no device."""
    root = record(tmp_path, nvidia_files("580.65.06", H100.name))
    environ = {"CUDA_VISIBLE_DEVICES": hidden}
    found = detect(root=root, environ=environ, nvml=answering("580.65.06", H100), platform="linux")
    assert found.gpus == ()
    assert found.driver == "580.65.06"
    assert found.notes == (f"CUDA_VISIBLE_DEVICES={hidden!r} hides this machine's NVIDIA GPUs",)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ("0", (B200,)),
        ("1,0", (H100, B200)),
        ("2, 0", (V100, B200)),
        ("0,-1,1", (B200,)),
        ("1,9,0", (H100,)),
        ("GPU-11111111-aaaa", (V100,)),
        ("GPU-33", (H100,)),
        ("GPU-33,0", (H100, B200)),
        ("GPU-", ()),
        ("cuda:0", ()),
        ("١", ()),
    ],
)
def test_cuda_visible_devices_names_gpus(wanted: str, left: tuple[Gpu, ...]) -> None:
    """Indexes count from the fastest GPU on, UUIDs may be shortened while they are unique."""
    assert visible((V100, H100, B200), wanted) == left


def test_indexes_follow_the_bus_where_cuda_is_told_so() -> None:
    """CUDA_DEVICE_ORDER=PCI_BUS_ID is how people make them agree with nvidia-smi."""
    assert visible((V100, H100, B200), "0", pci_order=True) == (V100,)


def test_a_slice_of_a_gpu_counts_as_its_gpu() -> None:
    """MIG instances have UUIDs of their own; two of them may lie on one GPU."""
    sliced = dataclasses.replace(H100, partitions=("MIG-aaaa-1", "MIG-bbbb-2"))
    assert visible((V100, sliced), "MIG-bbbb-2") == (sliced,)
    assert visible((V100, sliced), "MIG-aaaa-1,MIG-bbbb-2") == (sliced,)
    assert visible((V100, sliced), "MIG-GPU-33333333-cccc/1/0") == (sliced,)
    assert visible((V100, sliced), "MIG-cccc-3") == ()


@given(st.text(max_size=30))
def test_no_value_of_cuda_visible_devices_breaks_detection(wanted: str) -> None:
    """It is a variable that anybody may set to anything."""
    assert set(visible((V100, H100), wanted)) <= {V100, H100}


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("Tesla K80", (3, 7)),
        ("Tesla M60", (5, 2)),
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1)),
        ("Tesla P4", (6, 1)),
        ("Quadro GP100", (6, 0)),
        ("NVIDIA TITAN V", (7, 0)),
        ("Tesla T4", (7, 5)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("NVIDIA A10G", (8, 6)),
        ("NVIDIA RTX A6000", (8, 6)),
        ("NVIDIA L40S", (8, 9)),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9)),
        ("NVIDIA GH200 480GB", (9, 0)),
        ("NVIDIA GB200", (10, 0)),
        ("NVIDIA B300 SXM6 AC", (10, 3)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0)),
        ("NVIDIA GB10", (12, 1)),
        ("Unknown", None),
    ],
)
def test_a_model_tells_its_compute_capability(name: str, capability: tuple[int, int] | None) -> None:
    """The names are the driver's own."""
    assert capability_of(name) == capability


def test_rocm_gpus_are_named_as_torch_names_them(tmp_path: Path) -> None:
    """Eight MI300X beside two processors; the number 90402 means gfx942."""
    files = {**kfd_files(0, 0, 0), **kfd_files(1, 0, 0), "dev/kfd": ""}
    for number in range(8):
        files |= {**kfd_files(2 + number, 90402, 128 + number), f"dev/dri/renderD{128 + number}": ""}
    found = detect(root=record(tmp_path, files), environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.amd == ("gfx942",) * 8
    assert found.gpus == ()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (90008, "gfx908"),
        (90010, "gfx90a"),
        (90500, "gfx950"),
        (100300, "gfx1030"),
        (110001, "gfx1101"),
        (120001, "gfx1201"),
    ],
)
def test_a_stepping_is_a_hexadecimal_digit(tmp_path: Path, target: int, name: str) -> None:
    """90010 is gfx90a, not gfx9010."""
    files = {**kfd_files(1, target, 128), "dev/kfd": "", "dev/dri/renderD128": ""}
    assert detect(root=record(tmp_path, files), environ={}, nvml=NO_LIBRARY, platform="linux").amd == (name,)


def test_a_container_that_was_given_no_amd_gpu_has_none(tmp_path: Path) -> None:
    """/sys shows the host's there too; ROCm needs /dev/kfd."""
    root = record(tmp_path, {**kfd_files(1, 90402, 128), "dev/dri/renderD128": ""})
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.amd == ()
    assert found.notes == ("AMD gfx942 is in the host, but /dev/kfd was not given to this system",)


@pytest.mark.parametrize(
    ("environ", "left"),
    [
        ({"HIP_VISIBLE_DEVICES": "1"}, ("gfx1100",)),
        ({"HIP_VISIBLE_DEVICES": ""}, ()),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, ("gfx1100",)),
        ({"ROCR_VISIBLE_DEVICES": "GPU-35d4e1ba6a8c39f7"}, ("gfx942", "gfx1100")),
        ({"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, ("gfx1030", "gfx1030")),
        ({"HSA_OVERRIDE_GFX_VERSION": "nonsense"}, ("gfx942", "gfx1100")),
    ],
)
def test_rocm_has_its_own_variables(tmp_path: Path, environ: dict[str, str], left: tuple[str, ...]) -> None:
    """They hide GPUs, or make ROCm take one for another."""
    devices = {"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD129": ""}
    root = record(tmp_path, {**kfd_files(1, 90402, 128), **kfd_files(2, 110000, 129), **devices})
    assert detect(root=root, environ=environ, nvml=NO_LIBRARY, platform="linux").amd == left


@pytest.mark.parametrize(
    "device",
    [0x56A0, 0x56C0, 0x0BD5, 0xE20B, 0x7D55, 0x64A0, 0xB080],
    ids=["Arc A770", "Flex 170", "Max 1550", "Arc B580", "Meteor Lake-H", "Lunar Lake", "Panther Lake"],
)
def test_an_intel_gpu_that_torch_supports_is_an_xpu(tmp_path: Path, device: int) -> None:
    """Arc, Data Center, and Core Ultra with Arc graphics."""
    root = record(tmp_path, drm_files(128, 0x8086, device))
    assert detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux").xpu


@pytest.mark.parametrize("device", [0x9A49, 0x46A6, 0x3E92], ids=["Tiger Lake", "Alder Lake", "UHD 630"])
def test_any_other_intel_graphics_is_no_xpu(tmp_path: Path, device: int) -> None:
    """Nearly every laptop has one, and torch computes on none of them."""
    root = record(tmp_path, drm_files(128, 0x8086, device))
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert not found.xpu
    assert found.notes == (f"torch does not support Intel's integrated GPU {device:#06x}",)


def test_an_arc_beside_an_integrated_gpu_is_an_xpu(tmp_path: Path) -> None:
    """The first render node is often the integrated one."""
    root = record(tmp_path, {**drm_files(128, 0x8086, 0x4680), **drm_files(129, 0x8086, 0x56A0)})
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert found.xpu
    assert found.notes == ()


def test_an_arc_that_a_container_was_not_given_is_no_xpu(tmp_path: Path) -> None:
    """/sys shows it, /dev/dri does not."""
    files = drm_files(128, 0x8086, 0x56A0)
    del files["dev/dri/renderD128"]
    assert not detect(root=record(tmp_path, files), environ={}, nvml=NO_LIBRARY, platform="linux").xpu


def test_a_machine_without_accelerators_has_none(tmp_path: Path) -> None:
    """Nothing is found, and nothing is complained about."""
    found = detect(root=tmp_path, environ={}, nvml=NO_LIBRARY, platform="linux", machine="x86_64")
    assert found == Hardware()


@pytest.mark.parametrize(("machine", "processor"), [("arm64", "Apple"), ("x86_64", "Intel")])
def test_a_mac_has_mps_where_its_processor_is_apples(tmp_path: Path, machine: str, processor: str) -> None:
    """Nothing of NVIDIA is asked there."""
    nvml = answering("1", H100)
    found = detect(root=tmp_path, environ={}, nvml=nvml, platform="darwin", machine=machine)
    assert found == Hardware(platform="darwin", machine=machine, mps=processor == "Apple")
    assert nvml.asked == 0


@pytest.mark.parametrize(
    "junk",
    ["", "\x00\xff\n\n", "gfx_target_version\ndrm_render_minor x\n", "a" * 100_000, "Model\nModel: :\n"],
)
def test_unreadable_trees_do_not_break_detection(tmp_path: Path, junk: str) -> None:
    """Drivers differ, and files may be truncated, empty or directories."""
    names = [
        "sys/module/nvidia/version",
        "proc/driver/nvidia/version",
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "sys/class/kfd/kfd/topology/nodes/0/properties",
        "sys/class/drm/renderD128/device/vendor",
        "sys/class/drm/renderD128/device/device",
        "dev/kfd",
        "proc/version",
    ]
    root = record(tmp_path, dict.fromkeys(names, junk))
    (root / "sys/class/kfd/kfd/topology/nodes/1/properties").mkdir(parents=True)
    found = detect(root=root, environ={}, nvml=NO_LIBRARY, platform="linux")
    assert (found.driver, found.gpus, found.amd, found.xpu) == ("", (), (), False)


def test_one_failing_part_does_not_spoil_the_others(tmp_path: Path) -> None:
    """Detection never raises: what broke is a note."""

    class Broken:
        def read(self) -> NvmlAnswer:
            """Fails in a way that nobody foresaw."""
            raise ZeroDivisionError("boom")

    root = record(tmp_path, {**kfd_files(1, 90402, 128), "dev/kfd": "", "dev/dri/renderD128": ""})
    found = detect(root=root, environ={}, nvml=Broken(), platform="linux")
    assert found.amd == ("gfx942",)
    assert found.notes == ("looking for NVIDIA GPUs failed: ZeroDivisionError: boom",)
    assert not found.complete


def test_this_machine_is_detected_without_importing_torch() -> None:
    """The real thing, on whatever runs this test: an answer, as JSON, and no torch in the process."""
    program = (
        "import json, sys\n"
        "from kernel_provisioner.hardware import cached_detect, detect\n"
        "found = detect()\n"
        "assert cached_detect().gpus == found.gpus or found.gpus\n"
        "print(json.dumps([found.as_dict(), 'torch' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, imported_torch = json.loads(done.stdout)
    assert found["platform"] == sys.platform
    assert isinstance(found["gpus"], list)
    assert imported_torch is False
