"""What a launch would choose and find, without starting anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..base.registry import RegisteredBase
from ..errors import CorruptState
from ..inkernel.shared import layout
from ..model.manifest import BaseManifest
from ..model.request import Request
from ..notebook.find import FoundNotebook
from ..overlay import store
from ..settings import Settings
from .asked import Asked, read_request, with_additions
from .choose import Choice, choose


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What a launch would find: the base and why, and how far the overlay is.

    ``request`` is what it would install; ``added`` of it is not declared, but from ``%overlay add``.
    ``declared`` is what the notebook itself says.
    ``state`` is that of ``generation``, the one to start in or else the newest; or ``outdated``
    where the notebook has asked for something else since, ``damaged`` where its record cannot be
    read, ``none`` where there is no overlay yet.
    """

    base: RegisteredBase
    chosen: Choice
    request: Request
    directory: Path
    generation: store.Generation | None
    state: str
    added: tuple[str, ...]
    declared: Request


def preview(
    found: FoundNotebook,
    *,
    pinned: str,
    settings: Settings,
    request: Request | None = None,
    without: Iterable[str] = (),
) -> Outlook:
    """What a launch would choose and find; raises OverlayError where it would fail.

    ``request`` stands for what the notebook says, where it is about to say something else, and ``without``
    names what is about to be no longer kept from ``%overlay add``. Nothing is
    changed, but that an adopted base which is not what it was is looked at again.
    """
    root = store.Store(Path(settings.overlay_root))
    directory = root.notebook_dir(found.path or Path())
    said = read_request(found, settings) if request is None else Asked(request)
    asked = with_additions(said, settings, directory, without)
    chosen = choose(asked.whole, pinned=pinned, settings=settings, root=root)
    base = chosen.base
    spec = store.spec_of(asked.whole, base.manifest, settings)
    generation, state = _standing(root, directory, spec, base.manifest)
    return Outlook(base, chosen, asked.whole, directory, generation, state, asked.added, asked.request)


def _standing(
    root: store.Store, directory: Path, spec: Mapping[str, object], base: BaseManifest
) -> tuple[store.Generation | None, str]:
    if (fitting := root.fitting(directory, spec, base)) is not None:
        return fitting, fitting.state().value
    for newest in root.generations(directory):
        state = newest.state()
        if state is store.State.BUILDING and newest.behind:
            continue  # what it is built behind is what a kernel has
        try:
            same = newest.read(layout.SPEC)["order"] == spec
        except CorruptState:
            return newest, "damaged"
        if not same:
            return newest, "outdated"
        return newest, "damaged" if state is store.State.READY else state.value
    return None, "none"
