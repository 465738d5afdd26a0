"""The kernel spec's own command, for clients that start it without asking a provisioner (VS Code).

It does what the provisioner does and then becomes the kernel, so that signals, the pid and the
exit status are those of the kernel itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import refuse_windows
from ..notebook.find import traces
from ..notebook.frames import RunningClient
from ..settings import load_settings
from .prepare import prepare

CLIENT = "TORCH_OVERLAY_CLIENT"
"""The variable with the descriptor of what is handed over; ``inkernel/nested.py`` has the name, too."""

_USAGE = "usage: kernel_provisioner.launch [--accelerator TAG] -f CONNECTION_FILE [ipykernel options]"


def main(argv: Sequence[str] | None = None) -> None:
    """Become the kernel of the notebook that the environment names, on the base that fits.

    Accepts ``-f FILE``, ``-f=FILE`` and ``--f=FILE``, as the clients that exist write it.
    """
    refuse_windows()
    words = list(sys.argv[1:] if argv is None else argv)
    pinned, rest = split_arguments(words)
    cwd = Path.cwd()
    environ = dict(os.environ)
    client = handed_over(environ)
    seen = traces(
        env=trusted_names(environ, cwd), cwd=cwd, kernel_manager=None, kernel_id="", frames=(), inherited={}
    )
    found = dataclasses.replace(seen, client=client).notebook()
    launch = prepare(
        found, pinned=pinned, settings=load_settings, environ=environ, kernel_id=os.urandom(8).hex()
    )
    for lock in launch.held:
        os.set_inheritable(lock.fd, True)
    try:
        os.execve(launch.argv[0], [*launch.argv, *rest], launch.env)  # noqa: S606 - becoming the kernel
    except OSError as error:
        instead = launch.instead(error)
        if instead is None:
            raise
        os.execve(instead.argv[0], [*instead.argv, *rest], instead.env)  # noqa: S606 - one that says so


def handed_over(environ: dict[str, str]) -> RunningClient | None:
    """The program that starts this kernel, as the provisioner in an overlay has seen it (``nested.py``).

    The variable that leads to it is taken out of ``environ``.
    """
    descriptor = environ.pop(CLIENT, "")
    try:
        with os.fdopen(int(descriptor), encoding="utf-8") as file:
            told = json.load(file)
        path = Path(told["path"]) if told["path"] else None
        return RunningClient(told["notebook"], path, str(told["name"]), bool(told["in_cells"]))
    except (OSError, ValueError, KeyError, TypeError):  # there is none
        return None


def split_arguments(words: Sequence[str]) -> tuple[str, list[str]]:
    """The pinned tag, and ipykernel's arguments with the connection file as ``-f FILE``."""
    pinned, rest, pending = "", [], list(words)
    while pending:
        word = pending.pop(0)
        if word == "--accelerator" and pending:
            pinned = pending.pop(0)
        elif word.startswith(("-f=", "--f=")):
            rest += ["-f", word.partition("=")[2]]
        else:
            rest.append(word)
    if "-f" not in rest[:-1]:
        raise SystemExit(_USAGE)
    return pinned, rest


def trusted_names(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """The variables that name our notebook, without what a surrounding kernel may have left.

    Started from within a kernel, ``JPY_SESSION_NAME`` names the outer notebook. Clients start a
    notebook's kernel in the notebook's directory, so a name from elsewhere is not ours. Either may be
    reached by a link.
    """
    names = {"KERNEL_NOTEBOOK_PATH": environ.get("KERNEL_NOTEBOOK_PATH", "")}
    session = environ.get("JPY_SESSION_NAME", "")
    if session and os.path.realpath(cwd / session) == os.path.realpath(cwd / Path(session).name):
        names["JPY_SESSION_NAME"] = session
    return {name: value for name, value in names.items() if value}


if __name__ == "__main__":
    main()
