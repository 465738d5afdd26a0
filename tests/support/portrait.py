"""All that a kernel can tell of itself, as JSON; the text of this file is run as a cell, in any base.

Two kernels that were started alike tell the same, however they were started. What differs by
nature (numbers of inodes, the launch's own variable) is left out.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import importlib
import importlib.metadata
import json
import locale
import logging
import multiprocessing
import multiprocessing.spawn
import os
import re
import resource
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any


def portrait() -> dict[str, object]:
    """What there is to see, by subject."""
    return {**of_python(), **of_the_process(), **of_modules()}


def of_python() -> dict[str, object]:
    """Paths, flags, hooks, streams: the interpreter's own."""
    names = (
        "path prefix exec_prefix base_prefix base_exec_prefix executable _base_executable argv orig_argv "
        "flags warnoptions _xoptions platlibdir dont_write_bytecode pycache_prefix _home ps1 tracebacklimit"
    )
    main: Any = sys.modules["__main__"]
    return {
        "sys": {name: str(getattr(sys, name)) for name in names.split() if hasattr(sys, name)},
        "switches": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace(), sys.getprofile()],
        "hooks": [
            [
                _name(hook)
                for hook in (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook)
            ],
            [_name(finder) for finder in (*sys.meta_path, *sys.path_hooks)],
        ],
        "site": [site.PREFIXES, site.ENABLE_USER_SITE, site.getsitepackages(), site.getusersitepackages()],
        "sysconfig": [sysconfig.get_paths(), sysconfig.get_config_vars("prefix", "base", "platbase")],
        "streams": [_stream(one) for one in (sys.__stdin__, sys.__stdout__, sys.__stderr__)],
        "captured": [_name(one) for one in (sys.stdin, sys.stdout, sys.stderr)],
        "warnings": sorted(str(one) for one in warnings.filters),  # each import adds its own in front
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count() > 0],
        "threads": sorted(re.sub("[0-9]+", "N", f"{one.name} {one.daemon}") for one in threading.enumerate()),
        "main thread": [threading.main_thread().native_id == os.getpid(), threading.stack_size()],
        "main module": [sorted(vars(main)), main.__doc__, main.__spec__, main.__loader__, main.__name__],
        "atexit": atexit._ncallbacks(),
        "locale": [
            locale.setlocale(locale.LC_ALL),
            locale.getpreferredencoding(),
            time.tzname,
            time.timezone,
        ],
    }


def of_the_process() -> dict[str, object]:
    """What the system knows of it."""
    ours = os.getpid()
    lines = dict(line.split(":\t", 1) for line in _proc("status").splitlines() if ":\t" in line)
    of_status = ("Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd")
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    child = (
        "import json, os, sys; print(json.dumps([sys.prefix, sys.path[1:], os.getcwd(), dict(os.environ)]))"
    )
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "environ": dict(os.environ),
        "environ in libc": {name: os.fsdecode(libc.getenv(name.encode())) for name in os.environ},
        "environ at the start": _without_the_launch(_proc("environ").split("\0")),
        "command line": [_proc("cmdline"), _proc("comm"), Path("/proc/self/exe").readlink()],
        "place": [Path.cwd(), os.getppid(), os.getsid(0) == ours, os.getpgid(0) == ours, _proc("cgroup")],
        "rights": [os.getresuid(), os.getresgid(), os.getgroups(), {name: lines[name] for name in of_status}],
        "share": [
            os.getpriority(os.PRIO_PROCESS, 0),
            sorted(os.sched_getaffinity(0)),
            _proc("oom_score_adj"),
        ],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "signals": {one: _name(signal.getsignal(one)) for one in sorted(signal.valid_signals())},
        "timers": [signal.getitimer(which) for which in (0, 1, 2)],
        "descriptors": _descriptors(),
        "mapped": sorted(
            {line.split()[-1] for line in _proc("maps").splitlines() if line.endswith((".so", "/python3"))}
        ),
        "child": json.loads(subprocess.check_output([sys.executable, "-c", child])),
    }


def of_modules() -> dict[str, object]:
    """What has been imported, and what it has kept."""
    shell: Any = importlib.import_module("IPython").get_ipython()
    torch: Any = importlib.import_module("torch")
    numpy: Any = importlib.import_module("numpy")
    files = {getattr(one, "__file__", None) or "" for one in list(sys.modules.values())}
    process: Any = multiprocessing.process
    return {
        "modules": sorted(name for name in sys.modules if not name.startswith("_torch_overlay.")),
        "directories": sorted({str(Path(file).parent) for file in files}),
        "distributions": sorted(str(one._path) for one in importlib.metadata.distributions()),  # type: ignore[attr-defined]
        "multiprocessing": [
            os.fsdecode(multiprocessing.spawn.get_executable()),
            process.ORIGINAL_DIR,
            str(multiprocessing.current_process()),
            multiprocessing.get_start_method(allow_none=True),
        ],
        "logging": [sorted(logging.root.manager.loggerDict), logging.root.level, str(logging.root.handlers)],
        "asyncio": [_name(asyncio.get_event_loop_policy()), _name(asyncio.get_running_loop())],
        "torch": [
            torch.__config__.parallel_info(),
            torch.cuda.is_initialized(),
            str(torch.get_default_dtype()),
        ],
        "numpy": [numpy.geterr(), numpy.get_printoptions()],
        "temporary": [tempfile.gettempdir(), Path.home()],
        "shell": [
            sorted(name for name in shell.user_ns if not name.startswith("_")),
            shell.profile_dir.location,
            sorted(shell.magics_manager.magics["line"]),
            str(shell.config),
        ],
        "jupyter": [
            importlib.import_module("jupyter_core.paths").jupyter_path(),
            importlib.import_module("jupyter_core.paths").jupyter_config_path(),
        ],
    }


def _proc(name: str) -> str:
    return Path(f"/proc/self/{name}").read_bytes().decode(errors="surrogateescape")


def _name(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def _without_the_launch(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("TORCH_OVERLAY={")]


def _stream(one: Any) -> list[object]:
    keys = ("encoding", "errors", "line_buffering", "write_through", "name", "mode")
    return [*(getattr(one, key, None) for key in keys), one.fileno(), one.isatty()]


def _descriptors() -> list[str]:
    """What each leads to, and whether a child would inherit it; of sockets and their like, not how many."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            leads, inherits = str(entry.readlink()), os.get_inheritable(int(entry.name))
        except OSError:  # that of the listing
            continue
        if "/profile_default" not in leads:  # IPython's history, which may just be written
            found.add(f"{re.sub('[0-9]+', 'N', leads)} {inherits}")
    return sorted(found)
