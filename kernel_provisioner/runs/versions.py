"""The versions of a package that a notebook could have on its base, for a list to choose from."""

from __future__ import annotations

import re
from pathlib import Path

from ..builder.trial import trial
from ..errors import InvalidRequest, ResolutionFailed
from ..inkernel.shared.packages import canonical
from ..launch.preview import preview
from ..overlay import store
from ..settings import Settings
from .subject import Subject

_MOST = 12  # in the list; who wants an older one knows which
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


def versions_of(name: str, subject: Subject, settings: Settings) -> list[str]:
    """The newest versions that the indexes have of ``name`` for the base, as uv finds them, the newest first.

    What else the notebook declares is not looked at: a preview says whether it all fits. Raises OverlayError
    where there is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:80]!r} is not the name of a package")
    outlook = preview(subject.found, pinned=subject.kernel.tag, settings=settings)
    root = store.Store(Path(settings.overlay_root))
    found: list[str] = []
    with trial(outlook.request, outlook.base, root, settings) as (spec, scratch):
        uv, wanted = spec.uv, scratch / "versions.in"
        options = [*spec.build_options(builds=False), *spec.index_options]
        while len(found) < _MOST:
            wanted.write_text(f"{name}<{found[-1]}\n" if found else f"{name}\n", encoding="utf-8")
            try:
                listed = uv.list_alone(spec.python, wanted, options)
            except ResolutionFailed:
                if not found:
                    raise
                break
            found.append(listed[canonical(name)].version)
    return found
