"""The kernel provisioner: what Jupyter asks to start a notebook's kernel."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.multikernelmanager import MultiKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Bool, Enum, Float, TraitError, Unicode, Union, default
from traitlets.config import Config

from .errors import OverlayError
from .inkernel.shared.info import VARIABLE
from .notebook.find import Traces, traces
from .notebook.frames import calling_frames
from .system.forks import PerProcess
from .system.ports import HeldPorts, hold

if TYPE_CHECKING:  # imported beside the event loop, on which Jupyter imports this file
    from .launch.prepare import Launch
    from .overlay.store import Identity
    from .settings import Files
    from .warm import ForkedKernel, WarmContext

AUTO = "auto"
_Done = TypeVar("_Done")


class TorchOverlayProvisioner(LocalProvisioner):
    """Starts a kernel in the notebook's overlay, on the base that fits.

    The object survives restarts, and jupyter_client replays the launch's arguments to it, so
    nothing found at one launch is kept for the next, but the path that a server was asked for.
    """

    accelerator = Unicode(
        "",
        help="""The tag that this kernel is pinned to, from the kernel spec; empty: the notebook's
        metadata and the hardware decide.""",
    ).tag(config=True)

    warm = Union(
        [Bool(), Enum([AUTO])],
        default_value=AUTO,
        help="""Start kernels as forks of a process that has already imported torch. This is faster and uses
        less memory. The server keeps one such process for each base. "auto": it is started when a kernel of
        the server has imported torch from that base, unless memory is short. True: it is started beside
        the first kernel on a base, however much memory is free. Either way the first kernel on a base
        starts normally. False: never. For Jupyter servers on Linux.""",
    ).tag(config=True)

    warm_idle = Float(
        600.0, help="The process for warm starts ends after this many seconds without a kernel."
    ).tag(config=True)

    _launch: Launch | None = None
    _files: Files | None = None
    _warmly = False
    _requested = ""
    _ports = HeldPorts()

    @default("warm")
    def _warm_in_files(self) -> Any:
        return self._in_files("warm")

    @default("warm_idle")
    def _warm_idle_in_files(self) -> Any:
        return self._in_files("warm_idle")

    def _in_files(self, name: str) -> Any:
        """What our own configuration files say: the server's, where it says something, comes first."""
        from .settings import read_files

        trait: Any = self.traits()[name]
        try:
            files = self._files or read_files()
            said = files.section("TorchOverlayProvisioner").get(name, trait.default_value)
            return trait.validate(self, said)
        except (OverlayError, TraitError) as error:  # no reason why a kernel should not start
            self.log.warning("TorchOverlayProvisioner.%s in a configuration file: %s", name, error)
            return trait.default_value

    @property
    def launched(self) -> Mapping[str, Any]:
        """What the kernel was told of its launch, as JSON; nothing before the first one.

        For the server extension, which asks what a notebook's kernel runs in.
        """
        return json.loads(self._launch.env[VARIABLE]) if self._launch else {}

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the overlay and replace the command; called before every start and restart."""
        said = dict(kwargs.get("env") or {})
        # Before anything is awaited: the callers, who know a batch client's notebook, are gone then.
        seen = traces(
            env=said,
            cwd=_path(kwargs.get("cwd")),
            kernel_manager=self.parent,
            kernel_id=self.kernel_id or "",
            frames=calling_frames(),
            requested=self._requested,
        )
        self._requested = seen.requested
        self._ports.close()
        self._ports = hold(self.parent, again=self.ports_cached)
        self.ports_cached |= bool(self._ports.numbers)
        asyncio.get_running_loop().call_later(_LISTENS_WITHIN, self._ports.close)
        kwargs = await super().pre_launch(**kwargs)
        config = self.parent.config if self.parent is not None else Config()
        prepared = _aside(self._prepared, seen, config, kwargs["env"], self._launch)
        try:
            launch = await _result(prepared)
        except asyncio.CancelledError:
            prepared.add_done_callback(_let_go)  # nobody will start it
            raise
        self._launch = launch
        kwargs["cmd"] = [*launch.argv, *_kernel_arguments(kwargs["cmd"])]
        kwargs["env"] = launch.env
        return kwargs

    def _prepared(
        self, seen: Traces, config: Config, environ: Mapping[str, str], before: Launch | None
    ) -> Launch:
        """What to start; in place of ``before``, of which nothing is kept that it does not need."""
        from .launch.prepare import prepare
        from .settings import Settings, load_settings, read_files

        def settings() -> Settings:
            self._files = read_files()
            return load_settings(os.environ, config, files=self._files)

        launch = prepare(
            seen.notebook(),
            pinned=self.accelerator,
            settings=settings,
            environ=environ,
            kernel_id=self.kernel_id or "",
        )
        # A client that runs one notebook would have nothing of it: the first start is a normal one.
        self._warmly = isinstance(getattr(self.parent, "parent", None), MultiKernelManager) and self.warm
        if before is not None:
            before.release()
            if before.scratch is not None and before.scratch != launch.scratch:
                _remove_scratch(before.scratch)
        return launch

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the process, which inherits the locks on its overlay and base."""
        launch = self._launch
        if launch is not None:
            fds = tuple(lock.fd for lock in launch.held)
            kwargs["pass_fds"] = (*kwargs.get("pass_fds", ()), *fds)
        try:
            context = launch.warm_context if launch is not None and self._warmly else None
            if context is not None:
                kernel = await _to_its_end(_aside(self._fork, context, cmd, kwargs))
                if kernel is not None:
                    self.process = kernel  # type: ignore[assignment] # it does what is asked of a Popen
                    self.pid = self.pgid = kernel.pid
                    self.cwd = kwargs.get("cwd", Path.cwd())
                    await self._until_it_listens(kernel)
                    return self.connection_info
            started = await self._start(launch, cmd, kwargs)
            if context is not None and self.warm == AUTO and self.pid is not None:
                self._start_fork_server_in_time(context, self.pid, cmd, kwargs)
            return started
        finally:
            if launch is not None:
                launch.release()

    async def _start(
        self, launch: Launch | None, cmd: list[str], kwargs: dict[str, Any]
    ) -> KernelConnectionInfo:
        """Start the process; where the system cannot, one that says so, for an exception shows nothing."""
        try:
            return await super().launch_kernel(cmd, **kwargs)
        except OSError as error:
            instead = launch.instead(error) if launch is not None else None
            if instead is None:
                raise
            self.log.warning("Kernel %s: %s cannot be started", self.kernel_id, cmd[0], exc_info=error)
            words = [*instead.argv, *_kernel_arguments(cmd)]
            return await super().launch_kernel(words, **{**kwargs, "env": instead.env})

    async def _until_it_listens(self, kernel: ForkedKernel) -> None:
        """Return once a fork can be reached: a twentieth of a second in which the client would come.

        A client that is refused tries again with each of its sockets by itself, a tenth of a second later.
        Where the one that listens is later than the one that asks, it misses the first answer, and a Jupyter
        server asks again after half a second (``ZMQChannelsWebsocketConnection.nudge``). A normal start takes
        longer than anybody should wait: JupyterLab loses a cell that is run before a start is answered.
        """
        try:
            if await self._ports.until_listening(_REACHED_WITHIN, lambda: kernel.poll() is not None):
                self._ports.close()
        except asyncio.CancelledError:  # nobody knows of it
            kernel.kill()
            raise

    def _start_fork_server_in_time(
        self, context: WarmContext, pid: int, cmd: list[str], kwargs: dict[str, Any]
    ) -> None:
        """Have the base's fork server started once this kernel has imported torch."""
        from .warm import ForkRequest, WarmUnavailable, pool

        with contextlib.suppress(WarmUnavailable):
            request = ForkRequest.of(cmd, kwargs)
            pool().start_with(pid, context, request, idle=self.warm_idle)

    def _fork(self, context: WarmContext, cmd: list[str], kwargs: dict[str, Any]) -> ForkedKernel | None:
        """The kernel as a fork of a process that has imported torch; None where it has to start normally."""
        from .warm import ForkRequest, WarmUnavailable, pool

        try:
            if context.against:
                raise WarmUnavailable(context.against)
            request = ForkRequest.of(cmd, kwargs)
            kernel = pool().fork(context, request, idle=self.warm_idle, auto=self.warm == AUTO)
        except WarmUnavailable as why:
            self.log.info("Kernel %s starts normally: %s", self.kernel_id, why)
            return None
        except Exception as error:  # the edge: no warm start is worth a kernel that does not start
            self.log.warning("Kernel %s starts normally", self.kernel_id, exc_info=error)
            return None
        self.log.info("Kernel %s starts warm", self.kernel_id)
        return kernel

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002 - jupyter_client's signature
        """Let go of the launch; called after the kernel has ended, also between two of its lives.

        A notebook that was renamed meanwhile takes its overlays along. The overlay of a kernel
        without a notebook goes, but not for a restart: what its user installed is still there then.
        """
        await super().cleanup(restart=restart)
        self._ports.close()
        launch = self._launch
        if launch is None:
            return
        launch.release()
        if launch.kept is not None:
            now = traces(
                env={}, cwd=None, kernel_manager=self.parent, kernel_id=self.kernel_id or "", frames=()
            )
            await _result(_aside(_follow_rename, launch.kept, launch.seen, now))
        if launch.scratch is not None and not restart:
            await _result(_aside(_remove_scratch, launch.scratch))


