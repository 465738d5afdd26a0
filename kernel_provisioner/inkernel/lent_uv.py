"""uv in an overlay: what it installs there is held to the base; whatever else it does is its own affair.

pip reads its settings from ``pip.conf`` in the environment. uv reads none there, and a variable would
reach every process that is started from a kernel: other environments, ``uv lock``, ``uv tool``. So
``bin/uv`` of an overlay runs this file for ``uv pip``, with the overlay's Python and without ``site``.
It sets the variables where uv is about to change this very environment, and becomes uv.

    lent_uv.py OVERLAY UV TORCH_BACKEND WORD...

TORCH_BACKEND is empty where uv is to look for PyTorch's packages as for any other.
"""

from __future__ import annotations

import itertools
import os
import re
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_CHANGES = (("pip", "install"), ("pip", "sync"))
# uv's global options that a word of their own follows; all may stand before the command.
_WITH_A_WORD = frozenset({
    "--allow-insecure-host", "--cache-dir", "--color", "--config-file", "--directory", "--preview-features",
    "--project", "--python-fetch", "--python-preference", "--trusted-host",
})  # fmt: skip
_GUARDS = {"UV_CONSTRAINT": "constraints.txt", "UV_BUILD_CONSTRAINT": "build-constraints.txt"}
_ELSEWHERE = ("--target", "-t", "--prefix")  # beside an environment, or in place of one
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})  # as uv reads its variables


def main() -> None:
    """Become uv."""
    overlay, uv, backend, *words = sys.argv[1:]
    become(overlay, uv, backend, words)


def become(overlay: str, uv: str, backend: str, words: Sequence[str]) -> NoReturn:
    """Become ``uv WORD...``, held to the base of ``overlay`` where it installs into that."""
    env = dict(os.environ)
    if changes(words, env, Path(overlay), Path.cwd()):
        env = held(env, Path(overlay), backend)
        if os.path.lexists(f"{overlay}/.store"):
            runpy.run_path(os.path.join(os.path.dirname(__file__), "free.py"))["free"](overlay)
    os.execve(uv, [uv, *words], env)  # noqa: S606 - becoming uv is the point


def held(environ: Mapping[str, str], overlay: Path, backend: str) -> dict[str, str]:
    """``environ`` with the guards of ``overlay`` before what the user has set."""
    env = dict(environ)
    for name, file in _GUARDS.items():  # uv splits it at blanks, so that a path is given as a URL
        env[name] = " ".join(filter(None, [(overlay / file).as_uri(), env.get(name)]))
    if backend:
        env["UV_TORCH_BACKEND"] = backend
    return env


def changes(words: Sequence[str], environ: Mapping[str, str], overlay: Path, cwd: Path) -> bool:
    """Whether ``uv WORD...`` installs into ``overlay``, by uv's own rules of where it looks.

    https://docs.astral.sh/uv/pip/environments/#discovery-of-python-environments
    """
    if tuple(itertools.islice(_positional(words), 2)) not in _CHANGES:
        return False
    if any(_value(words, option) is not None for option in _ELSEWHERE):
        return False
    cwd /= _value(words, "--directory") or environ.get("UV_WORKING_DIR", "")
    python = _value(words, "--python", "-p") or environ.get("UV_PYTHON")
    if python:
        return _is_in(python, environ, overlay, cwd)
    system = "--system" in words or environ.get("UV_SYSTEM_PYTHON", "").lower() in _TRUE
    return not system and _same(_environment(environ, cwd), overlay)


def _is_in(python: str, environ: Mapping[str, str], overlay: Path, cwd: Path) -> bool:
    """Whether ``--python PYTHON`` means the interpreter of ``overlay``: a path, a name or a version."""
    path = cwd / python
    if path.is_dir():
        return _same(path, overlay)
    if path.exists():  # an environment's interpreter is a link, which says nothing of the environment
        return _same(path.parent, overlay / "bin")
    return _same(_first_of(environ) if python == "python" else _environment(environ, cwd), overlay)


def _environment(environ: Mapping[str, str], cwd: Path) -> Path:
    """The environment that uv takes where none is named."""
    named = [cwd / said for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if (said := environ.get(name))]
    near = [place / ".venv" for place in (cwd, *cwd.parents)]
    return next((path for path in (*named, *near) if path.is_dir()), _first_of(environ))


def _first_of(environ: Mapping[str, str]) -> Path:
    """The environment of the first ``python`` of PATH."""
    return Path(shutil.which("python", path=environ.get("PATH")) or "/bin/python").parents[1]


def _same(path: Path, overlay: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(overlay)


def _positional(words: Sequence[str]) -> Iterator[str]:
    """The words that are neither global options nor what follows one."""
    pending = iter(words)
    for word in pending:
        if word in _WITH_A_WORD:
            next(pending, None)
        elif not word.startswith("-"):
            yield word


def _value(words: Sequence[str], *names: str) -> str | None:
    """What an option is given: ``--name X``, ``--name=X``, ``-nX``, ``-n=X``, ``-qn X``; the last counts."""
    found = None
    for at, word in enumerate(words):
        for name in names:
            if word == name or (len(name) == 2 and re.fullmatch(rf"-[qvnU]*{name[1]}", word)):
                found = words[at + 1] if at + 1 < len(words) else ""
            elif len(name) > 2 and word.startswith(f"{name}="):
                found = word.partition("=")[2]
            elif len(name) == 2 and not word.startswith("--") and word.startswith(name):
                found = word[2:].removeprefix("=")
    return found


if __name__ == "__main__":
    main()
