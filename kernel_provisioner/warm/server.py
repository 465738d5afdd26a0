"""One fork server, as the Jupyter server that it belongs to sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from pathlib import Path
from typing import IO, Any

from ..base.registry import MANIFEST
from ..inkernel.shared import layout
from ..model.request import Request
from ..overlay import store
from ..overlay.skeleton import remove_tree, write_interpreter
from ..system import locks, processes
from .fork_request import DEVNULL, ForkRequest, WarmContext, WarmUnavailable, differing, standing
from .handle import ForkedKernel

_MAIN = Path(__file__).parents[1] / "inkernel" / "main.py"
_LOG = "fork-server.log"
_ANSWERS_WITHIN = 5.0  # seconds; it takes a hundredth
_LONGEST = 65536  # bytes of one thing that it says


class Gone(WarmUnavailable):
    """The fork server has ended, or answers no more."""


class ForkServer:
    """A process that has imported torch from a base, or is about to.

    Made for the order of a kernel that starts normally meanwhile: what matters of its environment
    is that of the kernels to come. ``idle`` is in seconds. Raises OSError and OverlayError.
    """

    def __init__(self, warm_context: WarmContext, request: ForkRequest, *, idle: float) -> None:
        self.key = warm_context.key
        self._standing = standing()
        self._said: dict[str, Any] = {}
        generation, lock = _place(warm_context)
        self._overlay = generation.path
        self._env = request.environ_in(self._overlay)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with lock, theirs:
            fds = (theirs.fileno(), lock.fd)
            words = (str(fds[0]), str(fds[1]), str(idle), warm_context.base.directory / MANIFEST)
            self._pid = processes.spawn(
                [generation.python, _MAIN, "--fork-server", *words],
                env=self._env,
                log=generation.path / _LOG,
                pass_fds=fds,
            )

    @property
    def answers(self) -> bool:
        """Whether it has said that it is there, or why it cannot be."""
        return bool(self._said) or _readable(self._line, 0.0)

    def fork(self, request: ForkRequest) -> ForkedKernel:
        """Start a kernel. Raises NotWarm where it has to start normally, Gone where any would have to."""
        if not self.answers:
            raise WarmUnavailable("its fork server is still importing torch")
        try:
            self._said = self._said or self._hear()
        except Gone as error:  # the next one would fare no better, and cost as much
            self._said = {"refused": f"{error}; {self._overlay / _LOG} may say why"}
        if "ready" not in self._said:
            raise WarmUnavailable(f"there can be no fork server: {self._said['refused']}")
        if names := differing(self._env, request.environ_in(self._overlay)):
            raise WarmUnavailable(f"its environment is not the fork server's: {', '.join(names)}")
        if self._standing != standing():
            raise WarmUnavailable(
                "this server's control group, processors or priority are not the fork server's"
            )
        return self._fork(request)

    def end(self) -> None:
        """Let it go: it ends, and its kernels live on."""
        self._line.close()
        remove_tree(self._overlay.parent)  # in case that it could not

    def _fork(self, request: ForkRequest) -> ForkedKernel:
        heard, answers = os.pipe()
        with os.fdopen(heard, "rb", buffering=0) as answer:
            with contextlib.ExitStack() as opened:
                opened.callback(os.close, answers)
                fds = [_request(request, opened), answers, *_streams(request, opened), *request.fds]
                try:
                    socket.send_fds(self._line, [b"k"], fds)
                except OSError as error:
                    raise Gone(f"its fork server takes no order: {error}") from error
            try:
                said = self._hear()
            except Gone:  # it may have forked before: that kernel must not run beside the normal one
                if stray := _answer(answer).get("ready"):
                    ForkedKernel(stray).kill()
                raise
            if "pid" not in said:
                raise WarmUnavailable(f"its fork server cannot fork: {said['refused']}")
            kernel = ForkedKernel(said["pid"])
            told = _answer(answer)
        if "ready" not in told:
            kernel.kill()
            kernel.wait(_ANSWERS_WITHIN)
            raise WarmUnavailable(told.get("refused", "the fork did not answer"))
        return kernel

    def _hear(self) -> dict[str, Any]:
        """The next thing that the fork server says; raises Gone."""
        self._line.settimeout(_ANSWERS_WITHIN)
        try:
            said = self._line.recv(_LONGEST)
        except TimeoutError as error:
            processes.end_group(self._pid)
            raise Gone("its fork server does not answer") from error
        except OSError as error:
            raise Gone(f"its fork server cannot be heard: {error}") from error
        if not said:
            raise Gone("its fork server has ended")
        told: dict[str, Any] = json.loads(said)
        return told


def _place(warm_context: WarmContext) -> tuple[store.Generation, locks.Lock]:
    """An overlay without extras for it alone, held as a kernel holds its own, so that the collector knows."""
    root = store.Store(Path(warm_context.settings.overlay_root))
    directory = root.scratch_dir(f"{store.WARM}-{os.urandom(8).hex()}")  # a pid comes again, and on each host
    directory.mkdir(parents=True, mode=0o700)
    manifest = warm_context.base.manifest
    with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_ANSWERS_WITHIN):
        generation = root.begin(directory)
        lock = locks.shared(generation.path / layout.USE_LOCK)
        try:
            write_interpreter(generation.path, warm_context.base)
            request = store.spec_of(Request(), manifest, warm_context.settings)
            generation.write(
                layout.SPEC, {"order": request, "base_directory": str(warm_context.base.directory)}
            )
            generation.publish_empty(manifest.id)
        except BaseException:
            lock.release()
            raise
    return generation, lock


def _request(request: ForkRequest, opened: contextlib.ExitStack) -> int:
    """A file that holds the order, with no name and no end to its size."""
    file = os.memfd_create("kernel")
    opened.callback(os.close, file)
    with open(file, "w", encoding="ascii", closefd=False) as text:
        json.dump(request.as_request(), text)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _streams(request: ForkRequest, opened: contextlib.ExitStack) -> list[int]:
    """What are to be stdin, stdout and stderr."""
    if request.stdin is None:  # one that has ended, as jupyter_client gives a kernel
        stdin, write = os.pipe()
        os.close(write)
        opened.callback(os.close, stdin)
    else:
        stdin = request.stdin
    streams = [
        stdin,
        1 if request.stdout is None else request.stdout,
        2 if request.stderr is None else request.stderr,
    ]
    if DEVNULL in streams:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        opened.callback(os.close, null)
        return [null if stream == DEVNULL else stream for stream in streams]
    return streams


def _answer(pipe: IO[bytes]) -> dict[str, Any]:
    """What the fork says before it is a kernel; nothing where it says nothing in time."""
    said = b""
    while _readable(pipe, _ANSWERS_WITHIN) and (more := pipe.read(_LONGEST)):
        said += more
    with contextlib.suppress(ValueError):
        told: dict[str, Any] = json.loads(said)
        return told
    return {}


def _readable(file: socket.socket | IO[bytes], within: float) -> bool:
    """Whether something can be read, an end included, within so many seconds."""
    waiting = select.poll()  # ``select`` takes no descriptor from 1024 on, which a large server has
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(1000 * within))
