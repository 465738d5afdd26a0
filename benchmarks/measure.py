"""Start kernels as a Jupyter server does, in this process, and take their times and memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from kernel_provisioner.provisioner import TorchOverlayProvisioner

ANSWERS_WITHIN = 300.0
"""Seconds for a kernel's answer; the very first build fetches wheels."""

_RECONNECT = 2  # ms; ZeroMQ's own 100 ms would round every time up to the next tenth of a second


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds since ``start_kernel`` was called; ``pre_launch``: spent inside that method."""

    kernel_info: float
    first_cell: float
    pre_launch: float


@dataclasses.dataclass(frozen=True)
class Start:
    """What to start: a kernel spec, as Jupyter finds it, its notebook, and the code of the first cell.

    ``warm``: as a server does that wants warm starts, ``c.TorchOverlayProvisioner.warm``.
    """

    spec: KernelSpec
    cell: str
    notebook: Path
    warm: bool = False


@dataclasses.dataclass(frozen=True)
class Running:
    """A kernel that has run its first cell, as jupyter_client's provisioner holds it."""

    process: Any
    times: Times


async def measure(start: Start, environ: Mapping[str, str]) -> Times:
    """Start a kernel, run its first cell, end it; raises RuntimeError where the cell failed."""
    async with running(start, environ) as kernel:
        return kernel.times


@contextlib.asynccontextmanager
async def running(
    start: Start, environ: Mapping[str, str], *, reconnect: int = _RECONNECT
) -> AsyncIterator[Running]:
    """A kernel that runs for as long as the context lasts; raises RuntimeError where its cell failed.

    ``reconnect``: milliseconds between a client's tries to reach a kernel that does not listen yet.
    """
    server = AsyncMultiKernelManager()  # a kernel that is no server's never starts warm
    manager = AsyncKernelManager(
        kernel_name=start.spec.display_name, kernel_id=str(uuid.uuid4()), parent=server
    )
    manager._kernel_spec = start.spec  # noqa: SLF001 - what kernel_name would be looked up for
    factory = KernelProvisionerFactory.instance(parent=manager)
    provisioner = factory.create_provisioner_instance(manager.kernel_id, start.spec, parent=manager)
    assert isinstance(provisioner, LocalProvisioner)  # as all that start processes here
    if isinstance(provisioner, TorchOverlayProvisioner):
        provisioner.warm = start.warm
    clock = _Clock(provisioner)
    manager.provisioner = provisioner
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.RECONNECT_IVL, reconnect)
    began = time.perf_counter()
    await manager.start_kernel(
        env={**environ, "JPY_SESSION_NAME": os.fspath(start.notebook)},
        cwd=os.fspath(start.notebook.parent),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # ipykernel's remarks on TCP; what fails is told in the reply
    )
    client = manager.client(context=context)
    try:
        client.start_channels(stdin=False, hb=False)
        client.kernel_info()
        await _reply(client, manager)
        answered = time.perf_counter()
        client.execute(start.cell, allow_stdin=False)
        reply = await _reply(client, manager)
        done = time.perf_counter()
        if reply["status"] != "ok":
            raise RuntimeError("\n".join(reply.get("traceback", ())) or str(reply))
        yield Running(provisioner.process, Times(answered - began, done - began, clock.took))
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        context.destroy(linger=0)


def pss(pid: int) -> int:
    """Bytes of memory that a process takes; a page that several share is counted in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class _Clock:
    """Takes the time that one provisioner spends in its ``pre_launch``."""

    def __init__(self, provisioner: LocalProvisioner) -> None:
        self.took = 0.0
        inner = provisioner.pre_launch

        async def pre_launch(**kwargs: Any) -> dict[str, Any]:
            begin = time.perf_counter()
            prepared = await inner(**kwargs)
            self.took = time.perf_counter() - begin
            return prepared

        provisioner.pre_launch = pre_launch  # type: ignore[method-assign] # this one object's


async def _reply(client: Any, manager: AsyncKernelManager) -> dict[str, Any]:
    deadline = time.monotonic() + ANSWERS_WITHIN
    while time.monotonic() < deadline:
        try:
            message = await client.get_shell_msg(timeout=1)
        except queue.Empty as error:
            if not await manager.is_alive():
                raise RuntimeError("the kernel died") from error
            continue
        content: dict[str, Any] = message["content"]
        return content
    raise RuntimeError(f"the kernel did not answer within {ANSWERS_WITHIN:g} s")
