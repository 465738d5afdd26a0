"""Which notebook a kernel is being started for.

No interface of Jupyter says so. Each way of starting a kernel leaves another trace, and they are
looked for from the clearest to the faintest: a variable set on purpose, the server's table of
sessions, the name that a session gives its kernel, the path that a server was asked to start a kernel
for, the program that waits on the call stack, voila.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from urllib.parse import unquote

from .frames import RunningClient, pooled_notebook, requested_path, running_client
from .text import is_text

_Seen = TypeVar("_Seen")


@dataclasses.dataclass(frozen=True)
class FoundNotebook:
    """The notebook that a kernel is started for.

    ``path`` is absolute, None where no file is known. ``content`` is the notebook where the runner
    has it in memory, which may differ from the file. ``how`` names the trace, for messages;
    ``none`` where there was none, as for consoles. ``quiet``: the outputs are published, committed or
    compared, and the kernel says nothing of itself in them.
    """

    path: Path | None = None
    content: Mapping[str, object] | None = None
    how: str = "none"
    quiet: bool = False


def find_notebook(
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    kernel_manager: object | None,
    kernel_id: str,
    frames: Iterable[FrameType],
    inherited: Mapping[str, str] = os.environ,
) -> FoundNotebook:
    """The notebook that a kernel is started for; never raises. ``traces`` and ``Traces.notebook`` in one."""
    return traces(
        env=env,
        cwd=cwd,
        kernel_manager=kernel_manager,
        kernel_id=kernel_id,
        frames=frames,
        inherited=inherited,
    ).notebook()


def traces(
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    kernel_manager: object | None,
    kernel_id: str,
    frames: Iterable[FrameType],
    inherited: Mapping[str, str] = os.environ,
    requested: str = "",
) -> Traces:
    """What tells the notebook of a launch; never raises.

    Does not look at the disk, which may be slow, so that a server's event loop can wait for it;
    it has to be that loop's thread, for the sake of the table of sessions.

    ``env`` and ``cwd`` are what the caller handed to ``start_kernel``, empty where it handed none.
    ``kernel_manager`` is the provisioner's parent, ``frames`` what ``frames.calling_frames()``
    gives. ``inherited`` is the environment of this process: a name that stands there already is
    that of another kernel, from inside which this server or runner was started. ``requested`` is the
    path that the server was asked for at an earlier start of this kernel, which later ones do not show.
    """
    manager: Any = kernel_manager
    server = _tried(lambda: manager.parent.parent)
    root = _tried(lambda: Path(manager.parent.root_dir) if manager.parent.root_dir else None)
    stack = _tried(lambda: list(frames)) or []
    if not requested and root and not env.get("JPY_SESSION_NAME"):
        requested = _tried(lambda: requested_path(stack, kernel_manager)) or ""
    seen = Traces(
        env=env,
        cwd=cwd,
        inherited=inherited,
        root=root,
        by_session=_tried(lambda: hasattr(server, "session_manager")) or False,
        rows=tuple(_tried(lambda: _session_rows(server, kernel_id)) or ()),
        requested=requested,
        client=_tried(lambda: running_client(stack, kernel_manager)),
        served=tuple(_tried(lambda: _served_by_voila(server, kernel_manager)) or ()),
    )
    stack.clear()  # it holds this very frame: a cycle that would keep every caller's values alive
    return seen


@dataclasses.dataclass(frozen=True)
class Traces:
    """What a launch leaves for us to see. ``root`` is the directory that a server's API paths start from.

    ``rows`` are the server's sessions with this kernel (path, name, type), ``requested`` is the path
    that it was asked to start a kernel for, ``client`` is the program on the call stack, ``served`` are
    the notebooks that a voila server is for.
    """

    env: Mapping[str, str]
    cwd: Path | None
    inherited: Mapping[str, str]
    root: Path | None
    by_session: bool
    rows: tuple[tuple[str, str, str], ...]
    requested: str
    client: RunningClient | None
    served: tuple[str | None, ...]

    def notebook(self) -> FoundNotebook:
        """The notebook that they lead to, as far as it is there; never raises."""
        for look in (_named, _session_row, _session_name, _requested, _client, _voila):
            found = _tried(functools.partial(look, self))
            if found is not None:
                return found
        return FoundNotebook()

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


def _named(seen: Traces) -> FoundNotebook | None:
    """A caller that knows its notebook can say so; it is taken at its word."""
    if not seen.is_new("KERNEL_NOTEBOOK_PATH"):
        return None
    path = (seen.cwd or Path()) / seen.env["KERNEL_NOTEBOOK_PATH"]
    return FoundNotebook(path.absolute(), how="KERNEL_NOTEBOOK_PATH")


def _session_row(seen: Traces) -> FoundNotebook | None:
    """The server's row for this kernel, which follows renames; there is none before the first start.

    It counts before the name given at the start: jupyter_client before 8.5 keeps that one at a
    restart, and where the notebook was renamed since, another Untitled.ipynb may stand there.
    JupyterLab's path is a random name in the right directory until the kernel runs.
    """
    for path, name, kind in seen.rows:
        if kind == "notebook":
            named = str(Path(path).parent / name) if name else path
            found = seen.existing(path) or seen.existing(named)
            if found:
                return FoundNotebook(found, how="session")
    return None


def _session_name(seen: Traces) -> FoundNotebook | None:
    """Sessions name their notebook to the kernel; a console's name is that of no file."""
    name = seen.env.get("JPY_SESSION_NAME")
    by_session = seen.by_session and not seen.is_new("VOILA_REQUEST_URL")
    if not name or not (seen.is_new("JPY_SESSION_NAME") or by_session):
        return None
    path = seen.existing(name)
    return FoundNotebook(path, how="JPY_SESSION_NAME") if path else None


