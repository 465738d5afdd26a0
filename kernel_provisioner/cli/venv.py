"""``jupyter overlay venv``: an environment for an ordinary project, on a shared base."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from rich.status import Status
from traitlets import Bool, List, Unicode

from ..base import registry
from ..base.registry import RegisteredBase
from ..choose import choose
from ..overlay import store
from ..request import Request
from ..settings import Settings
from ..venv.make import Made, make_venv
from ..venv.wanted import wanted
from .common import OverlayApp


class VenvApp(OverlayApp):
    """Make a virtual environment that stands on a base, so that several projects share one torch.

    It is an environment like any other: activate it, or run DIR/bin/python. What is installed in
    it with pip or uv while it is active is held to the base's versions, as in a notebook.

    Where DIR is such an environment already, made from the same, nothing is done. --recreate
    builds it anew, beside the old one, which stays as it is where that fails.
    """

    usage = "jupyter overlay venv DIR [--base TAG|ID] [-r FILE]… [PACKAGE…] [--recreate] [--json]"
    description = __doc__
    examples = """
    jupyter overlay venv .venv --base cpu einops
    jupyter overlay venv .venv --base cu126 -r requirements.txt
    jupyter overlay venv .venv --base cu126 -r requirements.txt --recreate
    """
    flags = {
        **OverlayApp.flags,
        "recreate": ({"VenvApp": {"recreate": True}}, "Build it anew where it is there already."),
    }
    aliases: dict[Any, Any] = {
        **OverlayApp.aliases,
        "base": "VenvApp.base",
        ("r", "requirement"): "VenvApp.files",
    }
    base = Unicode("", help="The base's tag or id; default: what a notebook would run on.").tag(
        config=True, metavar="TAG|ID"
    )
    files = List(Unicode(), help="A file that lists requirements; may be given again.").tag(
        config=True, metavar="FILE"
    )
    recreate = Bool(False, help="Build it anew where it is there already.").tag(config=True)

    def run(self) -> int | None:
        """Make it; see the class."""
        name, *packages = self.words(1, None)
        directory = Path(os.path.abspath(name))  # noqa: PTH100 - no link in it is to be followed
        settings = self.settings()
        request = wanted(packages, [Path(file) for file in self.files], allow_urls=settings.policy.urls)
        base = self._base(request, settings)
        if self.json_output or not self.console.is_terminal:
            made = make_venv(directory, base, request, settings=settings, recreate=self.recreate)
        else:
            with Status("", console=self.console) as status:
                made = make_venv(
                    directory, base, request, settings=settings, recreate=self.recreate, tell=status.update
                )
        self.emit(_data(made), _lines(made, name))
        return None

    def _base(self, request: Request, settings: Settings) -> RegisteredBase:
        if self.base:
            return registry.read_register().get(self.base)
        return choose(
            request, pinned="", settings=settings, root=store.Store(Path(settings.overlay_root))
        ).base


def _data(made: Made) -> dict[str, object]:
    manifest = made.base.manifest
    return {
        "path": str(made.path),
        "base": {"id": manifest.id, "tag": manifest.tag, "torch": manifest.torch, "python": manifest.python},
        "existed": made.existed,
        "installed": dict(made.installed),
        "replaced": {name: list(pair) for name, pair in made.replaced.items()},
        "lost": list(made.lost),
    }


def _lines(made: Made, name: str) -> list[str]:
    manifest = made.base.manifest
    added = ", ".join(f"{package} {version}" for package, version in made.installed.items())
    return [
        f"{'Already there' if made.existed else 'Ready'}: {made.path}",
        f"torch {manifest.torch}, Python {manifest.python}, shared: {manifest.id}",
        *([f"added: {added}"] if added else []),
        *(
            f"{package} {new} here in place of the base's {old}"
            for package, (old, new) in made.replaced.items()
        ),
        *([f"installed by hand before, and not here now: {', '.join(made.lost)}"] if made.lost else []),
        f"To work in it: . {shlex.quote(f'{name}/bin/activate')}",
    ]
