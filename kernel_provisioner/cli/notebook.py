"""``jupyter overlay add``, ``remove`` and ``show``: what a notebook declares, and what it runs on."""

from __future__ import annotations

from pathlib import Path

from traitlets import Unicode

from ..inkernel.disk import Usage, human, usage
from ..notebook.edit import add_extras, remove_extras
from .common import OverlayApp
from .kernels import prospect

_STATES = {
    "ready": "ready: the next start is at once",
    "building": "being built",
    "failed": "the last build failed; the next start tries again",
    "abandoned": "the last build was cut short; the next start builds it anew",
    "outdated": "the notebook has asked for something else since; the next start builds it anew",
    "damaged": "its record cannot be read; the next start builds it anew",
    "none": "not made yet; the next start makes it",
}


class AddApp(OverlayApp):
    """Declare packages that a notebook needs, in its metadata; nothing else in the file changes.

    They are written as pip takes them: a name, or a name with versions. A package that is already
    declared gets the new versions. The notebook's overlay has them from its next start on.
    """

    usage = "jupyter overlay add NOTEBOOK PACKAGE…"
    description = __doc__
    examples = """
    jupyter overlay add notes.ipynb einops
    jupyter overlay add notes.ipynb "transformers>=4.44,<5" "datasets[audio]"
    """

    def run(self) -> int | None:
        """Write the metadata; see the class."""
        name, *packages = self.words(2, None)
        allow_urls = self.settings().policy.urls
        _tell_extras(self, Path(name), add_extras(Path(name), packages, allow_urls=allow_urls))
        return None


class RemoveApp(OverlayApp):
    """Take back packages that a notebook declares in its metadata; nothing else in the file changes."""

    usage = "jupyter overlay remove NOTEBOOK PACKAGE…"
    description = __doc__
    examples = "jupyter overlay remove notes.ipynb einops"

    def run(self) -> int | None:
        """Write the metadata; see the class."""
        name, *packages = self.words(2, None)
        _tell_extras(self, Path(name), remove_extras(Path(name), packages))
        return None


class ShowApp(OverlayApp):
    """Say what a notebook would run on if it were started now, and why; nothing is started or changed.

    Disk use is what the notebook's overlay really adds. Packages that are hard links into uv's
    cache take no room of their own and are counted apart; the base is shared by all notebooks.
    """

    usage = "jupyter overlay show NOTEBOOK [--kernel NAME] [--json]"
    description = __doc__
    examples = """
    jupyter overlay show notes.ipynb
    jupyter overlay show notes.ipynb --kernel torch-cu126
    jupyter overlay show notes.ipynb --json
    """
    aliases = {**OverlayApp.aliases, "kernel": "ShowApp.kernel"}
    kernel = Unicode("", help="A shared torch kernel; default: the notebook's own, or else torch.").tag(
        config=True, metavar="NAME"
    )

    def run(self) -> int | None:
        """Look; see the class."""
        (name,) = self.words(1, 1)
        ahead = prospect(name, self.kernel, self.settings())
        outlook, base = ahead.outlook, ahead.outlook.base.manifest
        path = outlook.generation.path if outlook.generation else None
        disk = usage([path]) if path else Usage()
        data = {
            "notebook": str(ahead.path),
            "base": {
                "id": base.id,
                "tag": base.tag,
                "torch": base.torch,
                "python": base.python,
                "path": base.prefix,
            },
            "reason": outlook.chosen.reason,
            "extras": list(outlook.request.extras),
            "overlay": {"path": str(path) if path else None, "state": outlook.state},
            "disk": {
                "own_bytes": disk.own_bytes,
                "own_files": disk.own_files,
                "linked_bytes": disk.linked_bytes,
                "shared_bytes": base.bytes,
            },
        }
        rows = [
            ("notebook", str(ahead.path)),
            ("base", f"{base.id}  (torch {base.torch}, Python {base.python})"),
            ("", base.prefix),
            ("why", outlook.chosen.reason),
            *(("", notice) for notice in ahead.notices),
            ("extras", ", ".join(outlook.request.extras) or "none"),
            ("overlay", _STATES.get(outlook.state, outlook.state)),
            *([("", str(path))] if path else []),
            ("disk", f"{human(disk.own_bytes)} of its own in {disk.own_files} files"),
            *([("", f"{human(disk.linked_bytes)} of hard links to uv's cache")] if disk.linked_bytes else []),
            ("", f"{human(base.bytes)} shared with every notebook on this base"),
        ]
        self.emit(data, [f"{label:9} {text}" for label, text in rows])
        return None


def _tell_extras(app: OverlayApp, notebook: Path, extras: list[str]) -> None:
    declared = f"{notebook.name} now declares {', '.join(extras) or 'no packages'}"
    app.emit(
        {"notebook": str(notebook.absolute()), "extras": extras},
        [
            declared,
            "restart its kernel, or start it, and they are there"
            if extras
            else "that counts from the next start on",
        ],
    )
