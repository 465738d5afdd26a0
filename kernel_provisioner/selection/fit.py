"""Whether one base fits a request on a machine, and which base one would have to create."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ..model.accelerators import FAMILIES, TAGS, architectures, available_on, family_of, published
from ..model.manifest import BaseManifest
from ..model.request import Request
from .devices import Machine, Use, use


def objections(base: BaseManifest, request: Request, hardware: Machine, pinned: str) -> list[str]:
    """Why ``base`` cannot serve, each reason a clause; empty: it can.

    A ``pinned`` tag takes the place of the notebook's accelerator, and needs no device.
    """
    wish = pinned or request.accelerator
    found = []
    if not base.runs_kernels:
        found.append("it holds no ipykernel, which a notebook's kernel runs on; it serves projects")
    if not available_on(base.tag, hardware.platform):
        found.append(f"builds of {base.tag} do not run on {hardware.platform}")
    elif not matches(wish, base.tag):
        asker = "the kernel is for" if pinned else "the notebook asks for"
        found.append(f"it is a {base.tag} build, {asker} {wish}")
    elif not pinned and not (verdict := use_of(base, hardware)).possible:
        found.append(verdict.why)
    torch = version_of(base.torch)
    if torch is not None and torch.local is None and family_of(base.tag):
        torch = Version(
            f"{torch}+{base.tag}"
        )  # PyPI's wheels leave it out; somebody may ask for ==2.9.1+cu128
    if not admits(request.torch, torch):
        found.append(f"it has torch {base.torch}, the notebook asks for {request.torch}")
    if not admits(request.requires_python, version_of(base.python)):
        found.append(f"it has Python {base.python}, the notebook asks for {request.requires_python}")
    return found


def use_of(base: BaseManifest, hardware: Machine) -> Use:
    """What ``hardware`` can do with ``base``: what its torch says it was built for, else the tables."""
    tabled = architectures(base.torch, base.tag, machine=hardware.machine)
    return use(base.tag, base.architectures or tabled or (), hardware)


def creatable(wish: str, request: Request, hardware: Machine, *, pinned: bool = False) -> str:
    """The newest tag within ``wish`` that is published and that this machine runs; empty: none.

    One that runs every GPU comes before one that runs some. A ``pinned`` tag needs no device.
    """
    uses = [
        (tag, use(tag, built_for or (), hardware))
        for tag, built_for in _published(wish, request, hardware)
        if matches(wish, tag) and available_on(tag, hardware.platform)
    ]
    possible = [(tag, verdict) for tag, verdict in uses if pinned or verdict.possible]
    whole = [(tag, verdict) for tag, verdict in possible if tag != "cpu" and not verdict.left_out]
    return next((tag for tag, _ in whole + possible), "")


def _published(
    wish: str, request: Request, hardware: Machine
) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Each tag once, with what its newest torch that ``request`` admits was built for; cpu last."""
    releases = published(hardware.machine)
    told: set[str] = set()
    for release, tags in releases:
        if any(admits(request.torch, Version(f"{release}.{micro}")) for micro in range(3)):
            yield from (
                (tag, architectures(release, tag, machine=hardware.machine))
                for tag in tags
                if tag not in told
            )
            told.update(tags)
    recent = {tag for _, tags in releases for tag in tags}
    for tag in TAGS:
        # Other CUDA tags are old, and some were never built: they are for who names them.
        if tag not in recent and (tag == wish or family_of(tag) in ("rocm", "xpu")):
            yield tag, architectures("", tag)
    yield "cpu", None


def matches(wish: str, tag: str) -> bool:
    """Whether ``tag`` is what ``wish`` (a tag, a family or ``auto``) asks for."""
    return wish == "auto" or wish == (family_of(tag) if wish in FAMILIES else tag)


def admits(specifier: str, version: Version | None) -> bool:
    """Whether ``version`` satisfies; pre-releases do: somebody put that base there on purpose."""
    if not specifier:
        return True
    try:
        return version is not None and SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False


def version_of(text: str) -> Version | None:
    """``text`` as a version; None where it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        return None
