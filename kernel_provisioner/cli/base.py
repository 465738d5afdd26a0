"""``jupyter overlay base …``: make, adopt, look at, verify and remove the shared environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traitlets import List, Unicode

from ..base import registry
from ..base.adopt import adopt_base
from ..base.create import create_base
from ..base.installers import BaseSpec
from ..base.maintain import describe_holders, remove_base, verify_base
from ..base.publish import Created
from ..base.registry import RegisteredBase
from ..errors import BaseNotFound
from ..uv import find_uv
from ..venv.notes import standing_on
from .common import CommandGroup, OverlayApp, PlacedApp
from .progress import progress_on


class CreateApp(PlacedApp):
    """Install a base: torch of one accelerator tag, ipykernel, pip and numpy, shared by all notebooks.

    With --installer auto, torch comes from PyTorch's index through uv; where that cannot be
    reached, from wherever pip is set up to look (find-links, mirrors). Only a build for TAG is
    ever taken, and what was used is said.
    """

    usage = "jupyter overlay base create TAG [options]"
    description = __doc__
    examples = """
    jupyter overlay base create cpu
    jupyter overlay base create cu126 --torch 2.8.0
    jupyter overlay base create cu130 --python 3.12 --with torchvision --sys-prefix
    jupyter overlay base create cpu --installer pip --find-links /srv/wheels
    """
    aliases = {
        **PlacedApp.aliases,
        "torch": "CreateApp.torch",
        "python": "CreateApp.python",
        "with": "CreateApp.packages",
        "installer": "CreateApp.installer",
        "find-links": "CreateApp.find_links",
    }
    torch = Unicode("", help="torch's version (2.8.0) or specifier ('>=2.6,<2.8'); default: the newest.").tag(
        config=True
    )
    python = Unicode("", help="The base's Python: a path or a version; default: the one running this.").tag(
        config=True
    )
    packages = List(Unicode(), help="A further package for the base; may be given again.").tag(config=True)
    installer = Unicode("auto", help="auto, uv or pip.").tag(config=True)
    find_links = List(Unicode(), help="A directory or page of wheels; may be given again.").tag(config=True)

    def run(self) -> int | None:
        (tag,) = self.words(1, 1)
        if self.installer not in ("auto", "uv", "pip"):
            raise BaseNotFound(f"--installer {self.installer!r} is none", fix="write auto, uv or pip")
        settings = self.settings()
        for place in ("pip's own settings" if self.installer == "pip" else "", *self.find_links):
            if place:
                settings.policy.refuse_sources(place)
        spec = BaseSpec(tag, self.torch, tuple(self.packages), tuple(map(_place, self.find_links)))
        with progress_on(self.console) as progress:
            created = create_base(
                spec,
                data_dir=self.jupyter_data,
                python=self.python,
                installer="uv" if settings.policy.indexes else self.installer,
                template=settings.index_template,
                uv=find_uv(policy=settings.policy),
                progress=progress.step,
            )
        _tell(self, created)
        return None


class AdoptApp(PlacedApp):
    """Use an existing environment (venv, conda, system Python) as a base, without writing into it."""

    usage = "jupyter overlay base adopt PATH [--tag TAG] [options]"
    description = __doc__
    examples = """
    jupyter overlay base adopt /opt/conda/envs/torch
    jupyter overlay base adopt ~/venvs/ml --tag cu126
    """
    aliases = {**PlacedApp.aliases, "tag": "AdoptApp.tag"}
    tag = Unicode("", help="The tag to register it under; default: what its torch says.").tag(config=True)

    def run(self) -> int | None:
        (path,) = self.words(1, 1)
        with progress_on(self.console) as progress:
            created = adopt_base(
                Path(path).expanduser().absolute(),
                data_dir=self.jupyter_data,
                tag=self.tag or None,
                progress=progress.step,
            )
        _tell(self, created)
        return None


class ListApp(OverlayApp):
    """List the bases; a star marks the one that its tag means. What cannot be used is named, with its fix."""

    usage = "jupyter overlay base list [--json]"
    description = __doc__
    examples = "jupyter overlay base list\njupyter overlay base list --json"

    def run(self) -> int | None:
        self.words(0, 0)
        register = registry.read_register()
        data = [_described(base, register) for base in register.bases]
        lines = [
            f"{'*' if entry['default'] else ' '} {entry['id']}  torch {entry['torch']}  "
            f"Python {entry['python']}"
            f"{'  adopted' if entry['adopted'] else ''}  {entry['path']}"
            for entry in data
        ]
        lines += [f"! {error.what}\n  fix: {error.fix}" for error in register.damaged]
        self.emit(data, lines or ["no base yet; jupyter overlay base create cpu  makes one"])
        return None


class ShowApp(OverlayApp):
    """Show one base: what it holds, where it is, and what runs and stands on it."""

    usage = "jupyter overlay base show ID [--json]"
    description = __doc__
    examples = "jupyter overlay base show cpu"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        register = registry.read_register()
        base = register.get(name)
        venvs = [str(path) for path in standing_on(Path(self.settings().overlay_root), base)]
        data = {
            **base.manifest.as_dict(),
            **_described(base, register),
            "kernels": describe_holders(base),
            "venvs": venvs,
        }
        lines = [
            f"{key:14} {data[key]}"
            for key in ("id", "tag", "torch", "python", "path", "interpreter", "installer", "created")
        ]
        lines.append(f"{'architectures':14} {' '.join(data['architectures']) or 'cpu'}")
        lines.append(
            f"{'distributions':14} {len(data['distributions'])}, of which {len(data['fixed'])} are fixed"
        )
        lines += [f"{'running':14} {line}" for line in data["kernels"] or ["no kernel"]]
        lines += [f"{'environment':14} {path}" for path in venvs]
        self.emit(data, lines)
        return None


class VerifyApp(OverlayApp):
    """Check every file of a base against its RECORD, and import its torch. Exit status 1: not sound."""

    usage = "jupyter overlay base verify ID [--json]"
    description = __doc__
    examples = "jupyter overlay base verify cpu"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        base = registry.read_register().get(name)
        verdict = verify_base(base)
        data = {
            "id": base.manifest.id,
            "sound": verdict.sound,
            "distributions": verdict.distributions,
            "torch": verdict.torch,
            "faults": list(verdict.faults),
        }
        good = f"{base.manifest.id} is sound: {verdict.distributions} distributions, torch {verdict.torch}"
        bad = [
            f"{base.manifest.id} has {len(verdict.faults)} faults:",
            *verdict.faults,
            f"fix: jupyter overlay base remove {base.manifest.id}, then create it anew",
        ]
        self.emit(data, [good] if verdict.sound else bad)
        return 0 if verdict.sound else 1


class RemoveApp(OverlayApp):
    """Remove a base that no kernel runs on and no environment of a project of yours stands on.

    An adopted environment itself stays as it is.
    """

    usage = "jupyter overlay base remove ID [--json]"
    description = __doc__
    examples = "jupyter overlay base remove cpu-torch2.8.0-py311-0a1b2c3d"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        base = registry.read_register().get(name)
        root = Path(self.settings().overlay_root)
        removed = remove_base(
            base, data_dir=base.directory.parent.parent, standing=lambda: standing_on(root, base)
        )
        self.emit({"removed": removed}, [f"removed {line}" for line in removed])
        return None


class DefaultApp(OverlayApp):
    """Let a tag mean a certain base: kernels started from now on run on it, running ones stay."""

    usage = "jupyter overlay base default TAG ID [--json]"
    description = __doc__
    examples = "jupyter overlay base default cpu cpu-torch2.8.0-py311-0a1b2c3d"

    def run(self) -> int | None:
        tag, name = self.words(2, 2)
        base = registry.read_register().get(name)
        if base.manifest.tag != tag:
            raise BaseNotFound(
                f"{base.manifest.id} is a {base.manifest.tag} base, not {tag}",
                fix=f"jupyter overlay base default {base.manifest.tag} {base.manifest.id}",
            )
        registry.set_alias(base.directory.parent, tag, base.manifest.id)
        self.emit(
            {"tag": tag, "base": base.manifest.id}, [f"torch-{tag} (shared) now runs on {base.manifest.id}"]
        )
        return None


class BaseApp(CommandGroup):
    """Manage the shared torch environments that notebooks stand on."""

    name = "jupyter-overlay base"
    usage = "jupyter overlay base COMMAND [--help]"
    description = __doc__
    examples = """
    jupyter overlay base create cpu
    jupyter overlay base list
    """
    subcommands = {
        "create": (CreateApp, "Install a base."),
        "adopt": (AdoptApp, "Use an existing environment as a base."),
        "list": (ListApp, "List the bases."),
        "show": (ShowApp, "Show one base."),
        "verify": (VerifyApp, "Check a base's files, and import its torch."),
        "remove": (RemoveApp, "Remove a base that nobody runs on."),
        "default": (DefaultApp, "Let a tag mean a certain base."),
    }


def _described(base: RegisteredBase, register: registry.Register) -> dict[str, Any]:
    manifest = base.manifest
    return {
        "id": manifest.id,
        "tag": manifest.tag,
        "torch": manifest.torch,
        "python": manifest.python,
        "path": manifest.prefix,
        "adopted": manifest.adopted,
        "default": register.aliases.get(manifest.tag) == manifest.id,
        "kernel": f"torch-{manifest.tag}",
    }


def _tell(app: OverlayApp, created: Created) -> None:
    manifest = created.base.manifest
    data = {
        "id": manifest.id,
        "tag": manifest.tag,
        "torch": manifest.torch,
        "python": manifest.python,
        "path": manifest.prefix,
        "kernel": str(created.kernel),
        "source": created.source,
        "existed": created.existed,
    }
    app.emit(
        data,
        [
            f"{'Already there' if created.existed else 'Ready'}: {manifest.id}",
            f"torch {manifest.torch}, Python {manifest.python}, from {created.source}",
            f'Pick "torch-{manifest.tag} (shared)" in JupyterLab.',
        ],
    )


def _place(find_links: str) -> str:
    """A directory as an absolute path, for uv and pip work elsewhere; a page's address as it is."""
    return find_links if "://" in find_links else str(Path(find_links).absolute())
