"""``jupyter overlay base …``: make, adopt, look at, verify and remove the shared environments."""

from __future__ import annotations

from pathlib import Path

from traitlets import Bool, List, Unicode

from ..base import registry
from ..base.adopt import adopt_base
from ..base.maintain import describe_holders, remove_base, remove_leftover, verify_base
from ..base.publish import Created
from ..base.snapshot import own_python
from ..errors import BaseNotFound
from ..project.notes import gone_from, standing_at, standing_on
from ..runs.bases import create, created_data, described, refuse_own
from ..runs.use import use_base
from .common import CommandGroup, OverlayApp, PlacedApp
from .progress import progress_on


class CreateApp(PlacedApp):
    """Install a base: torch for one accelerator, with ipykernel, pip and numpy, shared by all notebooks.

    With --installer auto, torch comes from PyTorch's index through uv. If that index cannot be reached, pip
    is asked, with the indexes and find-links that it is configured with. Only a build for TAG is accepted.
    The command prints where torch came from. A base that is there already and has what is asked for is kept;
    --upgrade looks for a newer torch.
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
    flags = {
        **PlacedApp.flags,
        "upgrade": (
            {"CreateApp": {"upgrade": True}},
            "Look for a newer torch, though there is such a base already.",
        ),
    }
    upgrade = Bool(False, help="Look for a newer torch where there is a base already.").tag(config=True)
    torch = Unicode("", help="torch's version (2.8.0) or specifier ('>=2.6,<2.8'); default: the newest.").tag(
        config=True
    )
    python = Unicode(
        "", help="The base's Python: a path or a version; default: the Python of this command."
    ).tag(config=True)
    packages = List(Unicode(), help="Another package for the base; can be repeated.").tag(config=True)
    installer = Unicode("auto", help="auto (the default), uv or pip.").tag(config=True)
    find_links = List(Unicode(), help="A directory or page with wheels; can be repeated.").tag(config=True)

    def run(self) -> int | None:
        (tag,) = self.words(1, 1)
        if self.installer not in ("auto", "uv", "pip"):
            raise BaseNotFound(f"--installer {self.installer!r} is none", fix="write auto, uv or pip")
        settings = self.settings()
        with progress_on(self.console) as progress:
            created = create(
                tag,
                settings,
                torch=self.torch,
                packages=self.packages,
                python=self.python,
                installer=self.installer,
                find_links=[_place(place) for place in self.find_links],
                data_dir=self.jupyter_data,
                upgrade=self.upgrade,
                progress=progress.step,
            )
        _tell(self, created)
        return None


class AdoptApp(PlacedApp):
    """Register an existing environment (venv, conda, system Python) as a base. It is never changed."""

    usage = "jupyter overlay base adopt PATH [--tag TAG] [options]"
    description = __doc__
    examples = """
    jupyter overlay base adopt /opt/conda/envs/torch
    jupyter overlay base adopt ~/venvs/ml --tag cu126
    """
    aliases = {**PlacedApp.aliases, "tag": "AdoptApp.tag"}
    tag = Unicode("", help="The tag to register it under; default: the tag of its torch.").tag(config=True)

    def run(self) -> int | None:
        (path,) = self.words(1, 1)
        refuse_own(self.jupyter_data, self.settings())
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
    """List the bases. A star marks the default of each tag. Broken bases are listed with their fix."""

    usage = "jupyter overlay base list [--json]"
    description = __doc__
    examples = "jupyter overlay base list\njupyter overlay base list --json"

    def run(self) -> int | None:
        self.words(0, 0)
        register = registry.read_register()
        data = [described(base, register) for base in register.bases]
        lines = [
            f"{'*' if entry['default'] else ' '} {entry['id']}  torch {entry['torch']}  "
            f"Python {entry['python']}"
            f"{'  adopted' if entry['adopted'] else ''}  {entry['path']}"
            for entry in data
        ]
        lines += [f"! {error.what}\n  fix: {error.fix}" for error in register.damaged]
        self.emit(data, lines or ["no base yet. Create one: jupyter overlay base create cpu"])
        return None


class ShowApp(OverlayApp):
    """Show one base: its packages, its location, and the kernels and projects that use it."""

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
            **described(base, register),
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
        with self.working("Checking every file, and importing torch"):
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
            f"fix: jupyter overlay base remove {base.manifest.id}, then create it again",
        ]
        self.emit(data, [good] if verdict.sound else bad)
        return 0 if verdict.sound else 1


class RemoveApp(OverlayApp):
    """Remove a base that no running kernel and no project environment uses.

    Removing an adopted base only unregisters it: the environment itself stays.
    """

    usage = "jupyter overlay base remove ID [--json]"
    description = __doc__
    examples = "jupyter overlay base remove cpu-torch2.8.0-py311-0a1b2c3d"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        register, root = registry.read_register(), Path(self.settings().overlay_root)
        if left := register.leftover(name):
            with self.working(f"Removing what is left of {name}"):
                removed = remove_leftover(left, standing=lambda: standing_at(root, left))
            self.emit({"removed": removed, "gone": []}, [f"removed {line}" for line in removed])
            return None
        base = register.get(name)
        gone = gone_from(root, base)
        with self.working(f"Removing {base.manifest.id}"):
            removed = remove_base(
                base, data_dir=base.directory.parent.parent, standing=lambda: standing_on(root, base)
            )
        told = [
            f"{path}, an environment on it, is no longer there. If it was moved:  jupyter overlay sync DIR"
            for path in gone
        ]
        self.emit(
            {"removed": removed, "gone": list(map(str, gone))},
            [*(f"removed {line}" for line in removed), *told],
        )
        return None


class DefaultApp(OverlayApp):
    """Set the base that a tag stands for. New kernels use it; running kernels keep theirs."""

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


class UseApp(OverlayApp):
    """Let a notebook run on a base: write the kernel or the accelerator that chooses it into the notebook.

    Only what is needed changes, and no other value in the file.
    """

    usage = "jupyter overlay base use NOTEBOOK TAG|ID [--json]"
    description = __doc__
    examples = """
    jupyter overlay base use train.ipynb cu126
    jupyter overlay base use train.ipynb cpu-torch2.8.0-py311-0a1b2c3d
    """

    def run(self) -> int | None:
        notebook, name = self.words(2, 2)
        use = use_base(notebook, name, self.settings())
        title, lines = use.notebook.name, []
        if use.said:
            made = self.make(use.notebook, use.change, use.write)
            said = ", ".join(f"{key} {value}" for key, value in use.said.items())
            lines = [f"{title} now says {said}", f"Restart the kernel to run on {use.base}.", *made.lines]
        self.emit(
            {"notebook": str(use.notebook), "base": use.base, "changed": use.said},
            lines or [f"{title} runs on {use.base} already"],
        )
        return None


class BaseApp(CommandGroup):
    """Manage the bases: the shared torch environments that notebooks run on."""

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
        "use": (UseApp, "Let a notebook run on a certain base."),
        "default": (DefaultApp, "Let a tag mean a certain base."),
    }


def _tell(app: OverlayApp, created: Created) -> None:
    manifest = created.base.manifest
    app.emit(
        created_data(created),
        [
            f"{'Already there' if created.existed else 'Ready'}: {manifest.id}",
            f"torch {manifest.torch}, Python {manifest.python}, from {created.source}",
            f'Pick "torch-{manifest.tag} (shared)" in JupyterLab.'
            if manifest.runs_kernels
            else f"It serves projects: jupyter overlay venv DIR --base {manifest.id}\n"
            f"For notebooks it needs ipykernel: {own_python(manifest)} -m pip install ipykernel,"
            " then adopt it again.",
        ],
    )


def _place(find_links: str) -> str:
    """A directory as an absolute path, for uv and pip work elsewhere; a page's address as it is."""
    return find_links if "://" in find_links else str(Path(find_links).absolute())
