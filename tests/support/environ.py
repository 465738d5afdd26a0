"""The environment that a test's subprocesses run in: what the machine needs, and nothing inherited."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pip._internal.models.index import PyPI

from .index import LocalIndex
from .waiting import PATIENCE

_DROPPED = (
    "CONDA_", "COLAB_", "IPYTHON", "JPY_", "JUPYTER", "KERNEL_", "PAPERMILL_", "PIP_", "PYTEST_", "PYTHON",
    "SCRIPT_NAME", "TORCH", "UV_", "VIRTUAL_ENV", "VSCODE_", "XDG_CACHE_HOME", "XDG_DATA_HOME",
)  # fmt: skip
"""Beginnings of variables that would let the developer's own session speak into a test."""

_REACH = frozenset({
    "PIP_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_PROXY", "PIP_TRUSTED_HOST",
    "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX",
    "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
})  # fmt: skip
"""The exceptions: how this machine reaches its package registry."""

_ALWAYS = (PATIENCE,)
"""What tells of the machine itself, for parts of a test that are processes of their own."""


def clean_environment(
    home: Path, *, index: LocalIndex | None = None, inherited: Mapping[str, str] | None = None, **more: str
) -> dict[str, str]:
    """The environment for a subprocess whose Jupyter and cache folders all lie under ``home``.

    Without ``index`` the machine's own registry and caches are used, so that real wheels are
    downloaded once. With ``index`` uv, pip and our own settings know that index alone, with
    caches of their own.
    ``more`` is added last. Never ``os.environ`` as it is: a developer's ``VIRTUAL_ENV`` or
    ``JPY_SESSION_NAME`` would decide what a test sees.
    """
    source = os.environ if inherited is None else inherited
    reach = _REACH if index is None else frozenset[str]()
    env = {name: value for name, value in source.items() if name in reach or not name.startswith(_DROPPED)}
    env |= {
        "HOME": str(home) if index else source.get("HOME", str(home)),  # pip's and uv's settings lie there
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter-config"),
        "JUPYTER_DATA_DIR": str(home / "jupyter-data"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter-runtime"),
        "PIP_CACHE_DIR": str(home / "pip-cache") if index else _users_cache(source, "PIP_CACHE_DIR", "pip"),
        "UV_CACHE_DIR": str(home / "uv-cache") if index else _users_cache(source, "UV_CACHE_DIR", "uv"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    if index:
        env |= {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": index.default,
            "TORCH_OVERLAY_INDEX": index.template,
            "UV_DEFAULT_INDEX": index.default,
            "UV_NO_CONFIG": "1",
            "XDG_CONFIG_DIRS": str(home / "etc"),  # an overlay's pip reads files, devnull or not
        }
    for name in ("cache", "ipython", "jupyter-config", "jupyter-data", "jupyter-runtime"):
        (home / name).mkdir(parents=True, exist_ok=True)
    env |= {name: source[name] for name in _ALWAYS if name in source}
    return env | more


def default_index(environ: Mapping[str, str] = os.environ) -> str:
    """The default index that this machine's uv or pip is configured with, to stand behind a local one."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environ.get(variable):
            return environ[variable]
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or PyPI.simple_url


def _users_cache(source: Mapping[str, str], variable: str, name: str) -> str:
    """Where a tool keeps its cache for the user who runs the tests."""
    if source.get(variable):
        return source[variable]
    cache = source.get("XDG_CACHE_HOME") or str(Path(source.get("HOME", "~")).expanduser() / ".cache")
    return str(Path(cache) / name)
