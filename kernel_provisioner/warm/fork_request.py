"""What a kernel is to be started as, and what stands against doing so by a fork."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase
from ..inkernel.shared.events import read_events
from ..inkernel.shared.info import VARIABLE
from ..overlay import store
from ..settings import Settings
from ..system.pause_points import pause

# What may differ between a fork server and its kernels: variables that are read when they are
# needed, not when ipykernel, torch or a library that they load is imported.
_READ_LATE = frozenset({
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK", "JPY_SESSION_NAME", "OLDPWD", "PWD", VARIABLE,
})  # fmt: skip
_FOR_A_WARNING = "PYDEVD_DISABLE_FILE_VALIDATION"
_READ_LATE_PREFIXES = ("KERNEL_", "PIP_", "UV_")
_UNDERSTOOD = frozenset({"cwd", "env", "independent", "pass_fds", "stderr", "stdin", "stdout"})
_POLL = 0.005  # seconds between two looks at a build
_LONG = frozenset({"fetch", "needs-cell", "wait"})  # phases of one that takes longer than importing torch
_PIPE, _STDOUT, DEVNULL = -1, -2, -3  # as in subprocess
_IGNORED = frozenset({"extra_arguments", "kernel_id"})  # as LocalProvisioner does


class WarmUnavailable(Exception):
    """This start has to be a normal one; the message says why."""


@dataclasses.dataclass(frozen=True)
class WarmContext:
    """The base that an overlay stands on, the settings in force, and what is against a fork there.

    ``building`` is the overlay, where it is not ready: only then it is known what it has of its own.
    """

    base: RegisteredBase
    settings: Settings
    against: str = ""
    building: store.Generation | None = None

    @property
    def key(self) -> str:
        """Equal for those that can share a fork server."""
        manifest = self.base.manifest
        parts = [manifest.id, manifest.fingerprint, manifest.created, self.settings.as_dict()]
        return json.dumps(parts, sort_keys=True)

    def wait_for_overlay(self, within: float) -> None:
        """Return once the overlay is ready; no cell waits longer, since one that ran would wait for it, too.

        Raises WarmUnavailable where it is not within so many seconds, and as soon as its builder tells that
        it has to wait, or to fetch.
        """
        until = time.monotonic() + within
        while self.building and (state := self.building.state()) is not store.State.READY:
            late = time.monotonic() >= until or _takes_long(self.building)
            if late or state is not store.State.BUILDING:
                raise WarmUnavailable("its overlay is not ready")
            pause("waits-for-overlay")
            time.sleep(_POLL)


def _takes_long(building: store.Generation) -> bool:
    return any(event["phase"] in _LONG for event in read_events(building.path))


@dataclasses.dataclass(frozen=True)
class ForkRequest:
    """A process to start, as ``subprocess.Popen`` would be told.

    ``fds`` are to be open in it under their numbers here. ``stdin``, ``stdout`` and ``stderr`` are
    what Popen takes: a descriptor, DEVNULL, or None, which is this process's own for output, and one
    that has ended for input.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    fds: tuple[int, ...] = ()
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None

    @classmethod
    def of(cls, cmd: Sequence[str], kwargs: Mapping[str, Any]) -> ForkRequest:
        """What jupyter_client's ``launch_kernel`` would start; raises NotWarm for what a fork cannot do."""
        if unknown := sorted(set(kwargs) - _UNDERSTOOD - _IGNORED):
            raise WarmUnavailable(f"a fork cannot be started with {', '.join(unknown)}")
        if kwargs.get("independent"):
            raise WarmUnavailable("it must outlive the server")
        env = {**kwargs.get("env", os.environ), "JPY_PARENT_PID": str(os.getpid())}
        return cls(
            argv=tuple(os.path.expanduser(word) for word in cmd),  # noqa: PTH111 - words, not paths
            env=env,
            cwd=os.fspath(kwargs.get("cwd") or Path.cwd()),
            fds=tuple(kwargs.get("pass_fds", ())),
            stdin=_number(kwargs.get("stdin")),
            stdout=_number(kwargs.get("stdout")),
            stderr=_number(kwargs.get("stderr")),
        )

    def environ_in(self, overlay: Path) -> dict[str, str]:
        """The environment of a fork server in another overlay: what matters to an import, and no more.

        What it starts with stays in the memory of all its kernels, and some of it is one kernel's alone.
        """
        mine = str(Path(self.argv[0]).parents[1])
        return {
            name: value.replace(mine, str(overlay))
            for name, value in self.env.items()
            if name not in _READ_LATE and not name.startswith(_READ_LATE_PREFIXES)
        }

    def as_request(self) -> dict[str, Any]:
        """For the fork, as JSON values; with what it would have inherited from this process."""
        return {
            "argv": self.argv,
            "env": dict(self.env),
            "cwd": self.cwd,
            "umask": _umask(),
            "limits": {kind: resource.getrlimit(kind) for kind in _kinds()},
            "fds": [0, 1, 2, *self.fds],
        }


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The variables that have not the same value in both environments of fork servers."""
    names = {*one, *other} - {_FOR_A_WARNING}
    return sorted(name for name in names if one.get(name) != other.get(name))


def standing() -> tuple[object, ...]:
    """What this process passes on to those that it starts, and cannot give to one that runs."""
    cgroup = ""
    with contextlib.suppress(OSError):
        cgroup = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return cgroup, frozenset(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)


def _number(stream: Any) -> int | None:
    if stream is None or (isinstance(stream, int) and stream not in (_PIPE, _STDOUT)):
        return stream
    try:
        return int(stream.fileno())
    except (AttributeError, ValueError) as error:
        raise WarmUnavailable("a fork cannot be given a pipe") from error


def _umask() -> int:
    """This process's, without setting it, which every thread would feel."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def _kinds() -> Iterator[int]:
    yield from sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
