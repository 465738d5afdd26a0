"""A notebook to be locked, and its new lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..builder.lock import make_lock
from ..errors import InvalidRequest, NoBaseFits, OverlayError, ResolutionFailed
from ..launch.choose import Choice, choose
from ..model.lock import Lock, parse_lock
from ..model.request import Request, locked, parse_request, why_stale
from ..notebook.contents import NotebookText
from ..notebook.read import kernel_of, named_kernel, read_notebook, torch_env_of
from ..overlay import store
from ..overlay.added import undeclared, with_added
from ..overlay.sources import sources_of, with_sources
from ..settings import Settings
from .kernels import OurKernel, kernel_for


@dataclasses.dataclass(frozen=True)
class LockSubject:
    """A notebook to be locked: what it asks for without its lock, and the lock that it has.

    ``kernel`` is the one that it names; ``fault`` is why that lock does not serve; empty where it does.
    """

    path: Path
    kernel: str
    request: Request
    old: Lock | None
    fault: str

    @classmethod
    def read(cls, path: Path, *, allow_urls: bool) -> LockSubject:
        """The notebook in a file; raises NotebookUnreadable, and InvalidRequest as ``of``."""
        return cls._of(path, read_notebook(path), named_kernel(path), allow_urls=allow_urls)

    @classmethod
    def of(cls, path: Path, document: Mapping[Any, object], *, allow_urls: bool) -> LockSubject:
        """A notebook as it is open somewhere; raises InvalidRequest for what a launch would refuse."""
        return cls._of(path, torch_env_of(document), kernel_of(path, document), allow_urls=allow_urls)

    @classmethod
    def _of(cls, path: Path, text: NotebookText, kernel: str, *, allow_urls: bool) -> LockSubject:
        request = _without_lock(text, allow_urls=allow_urls)
        value = text.metadata.get("lock") if isinstance(text.metadata, Mapping) else None
        if value is None:
            return cls(path, kernel, request, None, "it has no lock")
        try:
            old = parse_lock(value)
        except InvalidRequest as error:  # locking fixes it
            return cls(path, kernel, request, None, error.what)
        return cls(path, kernel, request, old, why_stale(request, old))

    def lock(
        self,
        settings: Settings,
        *,
        kernel: str,
        upgrade: bool,
        exclude_newer: str,
        names: Collection[str] = (),
    ) -> tuple[Lock, str, list[str]]:
        """The new lock, the id of the base that it was made on, and what to tell of it.

        ``upgrade``: with the newest versions, of the packages ``names`` alone where some are named.
        """
        request = self.request
        if exclude_newer:
            moment = _moment(exclude_newer)
            request = dataclasses.replace(request, exclude_newer=moment)
        ours, notice = kernel_for(self.kernel, kernel)
        notices = [notice] if notice else []
        if self.old is not None and not upgrade:
            try:
                return self._made(locked(request, self.old), ours, settings, notices, upgrade=False)
            except (ResolutionFailed, NoBaseFits) as error:
                told = "the locked versions cannot all stay: resolved again"
                notices.append(f"{told} ({(error.why or error.what).splitlines()[-1]})")
        if self.old is not None and names:
            kept = tuple(package for package in self.old.packages if package.name not in names)
            request = locked(request, dataclasses.replace(self.old, packages=kept))
        return self._made(request, ours, settings, notices, upgrade=upgrade)

    def _made(
        self,
        request: Request,
        kernel: OurKernel,
        settings: Settings,
        notices: list[str],
        *,
        upgrade: bool,
    ) -> tuple[Lock, str, list[str]]:
        root = store.Store(Path(settings.overlay_root))
        directory = root.notebook_dir(self.path)
        request = with_sources(request, directory)
        chosen: Choice = choose(request, pinned=kernel.tag, settings=settings, root=root)
        as_it_is = locked(self.request, self.old) if self.old else self.request
        base = chosen.base.manifest
        whole = with_added(as_it_is, undeclared(directory, as_it_is.extras))
        whole = with_sources(whole, directory)
        ready = root.fitting(directory, store.spec_of(whole, base, settings), base)
        builds = settings.policy.builds and ready is not None and ready.entered
        made = make_lock(request, chosen.base, root, settings, builds=builds, upgrade=upgrade)
        told = [f"{source.told}, and is not in the lock" for source in sources_of(directory, request.extras)]
        return made, base.id, [*notices, *chosen.notices, *told]


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
