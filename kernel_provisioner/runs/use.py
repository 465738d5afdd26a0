"""Let a notebook run on a certain base: the smallest change of what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ..base.registry import read_register
from ..errors import NoBaseFits, NotebookUnreadable
from ..hardware import cached_detect
from ..launch.asked import read_request
from ..notebook.edit import write_choice
from ..notebook.find import FoundNotebook
from ..notebook.read import named_kernel
from ..notebook.text import is_text
from ..settings import Settings
from .bases import choices
from .kernels import kernel_for
from .open_in import Change


class Use(NamedTuple):
    """The change that lets a notebook run on a base; ``said`` has ``kernel`` and keys of ``torch_env``."""

    notebook: Path
    base: str
    change: Change
    said: dict[str, str]

    def write(self) -> None:
        """Write it into the file; raises NotebookUnreadable and InvalidRequest."""
        write_choice(self.notebook, self.change.say, self.change.kernelspec)


def use_base(notebook: str, name: str, settings: Settings) -> Use:
    """What lets the notebook's next start take the base ``name``, a tag or an id; nothing is written.

    Raises BaseNotFound, NotebookUnreadable, and NoBaseFits where the base cannot hold the notebook on this
    machine.
    """
    path, register = Path(notebook).absolute(), read_register()
    wanted = register.get(name).manifest
    request = read_request(FoundNotebook(path, how="command line"), settings).request
    pinned = kernel_for(named_kernel(path))[0].tag
    known = choices(request, pinned, cached_detect(), register, settings.preference)
    entry = next(base for base in known if base["id"] == wanted.id)
    change = entry["choose"]
    if change is None:
        raise NoBaseFits(
            f"{path.name} cannot run on {wanted.id}",
            why="\n".join(entry["why_not"]) or "another base of this tag is the default, and comes first",
            fix=f"jupyter overlay base default {wanted.tag} {wanted.id}" if not entry["why_not"] else "",
        )
    said = {**change["torch_env"], **_named(change["kernel"])}
    if is_text(path) and said:
        raise NotebookUnreadable(
            f"the header of {path.name} is not changed by this command",
            why="the kernel and torch_env of a text notebook stand in its YAML header, which is yours",
            fix="write there: " + json.dumps(said),
        )
    meant = Change(say=change["torch_env"], kernelspec=_kernelspec(change["kernel"]))
    return Use(path, wanted.id, meant, said)


def _named(kernel: str) -> dict[str, str]:
    return {"kernel": kernel} if kernel else {}


def _kernelspec(kernel: str) -> dict[str, str] | None:
    """What a notebook's metadata say of a kernel; None for the one that it has."""
    if not kernel:
        return None
    ours, _ = kernel_for("", kernel)
    spec = json.loads((ours.directory / "kernel.json").read_bytes())
    return {"display_name": spec.get("display_name", kernel), "language": "python", "name": kernel}
