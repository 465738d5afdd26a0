"""Which notebook a kernel is being started for.

No interface of Jupyter says so. Each way of starting a kernel leaves another trace, and they are
looked for from the clearest to the faintest: a variable set on purpose, the server's table of
sessions, the name that a session gives its kernel, the runner that waits on the call stack, voila.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote

from .frames import pooled_notebook, running_client


@dataclasses.dataclass(frozen=True)
class FoundNotebook:
    """The notebook that a kernel is started for.

    ``path`` is absolute, None where no file is known. ``content`` is the notebook where the runner
    has it in memory, which may differ from the file. ``how`` names the trace, for messages;
    ``none`` where there was none, as for consoles.
    """

    path: Path | None = None
    content: Mapping[str, object] | None = None
    how: str = "none"


def find_notebook(
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    kernel_manager: object | None,
    kernel_id: str,
    frames: Iterable[FrameType],
    inherited: Mapping[str, str] = os.environ,
) -> FoundNotebook:
    """The notebook that a kernel is started for; never raises.

    ``env`` and ``cwd`` are what the caller handed to ``start_kernel``, empty where it handed none.
    ``kernel_manager`` is the provisioner's parent, ``frames`` what ``frames.calling_frames()``
    gives. ``inherited`` is the environment of this process: a name that stands there already is
    that of another kernel, from inside which this server or runner was started.
    """
    launch = _Launch(env, cwd, kernel_manager, kernel_id, frames, inherited)
    for look in (_named, _session_row, _session_name, _client, _voila):
        try:
            found = look(launch)
        except Exception:  # noqa: S112 - these are the insides of other programs, of any version
            continue
        if found is not None:
            return found
    return FoundNotebook()


@dataclasses.dataclass(frozen=True)
class _Launch:
    env: Mapping[str, str]
    cwd: Path | None
    kernel_manager: Any
    kernel_id: str
    frames: Iterable[FrameType]
    inherited: Mapping[str, str]

    @property
    def root(self) -> Path | None:
        """The directory that a server's API paths start from."""
        root = getattr(getattr(self.kernel_manager, "parent", None), "root_dir", None)
        return Path(root) if root else None

    @property
    def server(self) -> Any:
        return getattr(getattr(self.kernel_manager, "parent", None), "parent", None)

    def is_new(self, name: str) -> bool:
        """Whether the caller set the variable, rather than copy it from its own environment."""
        return bool(self.env.get(name)) and self.env[name] != self.inherited.get(name)

    def existing(self, name: str) -> Path | None:
        """The file that ``name``, a path or a server's API path, stands for."""
        for spelling in _spellings(name):
            places = [spelling] if spelling.is_absolute() else []
            places += [
                directory / str(spelling).lstrip("/") for directory in (self.root, self.cwd) if directory
            ]
            places += [self.cwd / spelling.name] if self.cwd else []
            for path in places:
                if os.path.exists(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112 - never raise
                    return path.absolute()
        return None


def _named(launch: _Launch) -> FoundNotebook | None:
    """A caller that knows its notebook can say so; it is taken at its word."""
    if not launch.is_new("KERNEL_NOTEBOOK_PATH"):
        return None
    path = (launch.cwd or Path()) / launch.env["KERNEL_NOTEBOOK_PATH"]
    return FoundNotebook(path.absolute(), how="KERNEL_NOTEBOOK_PATH")


def _session_row(launch: _Launch) -> FoundNotebook | None:
    """The server's row for this kernel, which follows renames; there is none before the first start.

    It counts before the name given at the start: jupyter_client before 8.5 keeps that one at a
    restart, and where the notebook was renamed since, another Untitled.ipynb may stand there.
    JupyterLab's path is a random name in the right directory until the kernel runs.
    """
    if launch.server is None:
        return None
    rows = launch.server.session_manager.connection.execute(
        "SELECT path, name, type FROM session WHERE kernel_id = ?", (launch.kernel_id,)
    )
    for path, name, kind in rows.fetchall():
        if kind == "notebook":
            named = str(Path(path).parent / name) if name else path
            found = launch.existing(path) or launch.existing(named)
            if found:
                return FoundNotebook(found, how="session")
    return None


def _session_name(launch: _Launch) -> FoundNotebook | None:
    """Sessions name their notebook to the kernel; a console's name is that of no file."""
    name = launch.env.get("JPY_SESSION_NAME")
    by_session = hasattr(launch.server, "session_manager") and not launch.is_new("VOILA_REQUEST_URL")
    if not name or not (launch.is_new("JPY_SESSION_NAME") or by_session):
        return None
    path = launch.existing(name)
    return FoundNotebook(path, how="JPY_SESSION_NAME") if path else None


def _client(launch: _Launch) -> FoundNotebook | None:
    running = running_client(launch.frames, launch.kernel_manager)
    return FoundNotebook(running[1], running[0], running[2]) if running else None


def _voila(launch: _Launch) -> FoundNotebook | None:
    """Voila says which page was asked for, serves one notebook only, or warms a pool of kernels."""
    names: list[str | None] = []
    if launch.is_new("VOILA_REQUEST_URL"):
        names.append(unquote(launch.env.get("SCRIPT_NAME", "")).rpartition("/")[2])
    if type(launch.server).__module__.startswith("voila."):
        names += [launch.server.notebook_path, pooled_notebook(launch.kernel_manager)]
    for name in names:
        path = launch.existing(name) if name else None
        if path:
            return FoundNotebook(path, how="voila")
    return None


def _spellings(name: str) -> Iterator[Path]:
    """``name`` as it is, then as it was before VS Code made it unique for a remote server.

    https://github.com/microsoft/vscode-jupyter names such sessions ``nb-jvsc-<id>.ipynb``, in older
    versions ``nb.ipynb-jvsc-<id>``.
    """
    yield Path(name)
    original, marker, _ = name.rpartition("-jvsc-")
    if marker:
        yield Path(original.removesuffix(".ipynb") + ".ipynb")
