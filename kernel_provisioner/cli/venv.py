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
from ..base.trust import refuse_unsafe
from ..launch.choose import choose
from ..model.request import Request
from ..overlay import store
from ..project.make import Made, make_venv, with_files
from ..project.wanted import wanted
from ..runs.projects import Wanted, make_project
from ..settings import Settings
from .common import OverlayApp


class VenvApp(OverlayApp):
    """Create a virtual environment on top of a base, so that several projects share one torch.

    It works like any virtual environment: activate it, or run DIR/bin/python. pip and uv see the base's torch
    as installed and never replace it.

    If DIR is already such an environment, made from the same base and packages, nothing is done. --recreate
    builds it again beside the old one, which stays if the build fails.

    With --project, DIR is a uv project: the environment is its .venv, on the base whose torch is the one in
    uv.lock, and holds what the lock selects. Where no base has that torch, the base's is used in its place,
    and the lock stays as it is. Extras and groups are remembered in the environment: uv run, uv sync and the
    rest, in the activated environment, keep them, and never fetch a torch.
    """

    usage = (
        "jupyter overlay venv DIR [--base TAG|ID] [-r FILE]… [PACKAGE…] [--recreate] [--json]\n"
        "       jupyter overlay venv --project DIR [--extra NAME]… [--group NAME]… [--base TAG|ID]\n"
        "           [--exact|--relock] [--recreate] [--json]"
    )
    description = __doc__
    examples = """
    jupyter overlay venv .venv --base cpu einops
    jupyter overlay venv .venv --base cu126 -r requirements.txt
    jupyter overlay venv .venv --base cu126 -r requirements.txt --recreate
    jupyter overlay venv --project . --extra cpu
    """
    flags = {
        **OverlayApp.flags,
        "recreate": ({"VenvApp": {"recreate": True}}, "Build it again where it is there already."),
        "exact": ({"VenvApp": {"exact": True}}, "Refuse where no base has the torch of uv.lock."),
        "relock": ({"VenvApp": {"relock": True}}, "Put the base's torch into uv.lock."),
    }
    aliases: dict[Any, Any] = {
        **OverlayApp.aliases,
        "base": "VenvApp.base",
        "project": "VenvApp.project",
        "extra": "VenvApp.extras",
        "group": "VenvApp.groups",
        ("r", "requirement"): "VenvApp.files",
    }
    base = Unicode("", help="The base's tag or ID; default: the base that a notebook would get.").tag(
        config=True, metavar="TAG|ID"
    )
    files = List(Unicode(), help="A requirements file; can be repeated.").tag(config=True, metavar="FILE")
    project = Unicode("", help="The directory of a uv project.").tag(config=True, metavar="DIR")
    extras = List(Unicode(), help="An extra of the project; can be repeated.").tag(
        config=True, metavar="NAME"
    )
    groups = List(Unicode(), help="A dependency group of the project; can be repeated.").tag(
        config=True, metavar="NAME"
    )
    exact = Bool(False, help="Refuse where no base has the torch of uv.lock.").tag(config=True)
    relock = Bool(False, help="Put the base's torch into uv.lock.").tag(config=True)
    recreate = Bool(False, help="Build it again if it exists.").tag(config=True)

    def run(self) -> int | None:
        """Make it; see the class."""
        if self.project:
            self.words(0, 0)
            self._of_project()
            return None
        name, *packages = self.words(1, None)
        directory = Path(os.path.abspath(name))  # noqa: PTH100 - no link in it is to be followed
        settings = self.settings()
        wish = wanted(
            packages,
            [Path(file) for file in self.files],
            allow_urls=settings.policy.urls,
            local=not settings.policy.layers,
        )
        request = wish.request
        base = self._base(request, settings)
        if self.json_output or not self.console.is_terminal:
            made = make_venv(directory, base, request, settings=settings, recreate=self.recreate)
        else:
            with Status("", console=self.console) as status:
                made = make_venv(
                    directory, base, request, settings=settings, recreate=self.recreate, tell=status.update
                )
        if wish.files:
            made = with_files(made, wish.files)
        self.emit(_data(made), _lines(made, name))
        return None

    def _of_project(self) -> None:
        asked = bool(self.extras or self.groups)
        wanted = Wanted(
            Path(os.path.abspath(self.project)),  # noqa: PTH100 - no link in it is to be followed
            tuple(self.extras) if asked else None,
            tuple(self.groups) if asked else None,
            self.base,
            exact=self.exact,
            relock=self.relock,
            recreate=self.recreate,
        )
        settings = self.settings()
        if self.json_output or not self.console.is_terminal:
            project = make_project(wanted, settings)
        else:
            with Status("", console=self.console) as status:
                project = make_project(wanted, settings, tell=status.update)
        data = {**_data(project.made), "locked": project.locked, "choice": list(project.choice)}
        name = os.path.relpath(project.made.path)
        torch = project.made.base.manifest.torch
        told = (
            f"uv.lock has torch {project.locked}; the base's {torch} is used in its place (--relock locks it)"
        )
        chosen = [f"chosen, and kept: {' '.join(project.choice)}"] if project.choice else []
        self.emit(data, [*([told] if project.differs else []), *chosen, *_lines(project.made, name)])

    def _base(self, request: Request, settings: Settings) -> RegisteredBase:
        if self.base:
            base = registry.read_register().get(self.base)
            refuse_unsafe(base)
            return base
        return choose(
            request, pinned="", settings=settings, root=store.Store(Path(settings.overlay_root))
        ).base


def _data(made: Made) -> dict[str, object]:
    return {
        "path": str(made.path),
        "base": made.base.manifest.identity,
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
            f"{package} {new} here instead of the base's {old}"
            for package, (old, new) in made.replaced.items()
        ),
        *([f"installed by hand before, and not reinstalled: {', '.join(made.lost)}"] if made.lost else []),
        f"To use it: . {shlex.quote(f'{name}/bin/activate')}",
    ]
