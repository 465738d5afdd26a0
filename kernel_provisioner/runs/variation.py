"""A notebook for one run: with other parameters, or with more packages than it declares."""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..errors import InvalidRequest
from ..model.request import parse_request
from ..notebook.contents import KEY
from ..notebook.extras import with_added

_PARAMETERS, _INJECTED = "parameters", "injected-parameters"  # tags, as papermill has them


def parameters_in(words: Sequence[str]) -> dict[str, object]:
    """Name → value of ``NAME=VALUE`` texts, read as papermill's ``-p`` does; raises InvalidRequest."""
    found = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidRequest(
                f"{name!r} is no name of a parameter",
                field="-p",
                fix="write a name and a value, as in -p epochs 3",
            )
        found[name] = _value(text)
    return found


def inject(nb: NotebookNode, values: Mapping[str, object]) -> None:
    """Put a cell that sets ``values`` after the one tagged ``parameters``, or before all others.

    It takes the place of one that an earlier run has left: https://papermill.readthedocs.io/en/latest/usage-parameterize.html
    """
    if not values:
        return
    lines = ["# Parameters", *(f"{name} = {value!r}" for name, value in values.items())]
    cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": [_INJECTED]})  # type: ignore[no-untyped-call]
    if nb.nbformat_minor < 5:  # cells had no names then
        del cell["id"]
    tags = [cell.metadata.get("tags", []) for cell in nb.cells]
    old = next((at for at, found in enumerate(tags) if _INJECTED in found), None)
    if old is not None:
        nb.cells[old] = cell
        return
    behind = next((at + 1 for at, found in enumerate(tags) if _PARAMETERS in found), 0)
    nb.cells.insert(behind, cell)


@contextlib.contextmanager
def declaring_more(nb: NotebookNode, requirements: Sequence[str], *, allow_urls: bool) -> Iterator[None]:
    """Let ``nb`` declare ``requirements`` too, for as long as the context lasts; raises InvalidRequest."""
    parse_request({"extras": list(requirements)}, allow_urls=allow_urls)
    metadata: dict[str, Any] = nb.metadata
    before = metadata.get(KEY)
    said = before if isinstance(before, Mapping) else {}
    extras = said.get("extras")
    metadata[KEY] = {**said, "extras": with_added(extras if isinstance(extras, list) else [], requirements)}
    try:
        yield
    finally:
        if before is None:
            del metadata[KEY]
        else:
            metadata[KEY] = before


def _value(text: str) -> object:
    plain: dict[str, object] = {"True": True, "False": False, "None": None}
    if text in plain:
        return plain[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
