"""``jupyter overlay lock``: write exact versions and hashes into a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Bool, Unicode

from ..notebook.edit import write_lock
from ..notebook.lock_file import lock_path
from ..notebook.text import is_text
from ..runs.locking import LockSubject
from ..runs.open_in import Change
from .common import KernelApp


class LockApp(KernelApp):
    """Write the exact versions and hashes of a notebook's packages into its metadata.

    A locked notebook installs exactly these versions, on this and other machines, on a base for any
    accelerator with the same version of torch. Locking again keeps the locked versions where possible. The
    lock names no index: each machine uses its own. The lock of a text notebook, train.py, is written to
    train.py.lock.json.
    """

    usage = "jupyter overlay lock NOTEBOOK [--upgrade] [--exclude-newer WHEN] [--dry-run|--check] [--json]"
    description = __doc__
    examples = """
    jupyter overlay lock notes.ipynb
    jupyter overlay lock notes.ipynb --upgrade
    jupyter overlay lock notes.ipynb --exclude-newer 2026-11-01
    jupyter overlay lock notes.ipynb --check     exit status 1 if there is no lock, or it is outdated
    """
    flags = {
        **KernelApp.flags,
        "upgrade": (
            {"LockApp": {"upgrade": True}},
            "Take the newest versions, whatever is locked now.",
        ),
        "dry-run": (
            {"LockApp": {"dry_run": True}},
            "Write nothing; show every package that would change.",
        ),
        "check": (
            {"LockApp": {"check": True}},
            "Write nothing; exit status 1 if the lock is missing or outdated.",
        ),
    }
    aliases = {
        **KernelApp.aliases,
        "exclude-newer": "LockApp.exclude_newer",
    }
    upgrade = Bool(False, help="Use the newest versions, ignoring the current lock.").tag(config=True)
    dry_run = Bool(False, help="Write nothing; show every package that would change.").tag(config=True)
    check = Bool(False, help="Write nothing; exit status 1 if the lock is missing or outdated.").tag(
        config=True
    )
    exclude_newer = Unicode("", help="Ignore files published after this date or time (RFC 3339).").tag(
        config=True, metavar="WHEN"
    )

    def run(self) -> int | None:
        """Lock, or check; see the class."""
        (name,) = self.words(1, 1)
        path = Path(name).absolute()
        subject = LockSubject.read(path, allow_urls=self.settings().policy.urls)
        if self.check:
            return self._check(path, subject)
        with self.working(f"Looking up and checking the packages of {path.name}"):
            made, base, notices = subject.lock(
                self.settings(), kernel=self.kernel, upgrade=self.upgrade, exclude_newer=self.exclude_newer
            )
        before = subject.old.pins if subject.old else {}
        content = made.as_dict()
        changed = subject.old is None or subject.old.as_dict() != content
        told = [] if self.dry_run or not changed else self._write(path, content)
        changes = _differences(before, made.pins)
        data = {
            "notebook": str(path),
            "changed": changed,
            "dry_run": self.dry_run,
            "base": base,
            "torch": made.torch,
            "packages": made.pins,
            "exclude_newer": made.exclude_newer or None,
            "notices": notices,
        }
        beside = f", in {lock_path(path).name}" if is_text(path) else ""
        count = f"{len(made.packages)} package{'s' * (len(made.packages) != 1)}"
        verb = "would be" if self.dry_run else "is"
        said = (
            f"{path.name} {verb} locked to {count} and torch {made.torch}{beside}"
            if changed
            else f"{path.name} is already locked to {count} and torch {made.torch}"
        )
        self.emit(data, [*notices, *(f"  {line}" for line in changes), said, *told])
        return None

    def _write(self, path: Path, lock: Mapping[str, Any]) -> list[str]:
        """Write it, and say where. The lock of a text notebook is a file that nobody has open."""
        if is_text(path):
            write_lock(path, lock)
            return []
        return self.make(path, Change(say={"lock": lock}), lambda: write_lock(path, lock)).lines

    def _check(self, path: Path, subject: LockSubject) -> int:
        why = subject.fault
        data = {"notebook": str(path), "current": not why, "why": why or None}
        said = f"{why}: jupyter overlay lock {path.name}" if why else "the lock is up to date"
        self.emit(data, [f"{path.name}: {said}"])
        return 1 if why else 0


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before.get(name, '')} → {after.get(name, 'gone')}".replace("  →", " →")
        if name in before
        else f"{name} {after[name]}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
