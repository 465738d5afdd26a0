"""The kernel spec's own command, for clients that start it without asking a provisioner (VS Code).

It does what the provisioner does and then becomes the kernel, so that signals, the pid and the
exit status are those of the kernel itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import refuse_windows
from .notebook.find import find_notebook
from .prepare import prepare
from .settings import load_settings

_USAGE = "usage: kernel_provisioner.launch [--accelerator TAG] -f CONNECTION_FILE [ipykernel options]"


def main(argv: Sequence[str] | None = None) -> None:
    """Become the kernel of the notebook that the environment names, on the base that fits.

    Accepts ``-f FILE``, ``-f=FILE`` and ``--f=FILE``, as the clients that exist write it.
    """
    refuse_windows()
    words = list(sys.argv[1:] if argv is None else argv)
    pinned, rest = split_arguments(words)
    cwd = Path.cwd()
    found = find_notebook(
        env=trusted_names(os.environ, cwd),
        cwd=cwd,
        kernel_manager=None,
        kernel_id="",
        frames=(),
        inherited={},
    )
    launch = prepare(
        found, pinned=pinned, settings=load_settings, environ=os.environ, kernel_id=f"pid{os.getpid()}"
    )
    for lock in launch.held:
        os.set_inheritable(lock.fd, True)
    os.execve(launch.argv[0], [*launch.argv, *rest], launch.env)  # noqa: S606 - becoming the kernel is the point


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
    notebook's kernel in the notebook's directory, so a name from elsewhere is not ours.
    """
    names = {"KERNEL_NOTEBOOK_PATH": environ.get("KERNEL_NOTEBOOK_PATH", "")}
    session = environ.get("JPY_SESSION_NAME", "")
    if session and Path(session).parent in (cwd, Path()):
        names["JPY_SESSION_NAME"] = session
    return {name: value for name, value in names.items() if value}


if __name__ == "__main__":
    main()
