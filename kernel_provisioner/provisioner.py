"""The kernel provisioner: what Jupyter asks to start a notebook's kernel."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode
from traitlets.config import Config

from .notebook.find import find_notebook
from .notebook.frames import calling_frames
from .overlay.skeleton import remove_tree
from .prepare import Launch, prepare
from .settings import load_settings


class TorchOverlayProvisioner(LocalProvisioner):
    """Starts a kernel in the notebook's overlay, on the base that fits.

    The object survives restarts, and jupyter_client replays the launch's arguments to it, so
    nothing found at one launch is kept for the next.
    """

    accelerator = Unicode(
        "",
        help="""The tag that this kernel is pinned to, from the kernel spec; empty: the notebook's
        metadata and the hardware decide.""",
    ).tag(config=True)

    _launch: Launch | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the overlay and replace the command; called before every start and restart."""
        said = dict(kwargs.get("env") or {})
        # Before anything is awaited: the callers, who know a batch client's notebook, are gone then.
        found = find_notebook(
            env=said,
            cwd=_path(kwargs.get("cwd")),
            kernel_manager=self.parent,
            kernel_id=self.kernel_id or "",
            frames=calling_frames(),
        )
        kwargs = await super().pre_launch(**kwargs)
        config = self.parent.config if self.parent is not None else Config()
        launch = await asyncio.to_thread(
            prepare,
            found,
            pinned=self.accelerator,
            settings=load_settings(os.environ, config),
            environ=kwargs["env"],
            kernel_id=self.kernel_id or "",
        )
        self._release()
        self._launch = launch
        kwargs["cmd"] = [*launch.argv, *_kernel_arguments(kwargs["cmd"])]
        kwargs["env"] = launch.env
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the process, which inherits the locks on its overlay and base."""
        launch = self._launch
        if launch is not None:
            fds = tuple(lock.fd for lock in launch.held)
            kwargs["pass_fds"] = (*kwargs.get("pass_fds", ()), *fds)
        try:
            return await super().launch_kernel(cmd, **kwargs)
        finally:
            if launch is not None:
                for lock in launch.held:
                    lock.release()

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002 - jupyter_client's signature
        """Remove the overlay of a kernel that had no notebook; called after the kernel has ended."""
        await super().cleanup(restart=restart)
        self._release()

    def _release(self) -> None:
        """Let go of the last launch."""
        launch, self._launch = self._launch, None
        if launch is None:
            return
        for lock in launch.held:
            lock.release()
        if launch.scratch is not None:
            remove_tree(launch.scratch)


def _kernel_arguments(cmd: list[str]) -> list[str]:
    """The arguments for ipykernel in a kernel spec's command: from the connection file on."""
    for index, word in enumerate(cmd):
        if word == "-f" or word.startswith(("-f=", "--f=")):
            return cmd[index:]
    return []


def _path(value: object) -> Path | None:
    return Path(value) if value and isinstance(value, str | os.PathLike) else None