_threads = PerProcess(lambda: ThreadPoolExecutor(8, thread_name_prefix="torch-overlay"))
"""Threads of our own for what looks at the disk: launches that wait for a slow one keep nobody else
waiting who uses the event loop's, and no more compete for the interpreter than leave the loop its turn."""

_LISTENS_WITHIN = 60.0  # seconds in which a kernel's ports are kept for it

_REACHED_WITHIN = 1.0  # seconds that a start waits for a fork to listen

_LOOK = 0.05  # seconds until what runs aside is looked at, where nothing wakes the event loop


def _aside(work: Callable[..., _Done], *arguments: Any) -> asyncio.Future[_Done]:
    """``work`` beside the event loop, which serves everybody."""
    loop = asyncio.get_running_loop()
    try:
        return loop.run_in_executor(_threads(), functools.partial(work, *arguments))
    except RuntimeError:  # the interpreter is ending: no thread begins now, and the loop serves nobody
        done: asyncio.Future[_Done] = loop.create_future()
        done.set_result(work(*arguments))
        return done


async def _result(work: asyncio.Future[_Done]) -> _Done:
    """What ``work`` aside gives, or raises; it goes on where who waits for it is cancelled.

    An event loop that a fork has copied shares its waker with the processes that have the others: the byte
    that says "done" may wake another one. So this looks by itself as well.
    """
    while not work.done():
        await asyncio.wait([work], timeout=_LOOK)
    return work.result()


