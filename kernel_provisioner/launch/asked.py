"""What the notebook of a launch asks for, with what to tell of how it says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from ..errors import NotebookUnreadable, OverlayError
from ..inkernel.shared.packages import named_in
from ..model.request import Request, block_that_counts, parse_request
from ..notebook.find import FoundNotebook
from ..notebook.read import read_notebook, torch_env_of
from ..notebook.text import is_text, with_lock
from ..overlay.added import undeclared, with_added
from ..overlay.sources import sources_of, with_sources
from ..settings import Settings


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the notebook says, and what to tell of how it says it.

    ``script`` is the text of its ``# /// script`` block. ``added`` is what it has been given by
    ``%overlay add`` and does not declare. ``unreadable``: nobody can say what it declares.
    """

    request: Request
    notices: tuple[str, ...] = ()
    script: str = ""
    added: tuple[str, ...] = ()
    unreadable: bool = False

    @property
    def whole(self) -> Request:
        """What is to be installed: what the notebook declares, and what was added."""
        return with_added(self.request, self.added)


def read_request(found: FoundNotebook, settings: Settings) -> Asked:
    """The notebook's request; an unreadable notebook asks for nothing, and is told of."""
    if found.content is None and found.path is None:
        return Asked(Request(), ("no notebook is known to this kernel: it runs on the base alone",))
    try:
        if found.content is not None:
            text = torch_env_of(found.content)
            if found.path is not None and is_text(found.path):
                text = with_lock(text, found.path)
        else:
            assert found.path is not None
            text = read_notebook(found.path)
    except NotebookUnreadable as error:
        why = f" ({error.why})" if error.why else ""
        told = f"{error.what}: running on the base alone{why}"
        return Asked(Request(), (told,), unreadable=True)
    request = parse_request(
        text.metadata, text.script_blocks, uv_lock=text.uv_lock, allow_urls=settings.policy.urls
    )
    return Asked(request, request.warnings, block_that_counts(text.script_blocks))


def with_additions(asked: Asked, settings: Settings, directory: Path, without: Iterable[str] = ()) -> Asked:
    """What a notebook says, with what was added to its overlays in ``directory`` and still counts.

    An addition that the policy does not let in any more is left out, and told of; those of the names
    ``without`` are left out.
    """
    gone = set(map(named_in, without))
    counting = () if asked.unreadable else undeclared(directory, asked.request.extras)
    added = tuple(addition for addition in counting if named_in(addition) not in gone)
    try:
        if added:
            settings.policy.refuse_unlocked()
            parse_request({"extras": list(added)}, allow_urls=settings.policy.urls)
    except OverlayError as error:
        told = f"not kept of what %overlay add has added: {', '.join(added)}: {error.what}"
        added, asked = (), dataclasses.replace(asked, notices=(*asked.notices, told))
    return _from_sources(dataclasses.replace(asked, added=added), settings, directory)


def _from_sources(asked: Asked, settings: Settings, directory: Path) -> Asked:
    """``asked`` with the wheels of packages that have a source on this machine, and what is wrong with it.

    Raises NotAllowed where the policy does not let them in any more: another package of that name is no
    substitute.
    """
    whole = asked.whole
    sources = sources_of(directory, whole.extras)
    if not sources:
        return asked
    settings.policy.refuse_own_sources()
    notices = tuple(filter(None, (source.notice() for source in sources)))
    local = with_sources(whole, directory).local
    request = dataclasses.replace(asked.request, local=local)
    return dataclasses.replace(asked, request=request, notices=(*asked.notices, *notices))
