"""A package that no index has: told as that, with the name that was probably meant.

Names are compared with those of well-known packages, of the base and of what was resolved here before;
nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import OverlayError, ResolutionFailed
from ..inkernel.shared.packages import canonical, named_in
from ..system.files import read_bytes
from ..uv.messages import not_found
from .spec import BuildSpec

_WELL_KNOWN = Path(__file__).with_name("well_known.txt")
_FROM_SOURCE = "jupyter overlay add NOTEBOOK -e DIRECTORY"  # or a repository: the command's help says so
_LIKE = 0.8  # of difflib's 0 to 1: transfomers and transformers are 0.96, torch and scrapy 0.36


def unknown(why: str, spec: BuildSpec, extras: Iterable[str]) -> ResolutionFailed | None:
    """The error to tell where the resolver's reason ``why`` is that a package does not exist; else None."""
    name = canonical(not_found(why))
    if not name:
        return None
    declared = name in {named_in(extra) for extra in extras}
    meant = _close_to(name, spec) if declared else ""
    what = f"there is no package called {name}"
    index = "where only an index of your own has it, set UV_INDEX where Jupyter is started"
    source = f"{index};\nwhere it is a library of the notebook's author, and you have that:\n  {_FROM_SOURCE}"
    if meant:
        fix = f"write {meant} in its place and save the notebook, then restart the kernel;\n{index}"
        error = ResolutionFailed(f"{what}; did you mean {meant}?", why=why, fix=fix)
        error.field, error.meant = name, meant
        return error
    if declared:
        return ResolutionFailed(
            what,
            why=why,
            fix=f"correct how it is spelt and save the notebook, then restart the kernel;\n{source}",
        )
    fix = f"ask for another version of the package that needs it;\n{index}"
    return ResolutionFailed(f"{what}, which the extras need", why=why, fix=fix)


def plain_reason(why: str, extras: Iterable[str], look_up: Callable[[Sequence[str]], object]) -> str:
    """The reason ``why``, or that the package which it is about does not exist.

    Of ``NAME[EXTRA]`` uv says that there are no versions of it, whether there is such a package or not.
    """

    def reason(name: str) -> str:
        try:
            look_up([name])
        except OverlayError as error:
            return error.why
        return ""

    names = {named_in(extra) for extra in extras if f"{named_in(extra)}[" in why}
    return next((told for name in names if not_found(told := reason(name))), why)


def well_known() -> frozenset[str]:
    """Names of packages that many notebooks use."""
    return frozenset(_WELL_KNOWN.read_text(encoding="utf-8").split())


def _close_to(name: str, spec: BuildSpec) -> str:
    import difflib  # for a failure alone

    close = difflib.get_close_matches(name, {*_known(spec)} - {name}, n=1, cutoff=_LIKE)
    return close[0] if close else ""


def _known(spec: BuildSpec) -> Iterator[str]:
    yield from well_known()
    yield from spec.manifest.distributions
    for lock in (spec.root / "locks").glob("pylock.*.toml"):
        yield from re.findall(r'(?m)^name = "([a-z0-9-]+)"', read_bytes(str(lock)).decode("utf-8", "replace"))
