"""``jupyter overlay upgrade``: newer versions of a notebook's packages."""

from __future__ import annotations

from traitlets import Bool, Unicode

from ..notebook.edit import write_lock
from ..runs.open_in import Change
from ..runs.upgrade import upgrade
from .changes import package_line
from .common import OverlayApp
from .progress import progress_on


class UpgradeApp(OverlayApp):
    """Take the newest versions of a notebook's packages, or of those that are named.

    The declarations stay as they are, and limit what is taken. A locked notebook gets a new lock. For any
    other one a new overlay is built now, beside the old one, which running kernels keep.
    """

    usage = "jupyter overlay upgrade NOTEBOOK [PACKAGE…] [--dry-run] [--kernel NAME] [--json]"
    description = __doc__
    examples = """
    jupyter overlay upgrade notes.ipynb
    jupyter overlay upgrade notes.ipynb transformers
    jupyter overlay upgrade notes.ipynb --dry-run      show every package that would change
    """
    flags = {
        **OverlayApp.flags,
        "dry-run": (
            {"UpgradeApp": {"dry_run": True}},
            "Change nothing; show every package that would change.",
        ),
    }
    aliases = {**OverlayApp.aliases, "kernel": "UpgradeApp.kernel"}
    dry_run = Bool(False, help="Change nothing; show what would change.").tag(config=True)
    kernel = Unicode("", help="The shared torch kernel to use; default: the notebook's own, or torch.").tag(
        config=True, metavar="NAME"
    )

    def run(self) -> int | None:
        notebook, *names = self.words(1, None)
        with progress_on(self.messages, passing=True) as progress:
            done = upgrade(
                notebook, names, self.settings(),
                kernel=self.kernel, dry_run=self.dry_run, tell=progress.step,
            )  # fmt: skip
        path, name = done.notebook, done.notebook.name
        told: list[str] = []
        if done.lock is not None and not self.dry_run:
            lock = done.lock
            told = self.make(path, Change(say={"lock": lock}), lambda: write_lock(path, lock)).lines
        lines = [*done.notices, *map(package_line, done.packages)]
        if done.waits:
            lines.append(f"more is known once a cell has run: {done.waits.splitlines()[-1]}")
        elif not done.packages:
            lines.append(f"{name} has the newest versions that its declarations allow")
        elif not self.dry_run:
            lines.append("Restart the kernel to use them.")
        lines += told if done.packages else []
        self.emit(done.as_dict(dry_run=self.dry_run), lines)
        return None