async def _to_its_end(forked: asyncio.Future[ForkedKernel | None]) -> ForkedKernel | None:
    """The kernel, if there is one; who is cancelled still waits for it, and ends it."""
    try:
        return await _result(forked)
    except asyncio.CancelledError:
        if kernel := await _result(forked):  # in a hundredth of a second
            kernel.kill()
        raise


def _let_go(prepared: asyncio.Future[Launch]) -> None:
    if not prepared.cancelled() and prepared.exception() is None:
        prepared.result().release()


def _remove_scratch(directory: Path) -> None:
    from .overlay.skeleton import remove_tree

    remove_tree(directory)


def _follow_rename(directory: Path, seen: Identity | None, now: Traces) -> None:
    """Carry the overlays over to the name that the server's session has for the notebook now."""
    from .overlay.store import Store

    path = now.notebook().path
    if path is not None:
        with contextlib.suppress(OSError):  # the disk says no: then it is built again under that name
            Store(directory.parent).carry_over(directory, path, seen)


def _kernel_arguments(cmd: list[str]) -> list[str]:
    """The arguments for ipykernel in a kernel spec's command: from the connection file on."""
    for index, word in enumerate(cmd):
        if word == "-f" or word.startswith(("-f=", "--f=")):
            return cmd[index:]
    return []


def _path(value: object) -> Path | None:
    return Path(value) if value and isinstance(value, str | os.PathLike) else None
