"""``jupyter overlay init``, ``add`` and ``remove``: what a notebook declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from traitlets import Bool, List, Unicode

from ..errors import InvalidRequest
from ..notebook.edit import Edit, adding, removing
from ..overlay.added import added_names, forget
from ..overlay.sources import GIT, Source, drop_sources, keep_source
from ..overlay.store import Store
from ..runs.declare import keeping, new_notebook, source_for, would_change
from ..runs.open_in import Change, Made
from ..runs.sources import Sources, gathered
from .changes import change_lines
from .common import OverlayApp


class _Declaring(OverlayApp):
    """A command that takes requirements: from the command line, from files, from other notebooks."""

    aliases: dict[Any, Any] = {
        **OverlayApp.aliases,
        ("r", "requirement"): "_Declaring.files",
        "from": "_Declaring.others",
    }
    files = List(Unicode(), help="A requirements file; can be repeated.").tag(config=True, metavar="FILE")
    others = List(
        Unicode(), help="A pyproject.toml, a notebook or a script whose packages to take; can be repeated."
    ).tag(config=True, metavar="FILE")

    def gathered(self, packages: Sequence[str]) -> tuple[list[str], list[str]]:
        """All requirements that this command line names, and notices; exit status 2 where it names none."""
        if not (packages or self.files or self.others):
            self.words(1, 0)
        sources = Sources(packages, [Path(file) for file in self.files], [Path(file) for file in self.others])
        return gathered(sources, allow_urls=self.settings().policy.urls)

    def tell(
        self,
        path: Path,
        edit: Edit,
        change: Change,
        notices: Sequence[str],
        *,
        dry_run: bool,
        keep: Callable[[], object] | None = None,
    ) -> None:
        """Make an edit and say what the notebook declares now; with ``dry_run``, say what would change.

        ``change`` is the same for an editor that has the notebook open; for ``keep`` see ``open_in.make``.
        """
        data: dict[str, Any] = {"notebook": str(path.absolute())}
        if dry_run:
            with self.working("Looking up what would change"):
                changes = would_change(path, edit, self.settings(), forget=change.remove)
            lines = [f"{path.name} would declare {_listed(edit.extras)}", *change_lines(changes)]
            told = {**data, "extras": edit.extras, "dry_run": True, "changes": changes}
            self.emit(told, [*notices, *lines])
            return
        made = Made([]) if edit.extras == edit.before else self.make(path, change, edit.write, keep)
        extras = edit.before if made.kept else edit.extras if made.extras is None else made.extras
        if made.kept:
            said = f"{_listed(change.add)} will be in {path.name} from the next start of its kernel on"
        else:
            said = f"{path.name} now declares {_listed(extras)}"
        more = "Restart the kernel to install them." if change.add else "Restart the kernel to apply this."
        self.emit({**data, "extras": extras, "kept": made.kept}, [*notices, said, more, *made.lines])


def _listed(extras: Sequence[str]) -> str:
    return ", ".join(extras) or "no packages"


class InitApp(_Declaring):
    """Create a notebook with the kernel "torch (shared)", or another one of these, and declare its packages.

    The name gets .ipynb where it has no suffix. An existing file is never changed.
    """

    usage = "jupyter overlay init NOTEBOOK [PACKAGE…] [-r FILE]… [--from FILE]… [--kernel NAME] [--json]"
    description = __doc__
    examples = """
    jupyter overlay init notes
    jupyter overlay init train.ipynb "transformers>=4.44" einops --kernel torch-cu126
    jupyter overlay init notes.ipynb --from pyproject.toml
    """
    aliases = {**_Declaring.aliases, "kernel": "InitApp.kernel"}
    kernel = Unicode("", help="The shared torch kernel to use; default: torch, which chooses.").tag(
        config=True, metavar="NAME"
    )

    def run(self) -> int | None:
        name, *packages = self.words(1, None)
        requirements, notices = self.gathered(packages) if packages or self.files or self.others else ([], [])
        urls = self.settings().policy.urls
        path = new_notebook(name, requirements, kernel=self.kernel, allow_urls=urls)
        said = f", which declares {', '.join(requirements)}" if requirements else ""
        data = {"notebook": str(path), "extras": requirements}
        self.emit(data, [*notices, f"Created {path.name}{said}", f"jupyter lab {path.name}  opens it"])
        return None


class AddApp(_Declaring):
    """Declare packages in a notebook's metadata. No other value in the file changes.

    Write requirements as for pip: a name, or a name with versions. A package that is already declared gets
    the new versions. They are installed at the next start of the kernel. In a text notebook (.py, .md,
    .qmd) they are written into a PEP 723 block (# /// script) in a code cell.

    -e takes a library of yours from its directory, so that changes there count at the next import;
    git+https://… takes one from a repository. Both are built now. The notebook names only the package: where
    it comes from is kept on this machine, for this notebook. Elsewhere it comes from the index.
    """

    usage = "jupyter overlay add NOTEBOOK [PACKAGE…] [-r FILE]… [--from FILE]… [-e DIR]… [options]"
    description = __doc__
    examples = """
    jupyter overlay add notes.ipynb einops
    jupyter overlay add notes.ipynb "transformers>=4.44,<5" "datasets[audio]"
    jupyter overlay add notes.ipynb -r requirements.txt
    jupyter overlay add notes.ipynb --from other.ipynb
    jupyter overlay add notes.ipynb -e ~/code/mylib
    jupyter overlay add notes.ipynb git+https://github.com/me/mylib@v1.2
    jupyter overlay add notes.ipynb einops --dry-run      show every package that would change
    """
    aliases = {**_Declaring.aliases, ("e", "editable"): "AddApp.directories"}
    directories = List(
        Unicode(), help="The directory of a library to install as editable; can be repeated."
    ).tag(config=True, metavar="DIR")
    flags = {
        **OverlayApp.flags,
        "dry-run": (
            {"AddApp": {"dry_run": True}},
            "Write nothing; show every package that the next start would change.",
        ),
    }
    dry_run = Bool(False, help="Write nothing; show what would change.").tag(config=True)

    def run(self) -> int | None:
        name, *words = self.words(1, None)
        path, settings = Path(name), self.settings()
        origins = [f"-e {one}" for one in self.directories] + [one for one in words if one.startswith(GIT)]
        sources = self._sources(path, origins)
        packages = [*(word for word in words if not word.startswith(GIT)), *(one.name for one in sources)]
        requirements, notices = self.gathered(packages)
        edit = adding(path, requirements, allow_urls=settings.policy.urls)
        change = Change(add=[requirement.strip() for requirement in requirements])
        overlays = Store(Path(settings.overlay_root)).notebook_dir(path)
        for source in sources:
            keep_source(overlays, source)
            notices.append(f"{source.told}, on this machine and for this notebook")
        keep = keeping(overlays, edit, change.add)
        self.tell(path, edit, change, notices, dry_run=self.dry_run, keep=keep)
        return None

    def _sources(self, path: Path, origins: Sequence[str]) -> list[Source]:
        """The packages of directories and repositories, which are built now."""
        if origins and self.dry_run:
            raise InvalidRequest(
                f"--dry-run does not go with {origins[0]}",
                why="what a directory or a repository needs is known once it has been built",
                fix="leave --dry-run out; jupyter overlay remove takes the package back",
            )
        found = []
        for origin in origins:
            with self.working(f"Building {origin.removeprefix('-e ')}"):
                found.append(source_for(path, origin, self.settings()))
        return found


class RemoveApp(_Declaring):
    """Remove packages from a notebook's metadata. No other value in the file changes.

    In a text notebook (.py, .md, .qmd), remove them from its PEP 723 block. What %overlay add has added and
    the notebook does not declare is removed, too.
    """

    usage = "jupyter overlay remove NOTEBOOK PACKAGE… [--dry-run] [--json]"
    description = __doc__
    examples = """
    jupyter overlay remove notes.ipynb einops
    jupyter overlay remove notes.ipynb einops --dry-run
    """
    aliases = {**OverlayApp.aliases}
    flags = {
        **OverlayApp.flags,
        "dry-run": (
            {"RemoveApp": {"dry_run": True}},
            "Write nothing; show every package that the next start would change.",
        ),
    }
    dry_run = Bool(False, help="Write nothing; show what would change.").tag(config=True)

    def run(self) -> int | None:
        name, *packages = self.words(2, None)
        path, settings = Path(name), self.settings()
        overlays = Store(Path(settings.overlay_root)).notebook_dir(path)
        added = added_names(overlays)
        edit = removing(path, packages, allow_urls=settings.policy.urls, beside=added)
        gone = [] if self.dry_run else forget(overlays, packages)
        told = [f"{', '.join(gone)}: no longer kept from %overlay add"] if gone else []
        lost = [] if self.dry_run else drop_sources(overlays, packages)
        told += [f"{', '.join(lost)}: the source on this machine is forgotten"] if lost else []
        self.tell(path, edit, Change(remove=packages), told, dry_run=self.dry_run)
        return None
