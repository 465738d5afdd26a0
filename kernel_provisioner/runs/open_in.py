"""Change a notebook where it is open: in the browser that holds it, else in its file.

An editor holds the notebook in memory, with what is typed and not saved yet. It notices at its next save
that the file has changed, and asks which of the two to keep; either answer loses something. So a notebook
that is open in JupyterLab is changed there, through its server. What an open notebook cannot be told is
kept beside its overlays where that serves, and said with what to do where it does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

from ..notebook.text import is_text
from .servers import NoAnswer, Server

_CLAIM = {True: 10.0, False: 0.7}  # seconds for a browser to answer, where one shows its kernel or none does
_SAVE = 25.0  # seconds more for it to save
_RELOAD = "File, Reload Notebook from Disk, before you save it"


@dataclasses.dataclass(frozen=True)
class Change:
    """What a notebook is to say: requirements, packages no more, keys of ``torch_env``, its kernel."""

    add: list[str] = dataclasses.field(default_factory=list)
    remove: list[str] = dataclasses.field(default_factory=list)
    say: Mapping[str, object] = dataclasses.field(default_factory=dict)
    kernelspec: Mapping[str, str] | None = None


class Made(NamedTuple):
    """How a change was made, with lines to tell of it.

    ``extras`` is what an open notebook declares now; None where its editor does not say, where the file was
    written, and where ``kept`` is true: the change waits beside the notebook's overlays, and its file is as
    it was.
    """

    lines: list[str]
    extras: list[str] | None = None
    kept: bool = False


def make(
    notebook: Path,
    change: Change,
    write: Callable[[], object],
    *,
    servers: Iterable[Server],
    keep: Callable[[], object] | None = None,
    cell: bool = False,
) -> Made:
    """Make a change where the notebook is open in one of the ``servers``; else ``write`` it into the file.

    Where an editor has it open that takes no change, ``keep`` is called in place of ``write``. ``cell``: a
    cell of the notebook asks for it, whose user knows what is saved. What ``write`` and ``keep`` raise,
    passes.
    """
    name, lines, held = notebook.name, [], ""
    for server in servers:
        try:
            sessions = [one for one in server.ask("api/sessions") if one["path"] == server.path]
            watched = any(_watched(sessions))
            answer = {} if is_text(notebook) else _asked(server, change, watched=watched)
        except URLError:  # its file outlived it
            continue
        except (NoAnswer, TypeError, KeyError, AttributeError) as error:
            unsaid = f"A Jupyter server that may have {name} open does not say so ({server.url}: {error})."
            lines.append(f"{unsaid} If it has: {_RELOAD}.")
            continue
        if answer.get("changed"):
            return Made([_changed(server, saved=answer["saved"])], answer.get("extras"))
        if watched:
            held = server.url
        elif sessions:
            lines.append(f"{name} has a kernel in {server.url}: in a page that still shows it, {_RELOAD}.")
    if held and keep and not cell:
        keep()
        return Made(_kept(name, held, change.add), kept=True)
    write()
    if cell:
        return Made([f"{name} was changed on disk. In JupyterLab: {_RELOAD}."])
    return Made([*_fork(name, held), *lines])


def _asked(server: Server, change: Change, *, watched: bool) -> dict[str, Any]:
    """What the server extension answers; nothing where the server has none, or an older one."""
    said = {key: value for key, value in vars(change).items() if value}
    body = {**said, "path": server.path, "within": _CLAIM[watched]}
    try:
        return dict(server.ask("torch-overlay/edits", body, wait=_CLAIM[watched] + _SAVE))
    except NoAnswer:
        return {}


def _watched(sessions: Iterable[Mapping[str, Any]]) -> Iterable[bool]:
    """Whether anybody is connected to these kernels."""
    return ((session["kernel"] or {}).get("connections", 1) > 0 for session in sessions)


def _changed(server: Server, *, saved: bool) -> str:
    if saved:
        return f"It is open in {server.url}, and was changed and saved there."
    return (
        f"It is open in {server.url}, and was changed there. Save it there: it could not be saved from here."
    )


def _kept(name: str, address: str, packages: Iterable[str]) -> list[str]:
    held = f"{name} is open in {address}, in an editor that takes no changes from here."
    return [
        f"{held} Its file was left as it is, so that nothing typed there is lost.",
        f"To declare {', '.join(packages)} in it, save it there and run this command again.",
    ]


def _fork(name: str, address: str) -> list[str]:
    if not address:
        return []
    revert = "Revert takes this change and drops what was not saved"
    overwrite = "Overwrite keeps that and drops this change"
    return [
        f"{name} is open in {address}: there, {_RELOAD}.",
        f"Where it asks about a changed file: {revert}, {overwrite}.",
    ]
