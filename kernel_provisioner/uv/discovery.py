"""What has to be known of uv before it is used: where it is, its version, and where its cache lies.

Asking takes two processes, and the answers stay as they are for weeks. So a builder, whom a cell
waits for, remembers them, together with what they rest on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CommandFailed, UvUnusable, clean
from ..system import processes
from ..system.files import replace_text

MINIMUM = (0, 12, 18)  # the first with `uv pip install --dry-run --output-format json`
_FIX = "pip install -U uv  (in the environment that runs Jupyter)"
_PATIENCE = 20  # seconds

# Variables of uv that change how it fetches, and never what: these may change from one start to the next.
_NEUTRAL = re.compile(
    "CACHE|CERT|CONCURRENT|CREDENTIAL|HTTP|INSECURE|KEYRING|LINK_MODE|NO_PROGRESS|OFFLINE|PASSWORD|TLS|TOKEN|USERNAME"
)


class Facts(NamedTuple):
    """uv's version, and the directory of its cache; None where it does without one."""

    version: tuple[int, ...]
    cache: Path | None


def facts_of(path: str, env: Mapping[str, str], memory: Path | None = None) -> Facts:
    """What the uv at ``path`` says of itself in the environment ``env``; raises UvUnusable.

    ``memory`` is a file in a private directory in which it is remembered for the next process.
    """
    grounds = _grounds(path, env) if memory else ""
    if memory and (known := _remembered(memory, grounds)):
        return known
    facts = Facts(checked_version(path), _cache(path, tuple(sorted(env.items()))))
    if memory and facts.cache:
        said = {"grounds": grounds, "version": facts.version, "cache": os.fspath(facts.cache)}
        with contextlib.suppress(OSError):  # a disk that says no costs time, nothing else
            replace_text(memory, json.dumps(said), mode=0o600, durable=False)
    return facts


def sources_in(env: Mapping[str, str]) -> str:
    """A digest of what tells a uv that runs with ``env`` where packages are and which to take.

    Credentials do not count. A uv.toml counts as a whole: whatever changes in it, what was known before
    is looked up again.
    """
    said = sorted(
        (name, clean(value))
        for name, value in env.items()
        if name.startswith("UV_") and not _NEUTRAL.search(name)
    )
    texts = [] if env.get("UV_NO_CONFIG") else [clean(_text(path)) for path in _configuration(env)]
    return hashlib.sha256(json.dumps([said, texts]).encode()).hexdigest()[:8]


@functools.cache
def uv_path() -> str:
    """Where uv's executable is; raises UvUnusable where there is none."""
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise UvUnusable("uv is not installed", why=str(error), fix=_FIX) from error


@functools.cache
def uv_version() -> str:
    """The version of the uv that ``uv_path`` finds, as its distribution says; 0 where there is none."""
    import uv

    names = (path.name for path in Path(uv.__file__).parents[1].glob("uv-*.dist-info"))
    return max((name.removesuffix(".dist-info").partition("-")[2] for name in names), default="0")


@functools.cache
def checked_version(path: str) -> tuple[int, ...]:
    """The version of the uv at ``path``; raises UvUnusable where it is too old or does not answer."""
    try:
        said = processes.run((path, "--version"), env={}, timeout=_PATIENCE).check("uv does not run").stdout
    except CommandFailed as error:
        what, fix = f"uv at {path} does not answer", error.fix or _FIX
        raise UvUnusable(what, why=error.why or error.what, fix=fix) from error
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    version = tuple(map(int, numbers.groups())) if numbers else ()
    if version < MINIMUM:
        least = ".".join(map(str, MINIMUM))
        raise UvUnusable(f"{said.strip()} at {path} is too old", why=f"{least} or newer is needed", fix=_FIX)
    return version


@functools.cache
def _cache(path: str, env: tuple[tuple[str, str], ...]) -> Path | None:
    import tempfile  # this is asked once in weeks

    said = processes.run((path, "cache", "dir", "--color", "never"), env=dict(env), timeout=_PATIENCE)
    cache = Path("/", said.stdout.strip())  # uv works in the root directory
    return None if said.returncode != 0 or cache.parent == Path(tempfile.gettempdir()) else cache


def _remembered(memory: Path, grounds: str) -> Facts | None:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        said: dict[str, Any] = json.loads(memory.read_bytes())
        if said["grounds"] == grounds:
            return Facts(tuple(map(int, said["version"])), Path(said["cache"]))
    return None


def _grounds(path: str, env: Mapping[str, str]) -> str:
    """What uv's answers rest on: itself, its variables, and its configuration files, as one digest."""
    variables = sorted(
        (name, value) for name, value in env.items() if name == "HOME" or name.startswith(("UV_", "XDG_"))
    )
    files = [path, *_configuration(env)]
    return hashlib.sha256(json.dumps([variables, *map(_mark, files)]).encode()).hexdigest()


def _configuration(env: Mapping[str, str]) -> list[str]:
    """Where uv looks for its settings: https://docs.astral.sh/uv/concepts/configuration-files/."""
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", ""), ".config")  # noqa: PTH118 - text
    system = [*(env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    named = [env["UV_CONFIG_FILE"]] if env.get("UV_CONFIG_FILE") else []
    return [*named, *(f"{place}/uv/uv.toml" for place in (home, *system)), "/uv.toml", "/pyproject.toml"]


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _mark(path: str) -> list[int | str]:
    try:
        info = os.stat(path)  # noqa: PTH116 - text
    except OSError:
        return [path]
    return [path, info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size]
