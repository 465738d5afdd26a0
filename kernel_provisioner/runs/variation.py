"""A notebook for one run: with other parameters, or with more packages than it declares."""

from __future__ import annotations

import contextlib
import keyword
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..errors import InvalidRequest
from ..model.request import Request, parse_request
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
    lines = ["# Parameters", *(f"{name} = {_literal(value)}" for name, value in values.items())]
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
def declaring_more(
    nb: NotebookNode, request: Request, requirements: Sequence[str], *, allow_urls: bool
) -> Iterator[None]:
    """Let ``nb`` declare ``request`` and ``requirements``, for as long as the context lasts.

    ``request`` is what a launch reads from the notebook's file: jupytext puts parts of a text notebook's
    declaration where nobody looks for it in memory. Raises InvalidRequest.
    """
    parse_request({"extras": list(requirements)}, allow_urls=allow_urls)
    metadata: dict[str, Any] = nb.metadata
    before = metadata.get(KEY)
    metadata[KEY] = {**_declaration(request), "extras": with_added(request.extras, requirements)}
    try:
        yield
    finally:
        if before is None:
            del metadata[KEY]
        else:
            metadata[KEY] = before


def _declaration(request: Request) -> dict[str, object]:
    """The ``torch_env`` that asks for ``request``; what a PEP 723 block in a cell repeats counts once."""
    said = {
        "accelerator": request.accelerator,
        "torch": request.torch,
        "requires-python": request.requires_python,
        "exclude-newer": request.exclude_newer,
        "lock": request.lock.as_dict() if request.lock else None,
    }
    return {key: value for key, value in said.items() if value}


def _literal(value: object) -> str:
    """``value`` in Python, where NaN and the infinities have no literals; as papermill writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _value(text: str) -> object:
    plain: dict[str, object] = {"True": True, "False": False, "None": None}
    if text in plain:
        return plain[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
