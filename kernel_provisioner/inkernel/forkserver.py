"""The fork server: a process that has imported ipykernel and torch, and forks kernels that need not.

It belongs to one Jupyter server, at the other end of a socket pair that nobody else can reach,
and its kernels are that server's own children (see ``clone``). It never uses torch, so that CUDA
is left for each kernel to initialise. It ends with the Jupyter server, and when it has been idle.

What it hears is one byte, with descriptors: a file that holds the request, a pipe for the
kernel's answer, and what the kernel inherits. What it says is one line of JSON each time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from .clone import CannotClone, Cloner, put_threads_away, threads
from .optional import watched
from .read_by_torch import noted
from .reinit import Origin, parts_of_path, reinit
from .relocate import kept

# What ipykernel imports only once it starts. Where it has another version, some may be missing.
_SPARED = (
    "faulthandler",
    "ipykernel.debugger",
    "psutil",
    "sqlite3",
    "tornado.platform.asyncio",
    "tornado.queues",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
)
_MOST_FDS = 253  # that one message can carry (SCM_MAX_FD)
_LOOK = (0.1, 30.0)  # seconds between looks at whether it is still of use: at least, at most


def serve(words: list[str]) -> None:
    """Serve for as long as it is of use; comes back in every kernel that is forked, and nowhere else.

    ``words``: the descriptors of the socket and of the lock on this process's own overlay, the
    seconds without a kernel after which it ends, and a file that is there for as long as the base is.
    """
    line, lock = socket.socket(fileno=int(words[0])), int(words[1])
    try:
        cloner = Cloner()
        origin = _import()
        _make_sure(opened={0, 1, 2, line.fileno(), lock})
    except Exception as error:  # the Jupyter server tells its log, and starts kernels normally
        _say(line, refused=f"{type(error).__name__}: {error}")
        _leave()
    _Server(line, cloner, origin, idle=float(words[2]), base=Path(words[3])).run()


class _Server:
    def __init__(
        self, line: socket.socket, cloner: Cloner, origin: Origin, *, idle: float, base: Path
    ) -> None:
        self._line, self._cloner, self._origin, self._idle, self._base = line, cloner, origin, idle, base
        self._kernels: set[int] = set()  # a descriptor (pidfd) of each that lives
        self._used = time.monotonic()
        self._waiting = select.poll()  # ``select`` takes no descriptor from 1024 on: a large server's line
        self._waiting.register(line, select.POLLIN)

    def run(self) -> None:
        """Answer until there is no use in it; returns in a kernel."""
        _say(self._line, ready=os.getpid())
        least, most = _LOOK
        while self._is_of_use():
            heard = {fd for fd, _ in self._waiting.poll(1000 * max(least, min(most, self._idle / 10)))}
            for kernel in self._kernels.intersection(heard):
                self._kernels.remove(kernel)
                self._waiting.unregister(kernel)
                os.close(kernel)
                self._used = time.monotonic()
            if self._line.fileno() in heard and self._answer():
                return
        _leave()

    def _is_of_use(self) -> bool:
        if not self._base.exists():
            return False
        return bool(self._kernels) or time.monotonic() - self._used < self._idle

    def _answer(self) -> bool:
        """Fork a kernel; true in it."""
        try:
            asked, fds, _, _ = socket.recv_fds(self._line, 16, _MOST_FDS)
        except ConnectionError:  # it had not read all that it was told
            asked, fds = b"", []
        if not asked:  # the Jupyter server has gone
            _leave()
        self._used = time.monotonic()
        try:
            pid = self._fork()
        except (CannotClone, OSError) as error:
            _say(self._line, refused=str(error))
        else:
            if pid == 0:
                self._line.detach()  # ``become`` closes what is open here
                reinit(fds, self._origin)
                return True
            _say(self._line, pid=pid)
        for fd in fds:
            os.close(fd)
        return False

    def _fork(self) -> int:
        if (count := threads()) != 1:
            raise CannotClone(f"it has {count} threads")
        pid = self._cloner.sibling()
        if pid:
            with contextlib.suppress(OSError):  # the kernel does not count for whether this is of use
                kernel = os.pidfd_open(pid)
                self._kernels.add(kernel)
                self._waiting.register(kernel, select.POLLIN)
        return pid


def _import() -> Origin:
    """Import all that a kernel does, in its order, and note what of this process modules have kept."""
    sys.modules.pop("_torch_base_site", None)  # each overlay has its own
    place = os.path.join(sys.prefix, "cwd")  # a name that nothing else has, to be found where it was kept
    os.mkdir(place)
    os.chdir(place)
    environ = dict(os.environ)
    importlib.import_module("_torch_overlay.kernel")
    for name in _SPARED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    kernels = _from_the_base()
    with watched() as lookups, noted() as variables:
        importlib.import_module("torch")
    all_of_it = _from_the_base()
    changed = {
        name: os.environ.get(name)
        for name in {*environ, *os.environ}
        if environ.get(name) != os.environ.get(name)
    }
    places = kept((place, sys.prefix))
    by_torch = all_of_it - kernels
    return Origin(sys.prefix, place, changed, places, all_of_it, by_torch, lookups, frozenset(variables))


def _from_the_base() -> frozenset[str]:
    """The top-level modules that are imported and lie in the base, behind this process's own overlay."""
    _, _, base = parts_of_path(sys.prefix)
    roots = tuple(entry + os.sep for entry in base)
    return frozenset(
        name
        for name, module in sys.modules.items()
        if "." not in name and (getattr(module, "__file__", None) or "").startswith(roots)
    )


def _make_sure(*, opened: set[int]) -> None:
    """Raise CannotClone where a fork of this process would be less than a new one."""
    if not hasattr(os, "pidfd_open"):
        raise CannotClone("this Python was built for a Linux without pidfd_open")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise CannotClone("warm starts are not made for a free-threaded Python")
    if threads() != 1:
        put_threads_away()
    if (count := threads()) != 1:
        raise CannotClone(f"importing torch leaves {count} threads, of which a fork has but one")
    if sys.modules["torch"].cuda.is_initialized():
        raise CannotClone("importing torch initialises CUDA here, which cannot be forked")
    if more := [file for fd, file in _open_files().items() if fd not in opened]:
        raise CannotClone("importing torch leaves open: " + ", ".join(sorted(more)))
    gc.collect()
    gc.freeze()  # the collector would write to every object, and so to every page that kernels share


def _open_files() -> dict[int, str]:
    """Each descriptor of this process, and what it leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _say(line: socket.socket, **what: Any) -> None:
    with contextlib.suppress(OSError):  # nobody hears it: the next thing heard is the line's end
        line.send(json.dumps(what).encode())


def _leave() -> NoReturn:
    """End, with what was made for this process alone."""
    shutil.rmtree(Path(sys.prefix).parent, ignore_errors=True)
    os._exit(0)
