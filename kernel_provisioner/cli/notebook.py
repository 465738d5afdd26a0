"""``jupyter overlay show``, ``freeze`` and ``log``: what a notebook runs on, and how that was built."""

from __future__ import annotations

from ..inkernel.shared.disk import Usage, human, usage
from ..inkernel.shared.links import linked_bytes
from ..overlay.sources import sources_of
from ..runs.disk import linked_from
from ..runs.installed import content_of
from ..runs.kernels import prospect
from ..runs.log import log_lines, log_of
from ..runs.subject import Subject
from .common import KernelApp

_STATES = {
    "ready": "ready: the next start is immediate",
    "building": "being built",
    "failed": "the last build failed; the next start tries again",
    "abandoned": "the last build was interrupted; the next start builds it again",
    "outdated": "outdated: the notebook declares something else now; the next start builds it again",
    "damaged": "damaged: its record cannot be read; the next start builds it again",
    "none": "not built yet; the next start builds it",
}


class ShowApp(KernelApp):
    """Show what a notebook would run on if it were started now, and why. Nothing is started or changed.

    Disk use is what the overlay itself adds. Packages are links to the wheel store, where each is once,
    and are counted separately. The base is shared by all notebooks.
    """

    usage = "jupyter overlay show NOTEBOOK [--kernel NAME] [--json]"
    description = __doc__
    examples = """
    jupyter overlay show notes.ipynb
    jupyter overlay show notes.ipynb --kernel torch-cu126
    jupyter overlay show notes.ipynb --json
    """

    def run(self) -> int | None:
        """Look; see the class."""
        (name,) = self.words(1, 1)
        ahead = prospect(name, self.kernel, self.settings())
        outlook, base = ahead.outlook, ahead.outlook.base.manifest
        path = outlook.generation.path if outlook.generation else None
        disk = usage([path]) if path else Usage()
        linked = disk.linked_bytes + (linked_bytes(path) if path else 0)
        shared = linked_from(path) if path else {}
        declared = [extra for extra in outlook.request.extras if extra not in outlook.added]
        sources = sources_of(outlook.directory, outlook.request.extras)
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
            "extras": declared,
            "added": list(outlook.added),
            "sources": {source.name: source.origin for source in sources},
            "overlay": {"path": str(path) if path else None, "state": outlook.state},
            "disk": {
                "own_bytes": disk.own_bytes,
                "own_files": disk.own_files,
                "linked_bytes": linked,
                "shared_bytes": base.bytes,
                "shared_stores": shared,
            },
        }
        rows = [
            ("notebook", str(ahead.path)),
            ("base", f"{base.id}  (torch {base.torch}, Python {base.python})"),
            ("", base.prefix),
            ("why", outlook.chosen.reason),
            *(("", notice) for notice in ahead.notices),
            ("extras", ", ".join(declared) or "none"),
            *(
                [("", f"{', '.join(outlook.added)}: from %overlay add, not declared")]
                if outlook.added
                else []
            ),
            *(("", source.told) for source in sources),
            ("overlay", _STATES.get(outlook.state, outlook.state)),
            *([("", str(path))] if path else []),
            ("disk", f"{human(disk.own_bytes)} of its own in {disk.own_files} files"),
            *([("", f"{human(linked)} of links to the wheel store or uv's cache")] if linked else []),
            *(("", _from_store(place, count)) for place, count in shared.items()),
            ("", f"{human(base.bytes)} shared with every notebook on this base"),
        ]
        self.emit(data, [f"{label:9} {text}" for label, text in rows])
        return None


def _from_store(place: str, count: int) -> str:
    return f"{count} package{'' if count == 1 else 's'} of these from the shared wheel store {place}"


class FreezeApp(KernelApp):
    """Print what a notebook's overlay adds to its base, as exact requirements."""

    usage = "jupyter overlay freeze NOTEBOOK [--kernel NAME] [--json]"
    description = __doc__
    examples = "jupyter overlay freeze notes.ipynb"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        versions = content_of(prospect(name, self.kernel, self.settings()).outlook.generation).versions
        self.emit(dict(versions), [f"{package}=={version}" for package, version in versions.items()])
        return None


class LogApp(KernelApp):
    """Print what the builder of a notebook's overlay did: its steps, what it printed, and why it failed."""

    usage = "jupyter overlay log NOTEBOOK [--kernel NAME] [--json]"
    description = __doc__
    examples = "jupyter overlay log notes.ipynb"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        ahead = prospect(name, self.kernel, self.settings())
        log = log_of(Subject(ahead.path, ahead.kernel), self.settings())
        self.emit(log, log_lines(log))
        return None
