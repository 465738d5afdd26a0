"""NVIDIA's management library (NVML), the one source that knows driver, devices and capability.

Asked through ctypes: the library comes with the driver, and one dependency less can break.
Source of names and sizes: NVIDIA, NVML API Reference, and ``nvml.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Protocol

from .value import Gpu

# Under WSL the library lies where the loader need not look.
LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")


class NvmlUnavailable(Exception):
    """NVML gave no answer. ``refused``: the driver itself said no. ``late``: it has not said anything yet."""

    def __init__(self, why: str, *, refused: bool = False, late: bool = False) -> None:
        super().__init__(why)
        self.refused = refused
        self.late = late


@dataclasses.dataclass(frozen=True)
class NvmlAnswer:
    """The driver's version and its devices in the order of their PCI addresses."""

    driver: str
    gpus: tuple[Gpu, ...]


class Nvml(Protocol):
    """Something that can be asked for NVIDIA's devices."""

    def read(self) -> NvmlAnswer:
        """The answer, however long it takes; raises NvmlUnavailable."""


class SystemNvml:
    """NVML of this machine's driver; ``load`` opens a shared library by name or raises OSError."""

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._load = load

    def read(self) -> NvmlAnswer:
        """Driver and devices; a device that does not answer (lost, not permitted) is left out."""
        session = _Session(self._open())
        session.call("nvmlInit_v2")
        try:
            count = ctypes.c_uint()
            session.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
            found = [session.gpu(index) for index in range(count.value)]
            return NvmlAnswer(session.text("nvmlSystemGetDriverVersion"), tuple(g for g in found if g))
        finally:
            with contextlib.suppress(NvmlUnavailable):
                session.call("nvmlShutdown")

    def _open(self) -> Any:
        for name in LIBRARIES:
            with contextlib.suppress(OSError):
                return self._load(name)
        raise NvmlUnavailable(f"NVIDIA's library {LIBRARIES[0]} is not installed")


class BoundedNvml:
    """Asks ``nvml`` in a thread of its own and waits for ``deadline`` seconds at most.

    Without persistence mode the first to ask waits one to three seconds for each GPU (NVIDIA,
    "Driver Persistence"), and a broken GPU can hold the call for ever. A late answer is kept for
    whoever asks next; there is never more than one call under way.
    """

    def __init__(self, nvml: Nvml, deadline: float) -> None:
        self._nvml = nvml
        self._deadline = deadline
        self._lock = threading.Lock()
        self._pending: _Pending | None = None

    def read(self) -> NvmlAnswer:
        """The answer; raises NvmlUnavailable, also when time is up."""
        with self._lock:
            pending = self._pending = self._pending or _Pending(self._nvml)
        if not pending.done.wait(self._deadline):
            raise NvmlUnavailable(f"NVIDIA's driver did not answer within {self._deadline:g} s", late=True)
        with self._lock:
            if self._pending is pending:
                self._pending = None
        if pending.answer is None:
            raise pending.error or NvmlUnavailable("NVIDIA's driver gave no answer")
        return pending.answer


class _Pending:
    """One call under way. A daemon thread: the process may end without its answer."""

    def __init__(self, nvml: Nvml) -> None:
        self.done = threading.Event()
        self.answer: NvmlAnswer | None = None
        self.error: Exception | None = None
        threading.Thread(target=self._run, args=(nvml,), name="nvml", daemon=True).start()

    def _run(self, nvml: Nvml) -> None:
        try:
            self.answer = nvml.read()
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


@dataclasses.dataclass
class _Session:
    """NVML's functions, with their error codes raised."""

    library: Any

    def gpu(self, index: int) -> Gpu | None:
        handle = ctypes.c_void_p()
        major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
        try:
            self.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            name = self.text("nvmlDeviceGetName", handle)
            uuid = self.text("nvmlDeviceGetUUID", handle)
            self.call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
        except NvmlUnavailable:
            return None
        try:
            self.call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        except NvmlUnavailable:
            memory = _Memory()  # shared with the processor (GB10, Jetson): not supported there
        return Gpu(
            name=name,
            compute_capability=(major.value, minor.value),
            memory=memory.total,
            memory_free=memory.free,
            uuid=uuid,
            partitions=self.partitions(handle),
        )

    def partitions(self, handle: ctypes.c_void_p) -> tuple[str, ...]:
        count = ctypes.c_uint()
        found = []
        try:
            self.call("nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(count))
        except NvmlUnavailable:
            return ()
        for index in range(count.value):
            part = ctypes.c_void_p()
            try:
                self.call(
                    "nvmlDeviceGetMigDeviceHandleByIndex", handle, ctypes.c_uint(index), ctypes.byref(part)
                )
                found.append(self.text("nvmlDeviceGetUUID", part))
            except NvmlUnavailable:
                continue  # this slot is not in use
        return tuple(found)

    def text(self, function: str, *handle: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(96)
        self.call(function, *handle, buffer, ctypes.c_uint(len(buffer)))
        return buffer.value.decode("utf-8", "replace")

    def call(self, function: str, *arguments: object) -> None:
        try:
            code = getattr(self.library, function)(*arguments)
        except AttributeError:
            raise NvmlUnavailable(f"this driver's NVML has no {function}") from None
        if code:
            raise NvmlUnavailable(_REASONS.get(code, f"{function} failed with code {code}"), refused=True)


_REASONS = {
    4: "NVIDIA's driver does not let this user ask",
    9: "NVIDIA's driver is not loaded",
    15: "an NVIDIA GPU is lost: it fell off the bus, or the machine needs a restart",
    18: "NVIDIA's driver was upgraded since it was loaded: the machine needs a restart",
}
