from __future__ import annotations

import ctypes
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.hardware import CachedDetection, Hardware, NvmlAnswer, NvmlUnavailable, detect
from kernel_provisioner.hardware.cache import MAX_AGE, RETRY_AGE
from kernel_provisioner.hardware.nvml import BoundedNvml, SystemNvml
from tests.support.machines import GIB, H100, RecordedNvml, answering, nvidia_files, record
from tests.support.waiting import wait_for


class SlowNvml:
    """An NVML that answers only when ``release`` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls = 0

    def read(self) -> NvmlAnswer:
        """The answer, late."""
        self.calls += 1
        self.release.wait()
        return NvmlAnswer("580.65.06", (H100,))


def test_a_driver_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """A GPU that hangs must not hang the server: /proc answers meanwhile."""
    root = record(tmp_path, nvidia_files("580.65.06", "Tesla V100-SXM2-16GB"))
    slow = SlowNvml()
    found = detect(root=root, environ={}, nvml=BoundedNvml(slow, 0.01), platform="linux")
    slow.release.set()
    assert [gpu.compute_capability for gpu in found.gpus] == [(7, 0)]
    assert not found.complete


def test_a_silent_driver_is_the_reason_where_nothing_else_shows_a_gpu(tmp_path: Path) -> None:
    """The refusal of a notebook that asks for cuda then says what was waited for."""
    slow = SlowNvml()
    found = detect(root=tmp_path, environ={}, nvml=BoundedNvml(slow, 0.01), platform="linux")
    slow.release.set()
    assert found.notes == ("NVIDIA's driver did not answer within 0.01 s",)
    assert not found.complete


def test_a_late_answer_serves_the_next_who_asks() -> None:
    """However often it is asked in the meantime, one call is under way."""
    slow = SlowNvml()
    bounded = BoundedNvml(slow, 0.01)
    for _ in range(3):
        with pytest.raises(NvmlUnavailable, match=r"within 0\.01 s"):
            bounded.read()
    slow.release.set()
    wait_for(lambda: _answer(bounded) == NvmlAnswer("580.65.06", (H100,)), "the late answer")
    assert slow.calls == 1


def _answer(nvml: BoundedNvml) -> NvmlAnswer | None:
    try:
        return nvml.read()
    except NvmlUnavailable:
        return None


@dataclasses.dataclass
class Library:
    """A libnvidia-ml that fills in what it is handed, as the real one does.

    It has one GPU in two slices, and one that fell off the bus. ``codes`` are what its functions
    return where that is not 0.
    """

    codes: dict[str, int] = dataclasses.field(default_factory=dict)
    called: list[str] = dataclasses.field(default_factory=list)

    def load(self, name: str) -> Library:
        """What the loader hands out for ``name``."""
        return self

    def __getattr__(self, function: str) -> Callable[..., int]:
        """The C function of that name."""
        return lambda *arguments: self._call(function, *arguments)

    def _call(self, function: str, *arguments: Any) -> int:
        self.called.append(function)
        handed = [getattr(argument, "_obj", argument) for argument in arguments]  # what byref points to
        match function, *handed:
            case "nvmlSystemGetDriverVersion", text, size:
                assert size.value == len(text)
                text.value = b"550.54.15"
            case "nvmlDeviceGetCount_v2", count:
                count.value = 2
            case "nvmlDeviceGetHandleByIndex_v2", index, handle:
                handle.value = 0xABC0
                return 15 if index.value else 0
            case "nvmlDeviceGetName", _, text, _:
                text.value = b"NVIDIA H100 80GB HBM3"
            case "nvmlDeviceGetUUID", handle, text, _:
                text.value = b"GPU-33333333-cccc" if handle.value == 0xABC0 else b"MIG-%x" % handle.value
            case "nvmlDeviceGetCudaComputeCapability", _, major, minor:
                major.value, minor.value = 9, 0
            case "nvmlDeviceGetMemoryInfo", _, memory:
                memory.total, memory.free = 80 * GIB, 79 * GIB
            case "nvmlDeviceGetMaxMigDeviceCount", _, count:
                count.value = 7
            case "nvmlDeviceGetMigDeviceHandleByIndex", _, index, part:
                part.value = 0xF0 + index.value
                return 6 if index.value >= 2 else 0
        return self.codes.get(function, 0)


def test_nvml_is_asked_in_its_own_terms() -> None:
    """Driver, name, capability, memory and slices; a lost GPU is left out; what was opened is closed."""
    library = Library()
    answer = SystemNvml(library.load).read()
    assert answer == NvmlAnswer("550.54.15", (dataclasses.replace(H100, partitions=("MIG-f0", "MIG-f1")),))
    assert (library.called[0], library.called[-1]) == ("nvmlInit_v2", "nvmlShutdown")


def test_a_gpu_that_shares_its_memory_has_none_of_its_own() -> None:
    """NVML answers "not supported" for memory on GB10 and Jetson."""
    (gpu,) = SystemNvml(Library({"nvmlDeviceGetMemoryInfo": 3}).load).read().gpus
    assert (gpu.memory, gpu.memory_free) == (0, 0)


def test_an_error_of_nvml_is_a_refusal_in_words() -> None:
    """Code 18 is what users know from nvidia-smi as a version mismatch."""
    library = Library({"nvmlInit_v2": 18})
    with pytest.raises(NvmlUnavailable, match="needs a restart") as caught:
        SystemNvml(library.load).read()
    assert caught.value.refused
    assert library.called == ["nvmlInit_v2"]


def test_nvml_is_looked_for_where_wsl_keeps_it() -> None:
    """The loader's own path comes first."""
    tried = []

    def load(name: str) -> Library:
        tried.append(name)
        if "/" not in name:
            raise OSError(name)
        return Library()

    assert SystemNvml(load).read().driver == "550.54.15"
    assert tried == ["libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"]


