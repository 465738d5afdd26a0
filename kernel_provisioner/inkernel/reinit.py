"""Turn a process that was forked off the fork server into the kernel that a normal start would have begun.

A process is started with descriptors, an environment, a directory, limits and a command line, and
Python derives its paths from them. All of that is set here, once, from the request; what modules
have kept of the fork server's own is corrected, and whatever ought to be random is drawn again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import json
import os
import resource
import site
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, cast

from .optional import GIVEN, Lookups, found_now, plugins_now
from .read_by_torch import Readings
from .relocate import Place, relocate
from .title import retitle

if TYPE_CHECKING:
    from .kernel import Forked


@dataclasses.dataclass(frozen=True)
class Origin:
    """The fork server, as what it has imported knows it.

    ``changed`` are the variables that imports have set (None: removed), ``places`` where modules
    keep its prefix or directory, ``imported`` the names of what the base has given, and ``by_torch``
    of what only ``import torch`` has asked for; ``lookups`` is what that has looked for besides, and
    ``variables`` what it has asked the environment for.
    """

    prefix: str
    cwd: str
    changed: Mapping[str, str | None]
    places: list[Place]
    imported: frozenset[str]
    by_torch: frozenset[str]
    lookups: Lookups
    variables: frozenset[str]


class Unfit(Exception):
    """This kernel cannot be a fork; the message says why."""


def reinit(fds: list[int], origin: Origin) -> None:
    """Be the kernel that is asked for, and say so; a process that cannot says why, and ends.

    ``fds`` are the file with the request, the pipe for the answer, and what the kernel inherits.
    """
    request, answer = fds[:2]
    try:
        os.setsid()
        with open(request, "rb") as file:
            asked = json.load(file)
        answer = _take(dict(zip(asked["fds"], fds[2:], strict=True)), answer)
        _be_started_as(asked, origin)
        _settle_in(asked["argv"][0], origin)
        _draw_anew()
        with contextlib.suppress(OSError):  # a sandbox that forbids it shows the fork server's: no harm
            retitle(asked["argv"], asked["env"])
        os.write(answer, json.dumps({"ready": os.getpid()}).encode())
        os.close(answer)
    except BaseException as error:
        text = str(error) if isinstance(error, Unfit) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            os.write(answer, json.dumps({"refused": text}).encode())
        os._exit(1)


def _take(wanted: dict[int, int], answer: int) -> int:
    """Put each descriptor where it is wanted, close all others; returns where the answer's is now."""
    above = max(wanted) + 1
    parked = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in wanted.items()}
    answer = fcntl.fcntl(answer, fcntl.F_DUPFD_CLOEXEC, above)
    for number, fd in parked.items():
        os.dup2(fd, number)
    for fd in map(int, os.listdir("/proc/self/fd")):  # by far fewer than there may be (a thousand million)
        if fd != answer and fd not in wanted:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(fd)
    return answer


def _be_started_as(asked: dict[str, Any], origin: Origin) -> None:
    """What the system gives a process at its start, and what imports do to the environment."""
    os.umask(asked["umask"])
    for kind, limits in asked["limits"].items():
        if list(resource.getrlimit(int(kind))) != limits:
            resource.setrlimit(int(kind), tuple(limits))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for name, value in origin.changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    sys.argv[:] = asked["argv"][1:]
    sys.orig_argv[:] = asked["argv"]
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=sys.stdout.isatty())


def _settle_in(executable: str, origin: Origin) -> None:
    """Let Python be that of an overlay, as ``site`` makes it one at a start.

    Raises Unfit where the overlay has its own of something that is imported already, or what torch
    would have used.
    """
    standard, own, base = parts_of_path(origin.prefix)
    sys.path[:] = standard
    for entry in own:
        sys.path_importer_cache.pop(entry, None)
    sys.executable = executable
    sys.prefix = sys.exec_prefix = os.path.dirname(os.path.dirname(executable))
    base_executable = str(getattr(sys, "_base_executable", ""))
    vars(sys)["_base_executable"] = base_executable.replace(
        origin.prefix, sys.prefix
    )  # Python 3.10's is ours
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    site.main()
    importlib.invalidate_caches()
    staging = os.path.join(sys.prefix, "staging", os.path.relpath(own[-1], origin.prefix))
    _refuse_shadows(origin, staging, standard, base)
    forked: Forked = vars(importlib.import_module("_torch_overlay.kernel"))["FORKED"]
    forked.before_first_cell += _completions(origin.lookups, [staging, os.getcwd()])
    forked.readings = Readings(origin.variables)
    sys.path_importer_cache.pop(staging, None)
    relocate(origin.places, {origin.cwd: os.getcwd(), origin.prefix: sys.prefix})


def parts_of_path(prefix: str) -> tuple[list[str], list[str], list[str]]:
    """``sys.path``: the standard library, an overlay's own (on some ``lib64`` and ``lib``), the base's."""
    own = [entry for entry in sys.path if entry.startswith(prefix + os.sep)]
    at = sys.path.index(own[0])
    return sys.path[:at], own, sys.path[at + len(own) :]


def _refuse_shadows(origin: Origin, staging: str, standard: list[str], base: list[str]) -> None:
    """Raise Unfit where an import would have found something else than what is imported.

    In the overlay, now or once the gate has opened (what is staged counts); or in the working
    directory, where only what torch imports would have been looked for by then.
    """
    before_base = sys.path[: min(sys.path.index(entry) for entry in base)]
    overlay = [staging, *(entry for entry in before_base if entry not in standard)]
    for names, places in ((origin.imported, overlay), (origin.by_torch, [os.getcwd()])):
        for name in names:
            spec = PathFinder.find_spec(name, places)
            if spec is not None and spec.loader is not None:  # a directory without __init__ hides nothing
                raise Unfit(f"{spec.origin} is its own, and the base's {name} is imported")


def _completions(lookups: Lookups, places: list[str]) -> list[Callable[[], None]]:
    """What gives torch, before the first cell, what it would have used had it been imported here.

    Not at once: opening a notebook runs no code of its packages. Raises Unfit where that cannot be done.
    """
    if added := plugins_now(lookups, places):
        raise Unfit(f"torch loads {', '.join(added)} when it is imported, and was imported without it")
    found = found_now(lookups, places)
    if others := [name for name in found if name not in GIVEN]:
        raise Unfit(f"torch uses {', '.join(others)} where it is there, and was imported without it")
    return [GIVEN[name] for name in found]


def _draw_anew() -> None:
    """Fresh randomness for what drew its own when it was imported; ``random`` sees to itself."""
    with contextlib.suppress(AttributeError):  # a thread learns its number when it starts (not on 3.13)
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined] # noqa: SLF001
    modules: dict[str, Any] = dict(sys.modules)
    if process := modules.get("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
    if numpy := modules.get("numpy.random"):
        numpy.seed()
    if ssl := modules.get("ssl"):
        ssl.RAND_add(os.urandom(32), 32.0)
    modules["torch"].default_generator.seed()