def _requested(seen: Traces) -> FoundNotebook | None:
    """Agents and kernel clients start a kernel first, and make a session of it later, or never."""
    path = seen.existing(seen.requested) if seen.requested else None
    return FoundNotebook(path, how="api/kernels") if path else None


def _client(seen: Traces) -> FoundNotebook | None:
    """A program that has the notebook in memory, or runs a file; a text notebook is read from its file.

    Where a program runs no notebook, its kernel has none; it keeps out of the outputs as it would for one.
    """
    if seen.client is None:
        return None
    path = seen.client.path
    content = None if path and is_text(path) else seen.client.notebook
    if path and content is None and not (is_text(path) or path.suffix == ".ipynb"):
        path = None  # code, in a file that is named as no notebook
    if path is None and content is None and seen.client.in_cells:
        return None
    return FoundNotebook(path, content, seen.client.name, not seen.client.in_cells)


def _voila(seen: Traces) -> FoundNotebook | None:
    """Voila says which page was asked for, serves one notebook only, or warms a pool of kernels."""
    names: list[str | None] = []
    if seen.is_new("VOILA_REQUEST_URL"):
        names.append(unquote(seen.env.get("SCRIPT_NAME", "")).rpartition("/")[2])
    for name in [*names, *seen.served]:
        path = seen.existing(name) if name else None
        if path:
            return FoundNotebook(path, how="voila")
    return None


def _session_rows(server: Any, kernel_id: str) -> list[tuple[str, str, str]]:
    """The server's rows; none where it has not opened its table yet.

    SQLite gives it to the thread that opens it, and ``connection`` would do so here: with the synchronous
    kernel manager that is a thread which ends, and every later question of the server's own would fail.
    """
    table = server.session_manager._connection  # noqa: SLF001 - see above
    if table is None:
        return []
    asked = "SELECT path, name, type FROM session WHERE kernel_id = ?"
    rows: list[tuple[str, str, str]] = table.execute(asked, (kernel_id,)).fetchall()
    return rows


def _served_by_voila(server: Any, kernel_manager: object) -> list[str | None]:
    if type(server).__module__.startswith("voila."):
        return [server.notebook_path, pooled_notebook(kernel_manager)]
    return []


def _tried(look: Callable[[], _Seen]) -> _Seen | None:
    """What ``look`` comes to; None where it fails, for the insides of other programs change."""
    try:
        return look()
    except Exception:
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
