"""``jupyter overlay lock``: write exact versions and hashes into a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from traitlets import Bool, Unicode

from ..builder.lock import make_lock
from ..choose import Choice, choose
from ..errors import InvalidRequest, NoBaseFits, NotebookUnreadable, OverlayError, ResolutionFailed
from ..notebook.edit import write_lock
from ..notebook.read import NotebookText, open_notebook, parse_json, torch_env_of
from ..overlay import store
from ..pylock import Lock, parse_lock
from ..request import Request, locked, parse_request
from ..settings import Settings
from .common import OverlayApp
from .kernels import OurKernel, kernel_for


class LockApp(OverlayApp):
    """Write the exact versions and hashes of a notebook's packages into it; nothing else changes.

    The locked notebook then installs exactly these, here and on other machines, on a base for any
    accelerator that has the same version of torch. Versions that are locked already stay as they
    are where they can. The lock names no index: files come from wherever each machine takes them.
    """

    usage = "jupyter overlay lock NOTEBOOK [--upgrade] [--exclude-newer WHEN] [--check] [--json]"
    description = __doc__
    examples = """
    jupyter overlay lock notes.ipynb
    jupyter overlay lock notes.ipynb --upgrade
    jupyter overlay lock notes.ipynb --exclude-newer 2026-11-01
    jupyter overlay lock notes.ipynb --check     exit status 1 where there is no lock, or an old one
    """
    flags = {
        **OverlayApp.flags,
        "upgrade": (
            {"LockApp": {"upgrade": True}},
            "Take the newest versions, whatever is locked now.",
        ),
        "check": (
            {"LockApp": {"check": True}},
            "Write nothing; exit status 1 where the lock is missing or older than the extras.",
        ),
    }
    aliases = {
        **OverlayApp.aliases,
        "exclude-newer": "LockApp.exclude_newer",
        "kernel": "LockApp.kernel",
    }
    upgrade = Bool(False, help="Take the newest versions, whatever is locked now.").tag(config=True)
    check = Bool(False, help="Write nothing; exit status 1 where the lock is old.").tag(config=True)
    exclude_newer = Unicode(
        "", help="Take nothing that was published after this date or time (RFC 3339)."
    ).tag(config=True, metavar="WHEN")
    kernel = Unicode(
        "", help="The shared torch kernel to lock it on; default: the notebook's own, or else torch."
    ).tag(config=True, metavar="NAME")

    def run(self) -> int | None:
        """Lock, or check; see the class."""
        (name,) = self.words(1, 1)
        path = Path(name).absolute()
        subject = _Subject.read(path, allow_urls=self.settings().policy.urls)
        if self.check:
            return self._check(path, subject)
        made, base, notices = subject.lock(
            self.settings(), kernel=self.kernel, upgrade=self.upgrade, exclude_newer=self.exclude_newer
        )
        changed = write_lock(path, made.as_dict())
        before = subject.old.pins if subject.old else {}
        changes = _differences(before, made.pins)
        data = {
            "notebook": str(path),
            "changed": changed,
            "base": base,
            "torch": made.torch,
            "packages": made.pins,
            "exclude_newer": made.exclude_newer or None,
            "notices": notices,
        }
        count = f"{len(made.packages)} package{'s' * (len(made.packages) != 1)}"
        said = (
            f"{path.name} is locked to {count} and torch {made.torch}"
            if changed
            else f"{path.name} is locked already, to {count} and torch {made.torch}"
        )
        self.emit(data, [*notices, *(f"  {line}" for line in changes), said])
        return None

    def _check(self, path: Path, subject: _Subject) -> int:
        why = subject.fault
        data = {"notebook": str(path), "current": not why, "why": why or None}
        said = f"{why}: jupyter overlay lock {path.name}" if why else "its lock is current"
        self.emit(data, [f"{path.name}: {said}"])
        return 1 if why else 0


@dataclasses.dataclass(frozen=True)
class _Subject:
    """A notebook to be locked: what it asks for without its lock, and the lock that it has.

    ``fault`` is why that lock does not serve; empty where it does.
    """

    path: Path
    metadata: Mapping[object, object]
    request: Request
    old: Lock | None
    fault: str

    @classmethod
    def read(cls, path: Path, *, allow_urls: bool) -> _Subject:
        with open_notebook(path) as file:
            document = parse_json(path, file.read())
        metadata = document.get("metadata")
        if not isinstance(metadata, Mapping):
            raise NotebookUnreadable(f"the notebook {path} cannot be read", why="it has no metadata")
        text = torch_env_of(document)
        request = _without_lock(text, allow_urls=allow_urls)
        value = text.metadata.get("lock") if isinstance(text.metadata, Mapping) else None
        if value is None:
            return cls(path, metadata, request, None, "it has no lock")
        try:
            old = parse_lock(value)
        except InvalidRequest as error:  # locking mends it
            return cls(path, metadata, request, None, error.what)
        stale = locked(request, old).stale
        return cls(path, metadata, request, old, "the lock is older than the extras" if stale else "")

    def lock(
        self, settings: Settings, *, kernel: str, upgrade: bool, exclude_newer: str
    ) -> tuple[Lock, str, list[str]]:
        """The new lock, the id of the base that it was made on, and what to tell of it."""
        request = self.request
        if exclude_newer:
            moment = _moment(exclude_newer)
            request = dataclasses.replace(request, exclude_newer=moment)
        ours, notice = kernel_for(dict(self._texts()), kernel)
        notices = [notice] if notice else []
        if self.old is not None and not upgrade:
            try:
                return self._made(locked(request, self.old), ours, settings, notices, anew=False)
            except (ResolutionFailed, NoBaseFits) as error:
                told = "the locked versions cannot all stay: resolved anew"
                notices.append(f"{told} ({(error.why or error.what).splitlines()[-1]})")
        return self._made(request, ours, settings, notices, anew=upgrade)

    def _made(
        self,
        request: Request,
        kernel: OurKernel,
        settings: Settings,
        notices: list[str],
        *,
        anew: bool,
    ) -> tuple[Lock, str, list[str]]:
        root = store.Store(Path(settings.overlay_root))
        chosen: Choice = choose(request, pinned=kernel.tag, settings=settings, root=root)
        as_it_is = locked(self.request, self.old) if self.old else self.request
        order = store.order_of(as_it_is, chosen.base.manifest, settings)
        ready = root.fitting(root.notebook_dir(self.path), order)
        builds = settings.policy.builds and ready is not None and ready.entered
        made = make_lock(request, chosen.base, root, settings, builds=builds, anew=anew)
        return made, chosen.base.manifest.id, [*notices, *chosen.notices]

    def _texts(self) -> Mapping[str, object]:
        return {str(key): value for key, value in self.metadata.items()}


def _without_lock(text: NotebookText, *, allow_urls: bool) -> Request:
    said = text.metadata
    if isinstance(said, Mapping):
        said = {key: value for key, value in said.items() if key != "lock"}
    return parse_request(said, text.script_blocks, uv_lock=text.uv_lock, allow_urls=allow_urls)


def _moment(when: str) -> str:
    try:
        return parse_request({"exclude-newer": when}).exclude_newer
    except InvalidRequest as error:
        raise OverlayError(
            error.what.replace("torch_env.exclude-newer", "--exclude-newer"),
            why=error.why,
            fix="write a date or time, as in --exclude-newer 2026-11-01",
        ) from error


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before.get(name, '')} → {after.get(name, 'gone')}".replace("  →", " →")
        if name in before
        else f"{name} {after[name]}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
