"""The kernel provisioner: what Jupyter asks to start a notebook's kernel."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
from .overlay.store import Identity, Store
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
            settings=functools.partial(load_settings, os.environ, config),
            environ=kwargs["env"],
            kernel_id=self.kernel_id or "",
        )
        before, self._launch = self._launch, launch
        if before is not None:
            for lock in before.held:
                lock.release()
            if before.scratch is not None and before.scratch != launch.scratch:
                remove_tree(before.scratch)
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
        """Let go of the launch; called after the kernel has ended, also between two of its lives.

        A notebook that was renamed meanwhile takes its overlays along. The overlay of a kernel
        without a notebook goes, but not for a restart: what its user installed is still there then.
        """
        await super().cleanup(restart=restart)
        launch = self._launch
        if launch is None:
            return
        for lock in launch.held:
            lock.release()
        if launch.kept is not None:
            self._follow_rename(launch.kept, launch.seen)
        if launch.scratch is not None and not restart:
            remove_tree(launch.scratch)

    def _follow_rename(self, directory: Path, seen: Identity | None) -> None:
        """Carry the overlays over to the name that the server's session has for the notebook now."""
        now = find_notebook(
            env={}, cwd=None, kernel_manager=self.parent, kernel_id=self.kernel_id or "", frames=()
        )
        if now.path is not None:
            with contextlib.suppress(OSError):  # the disk says no: then it is built anew under that name
                Store(directory.parent).carry_over(directory, now.path, seen)


def _kernel_arguments(cmd: list[str]) -> list[str]:
    """The arguments for ipykernel in a kernel spec's command: from the connection file on."""
    for index, word in enumerate(cmd):
        if word == "-f" or word.startswith(("-f=", "--f=")):
            return cmd[index:]
    return []


def _path(value: object) -> Path | None:
    return Path(value) if value and isinstance(value, str | os.PathLike) else None