def test_a_library_without_nvmls_functions_is_no_nvml() -> None:
    """A stub of that name, as some images carry, is no driver; this process itself is none either."""
    with pytest.raises(NvmlUnavailable, match="has no nvmlInit_v2") as caught:
        SystemNvml(lambda _: ctypes.CDLL(None)).read()
    assert not caught.value.refused


@dataclasses.dataclass
class Clock:
    """Seconds that pass only when told."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_an_answer_is_remembered_until_it_is_old(tmp_path: Path) -> None:
    """A server that starts many kernels asks the driver once in five minutes."""
    root = record(tmp_path, nvidia_files("580.65.06", H100.name))
    nvml, clock = answering("580.65.06", H100), Clock()
    cached = CachedDetection(root=root, nvml=nvml, clock=clock)
    first = cached({})
    clock.now += MAX_AGE - 1
    assert cached({}) is first
    assert nvml.asked == 1
    clock.now += 2
    assert cached({}) == first
    assert nvml.asked == 2


@pytest.mark.parametrize(
    "change",
    [
        {"sys/module/nvidia/version": "590.10"},
        {"dev/nvidia1": ""},
        {"dev/kfd": ""},
        {"dev/dri/renderD128": ""},
    ],
    ids=["another driver", "one GPU more", "ROCm's device", "a render node"],
)
def test_an_answer_is_forgotten_when_devices_change(tmp_path: Path, change: dict[str, str]) -> None:
    """A driver upgrade or a plugged-in GPU needs no restart of the server."""
    root = record(tmp_path, nvidia_files("580.65.06", H100.name))
    nvml = answering("580.65.06", H100)
    cached = CachedDetection(root=root, nvml=nvml, clock=Clock())
    cached({})
    record(root, change)
    cached({})
    assert nvml.asked == 2


def test_each_environment_has_its_own_answer(tmp_path: Path) -> None:
    """Sessions of one server may be given different GPUs."""
    root = record(tmp_path, nvidia_files("580.65.06", H100.name))
    cached = CachedDetection(root=root, nvml=answering("580.65.06", H100), clock=Clock())
    assert cached({}).gpus == (H100,)
    assert cached({"CUDA_VISIBLE_DEVICES": ""}).gpus == ()
    assert cached({}).gpus == (H100,)


def test_an_incomplete_answer_is_soon_asked_for_again(tmp_path: Path) -> None:
    """Where the driver was slow to wake up, a kernel ten seconds later gets the whole answer."""
    root = record(tmp_path, nvidia_files("580.65.06", "NVIDIA Something New"))
    nvml, clock = RecordedNvml(NvmlUnavailable("not yet", late=True)), Clock()
    cached = CachedDetection(root=root, nvml=nvml, clock=clock)
    assert not cached({}).complete
    nvml.answer = NvmlAnswer("580.65.06", (H100,))
    clock.now += RETRY_AGE - 1
    assert not cached({}).complete
    clock.now += 2
    assert cached({}) == Hardware(machine=cached({}).machine, driver="580.65.06", gpus=(H100,))


def test_what_is_remembered_can_be_forgotten(tmp_path: Path) -> None:
    """For the doctor, who wants to know how it is now."""
    nvml = answering("580.65.06")
    cached = CachedDetection(root=tmp_path, nvml=nvml, clock=Clock())
    cached({})
    cached.forget()
    cached({})
    assert nvml.asked == 2
