"""Start one kernel as a Jupyter server does, in this process, and take the times."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
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
    """What to start: a kernel spec, its notebook, and the code of the first cell.

    ``accelerator`` is the tag that a kernel of ours is pinned to; None: the spec's own command,
    started by jupyter_client alone.
    """

    spec: KernelSpec
    cell: str
    notebook: Path
    accelerator: str | None = None


class _Timed:
    """A provisioner that knows how long its ``pre_launch`` took."""

    took = 0.0

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        begin = time.perf_counter()
        prepared: dict[str, Any] = await super().pre_launch(**kwargs)  # type: ignore[misc] # of the other base
        self.took = time.perf_counter() - begin
        return prepared


class _TimedLocal(_Timed, LocalProvisioner):
    """jupyter_client's own, with a clock."""


class _TimedOverlay(_Timed, TorchOverlayProvisioner):
    """Ours, with a clock."""


async def measure(start: Start, environ: Mapping[str, str]) -> Times:
    """Start a kernel, run its first cell, end it; raises RuntimeError where the cell failed."""
    manager = AsyncKernelManager(kernel_name=start.spec.display_name, kernel_id=str(uuid.uuid4()))
    manager._kernel_spec = start.spec  # noqa: SLF001 - what kernel_name would be looked up for
    told = {"kernel_id": manager.kernel_id, "kernel_spec": start.spec, "parent": manager}
    provisioner = (
        _TimedLocal(**told)
        if start.accelerator is None
        else _TimedOverlay(**told, accelerator=start.accelerator)
    )
    manager.provisioner = provisioner
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
    began = time.perf_counter()
    await manager.start_kernel(
        env={**environ, "JPY_SESSION_NAME": os.fspath(start.notebook)},
        cwd=os.fspath(start.notebook.parent),
        stderr=subprocess.DEVNULL,  # ipykernel's remarks on TCP; what fails is told in the reply
    )
    client = manager.client(context=context)
    try:
        client.start_channels(stdin=False, hb=False)
        client.kernel_info()
        await _reply(client)
        answered = time.perf_counter()
        client.execute(start.cell, allow_stdin=False)
        reply = await _reply(client)
        done = time.perf_counter()
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        context.destroy(linger=0)
    if reply["status"] != "ok":
        raise RuntimeError("\n".join(reply.get("traceback", ())) or str(reply))
    return Times(answered - began, done - began, provisioner.took)


async def _reply(client: Any) -> dict[str, Any]:
    message = await client.get_shell_msg(timeout=ANSWERS_WITHIN)
    content: dict[str, Any] = message["content"]
    return content
