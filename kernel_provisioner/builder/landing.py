"""Where the files of packages may land in an overlay, and under which names they may be imported.

Looked at in staging, before anything counts. A package brings commands, modules and data of its own. It
brings nothing that Python reads beside its interpreter, no module that the base or the overlay has under
that name, and no file that its RECORD does not name.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import InstallFailed
from ..inkernel.shared import layout, links
from ..inkernel.shared.packages import canonical
from ..model.manifest import BaseManifest
from ..overlay.nested import MODULE
from ..overlay.skeleton import HOOK
from ..system import records

# Names of commands (py.test, mpiexec.hydra, clang-format-18.1), and what Python reads beside itself, as
# python3.11._pth: https://github.com/python/cpython/blob/main/Modules/getpath.py
_COMMAND = re.compile(r"[\w+-]+(\.[^\W_][\w-]*)*")
_INTERPRETER = re.compile(r"python[\d.]*[a-z]?|pyvenv\.cfg|pybuilddir\.txt", re.IGNORECASE)
_CODE = re.compile(r"\.(py|pyc|so)$|\.so\.[\d.]+$")
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")  # as the specification of RECORD has it
_NO_MODULES = (".data", ".dist-info", ".egg-info", ".pth", ".start")
_NAMED = 8  # files that a message names
_STRANGE = "an extra brings files that its RECORD does not name: {}"
_NOBODY_KNOWS = "nobody can say whether they are what its author packed"
_LINKS = ("lib64", links.ANCHOR)
"""What both an overlay and a staging directory have, as links that are the same."""
# What packages pack by mistake, or for those who read their sources; no other package imports it.
_UNUSED = frozenset({
    "benchmark", "benchmarks", "conftest", "demo", "demos", "doc", "docs", "example", "examples", "notebooks",
    "integration_tests", "sample", "samples", "scripts", "test", "tests", "tutorials", "unit_tests",
})  # fmt: skip
_LENT = "uv"  # the module by which an overlay lends the server's uv
_LATER = frozenset({
    layout.ADDING, layout.ENTERED, layout.FAILED, layout.OVERLAY, layout.PROVISIONAL, layout.STAGING,
    "torch_extensions",
})  # fmt: skip
"""Names in an overlay's own directory that do not have to be there yet."""


def refuse_misplaced(
    staging: Path,
    base: BaseManifest,
    planned: Collection[str],
    replaced: Iterable[str],
    laid: Collection[str] = (),
    sources: Collection[str] = (),
) -> None:
    """Raise InstallFailed where anything in ``staging`` would land where no package's file belongs.

    ``planned`` names the packages that are to be there, ``replaced`` the base's distributions that
    this overlay has versions of its own of. Those that were ``laid`` come from the store, which has looked
    at what their RECORDs name. ``sources`` are directories that their user has said to import from.
    """
    _refuse(
        overwrites_overlay(staging, planned),
        "an extra would replace {} of the overlay itself",
        why="the notebook's interpreter and its state stand on these files",
    )
    for site in sorted(staging.glob("lib/python*/site-packages")):
        _refuse(
            unplanned(site, planned),
            "an extra would pass for another package: {}",
            why="installers believe such metadata, and would count as installed what is not",
        )
        _refuse(
            unnamed(site, set(planned) - set(laid)),
            _STRANGE,
            why=_NOBODY_KNOWS,
        )
        _refuse(
            hidden(site, base, replaced),
            f"an extra would hide {{}} of {base.id}",
            why="a package with a file of that name would replace the base's own module",
        )
        _refuse(
            leading_out(site, base, sources),
            "an extra would let Python import from outside of this notebook's environment: {}",
            why="what lies there would run in place of what is declared",
        )


def refuse_unnamed(filled: Path, names: Collection[str]) -> None:
    """Raise InstallFailed where packages of these ``names`` bring files that their RECORD does not name."""
    for site in sorted(filled.glob("lib/python*/site-packages")):
        _refuse(unnamed(site, names), _STRANGE, why=_NOBODY_KNOWS)


def _refuse(found: Sequence[str], what: str, *, why: str) -> None:
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        named = ", ".join(found[:_NAMED]) + more
        fix = "remove the extra that does so: that package is broken or hostile"
        raise InstallFailed(what.format(named), why=why, fix=fix)


def overwrites_overlay(staging: Path, planned: Collection[str]) -> list[str]:
    """Paths in ``staging`` that would take the place of what the overlay around it stands on.

    ``planned`` names the packages that are to be there.
    """
    overlay = staging.parent
    taken = {entry.name for entry in os.scandir(overlay) if not entry.is_dir(follow_symlinks=False)}
    taken -= {".lock", *_LINKS}  # the first is uv's own, in every prefix
    met = {path.name for path in staging.iterdir()} & (taken | _LATER)
    if met:
        met -= _of_packages(overlay) - _LATER
    found = [staging / name for name in met]
    found += [path for name in _LINKS if os.path.lexists(path := staging / name) and not path.is_symlink()]
    found += [path for path in staging.glob("bin/*") if not _is_command(path.name)]
    found += map(Path, _of_another_kind(str(staging), str(overlay)))
    modules = {HOOK, MODULE, layout.BASE_PATHS, *([] if _LENT in planned else [_LENT])}
    for home in (path for path in staging.glob("lib/python*") if path.is_dir()):
        found += [path for path in home.iterdir() if path.name != "site-packages"]
        found += [Path(entry) for name, entry in _entries(home / "site-packages") if name in modules]
    return sorted({path.relative_to(staging).as_posix() for path in found})


def unplanned(site: Path, planned: Collection[str]) -> list[str]:
    """Metadata in ``site`` that is of none of the ``planned`` packages; installers would believe it."""
    told = [entry.name for _, entry in _entries(site) if entry.name.endswith((".dist-info", ".egg-info"))]
    return [name for name in told if canonical(name.split("-")[0]) not in planned]


def unnamed(site: Path, names: Collection[str]) -> list[str]:
    """Files in ``site`` that their wheel's RECORD did not name: uv has added them to it, without a hash."""
    found = []
    for dist_info in records.dist_infos(site):
        if canonical(dist_info.name.split("-")[0]) not in names:
            continue
        known = {f"{dist_info.name}/{name}" for name in _UNHASHED}
        with contextlib.suppress(FileNotFoundError):  # a missing RECORD is a fault of its own
            found += [path for path in records.unhashed(dist_info) if path not in known]
    return found


def hidden(site: Path, base: BaseManifest, replaced: Iterable[str]) -> list[str]:
    """Paths below ``site`` that would hide a module of the base, with no right to.

    A distribution that replaces the base's own of that name has the right. So has any where the base's is
    of the kind that nobody imports (``tests``): in one environment the later one takes that place, too.
    Directories that ``.pth`` files add to the import path are judged as ``site`` is.
    """
    own = frozenset(replaced)
    found: list[Path] = []
    for root in (site, *(place for _, _, place in _path_lines(site) if place and place != site)):
        for module, entry in _modules(root):
            if module in base.modules:
                found += [] if base.modules[module] in own or _is_unused(module, base) else [Path(entry)]
            elif module in base.namespaces and not _is_unused(module, base):
                path, theirs = Path(entry), _in_base(base, module)
                met = _meeting(path, theirs) if path.is_dir() else [(path, theirs)]
                found += [path for path, others in met if not _all_belong(others, base, own)]
    return sorted({path.relative_to(site).as_posix() for path in found})


def leading_out(site: Path, base: BaseManifest, sources: Collection[str] = ()) -> list[str]:
    """The lines of ``.pth`` files in ``site`` by which Python would import from elsewhere, with the file.

    A receipt's lines lead into the base. They add nothing where they are read after the overlay's own,
    by which these directories are on the path already; earlier they would change their order.
    """
    lines = ((name, line) for name, line, place in _path_lines(site) if place is None)
    return [
        f"{name} ({line})"
        for name, line in lines
        if line not in sources and (line not in base.site_dirs or name < f"{layout.BASE_PATHS}.pth")
    ]


def namespace_hiders(site: Path, base: BaseManifest) -> list[Path]:
    """``__init__`` files that would turn a namespace shared with the base (``nvidia``) into one's own."""
    found: list[Path] = []
    for name in base.namespaces:
        found += _inits_in_namespace(site / name, _in_base(base, name))
    return sorted(found)


def _of_packages(overlay: Path) -> set[str]:
    """The files in an overlay's own directory that packages in it have brought."""
    found = set()
    for site in overlay.glob("lib/python*/site-packages"):
        names = {canonical(info.name.partition("-")[0]) for info in records.dist_infos(site)}
        rows = links.named_by(site, names)
        found |= {os.path.relpath(site / row, overlay) for row in rows if row.startswith("../")}
    return found


def _is_command(name: str) -> bool:
    return bool(_COMMAND.fullmatch(name)) and not _INTERPRETER.fullmatch(name)


def _of_another_kind(staged: str, there: str) -> Iterator[str]:
    """What is a file in one of two trees and a directory in the other."""
    for entry in os.scandir(staged):
        other = f"{there}/{entry.name}"
        directory = entry.is_dir(follow_symlinks=False)
        if os.path.lexists(other) and not (entry.is_symlink() and os.path.islink(other)):  # noqa: PTH114
            if directory != os.path.isdir(other):  # noqa: PTH112 - hundreds, while a cell waits
                yield entry.path
            elif directory:
                yield from _of_another_kind(entry.path, other)


def _entries(site: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What lies in a directory of modules, bytecode included, with its name up to the first dot."""
    for folder in (site, site / "__pycache__"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder):
                yield entry.name.split(".")[0], entry


def _modules(site: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    return ((name, entry) for name, entry in _entries(site) if not entry.name.endswith(_NO_MODULES))


def _in_base(base: BaseManifest, module: str) -> list[Path]:
    """The directories that make up a namespace of the base."""
    return [path for site in base.site_dirs if (path := Path(site, module)).is_dir()]


def _meeting(staged: Path, theirs: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """What in a namespace would hide a part of it that the base has, with that part."""
    known: dict[str, list[Path]] = {}
    for place in theirs:
        for path in place.iterdir():
            known.setdefault(_name_in_namespace(path), []).append(path)
    for path in staged.iterdir():
        met = known.get(_name_in_namespace(path), [])
        namespace = bool(met) and all(other.is_dir() and not _has_init(other) for other in met)
        if path.is_dir() and namespace:
            yield from _meeting(path, met)
        elif met and (_has_init(path) if path.is_dir() else _CODE.search(path.name)):
            yield path, met


def _name_in_namespace(path: Path) -> str:
    """By what a module is imported or a library loaded: libraries of two versions do not meet."""
    return path.name if ".so." in path.name else path.name.split(".")[0]


def _is_unused(module: str, base: BaseManifest) -> bool:
    """Whether this module of the base is of those that nobody imports: by its name, and by all that is known.

    It is none where torch's stack or the kernel brings it, or a command of the base runs it.
    """
    if module not in _UNUSED:
        return False
    found = (entry for site in base.site_dirs for name, entry in _entries(Path(site)) if name == module)
    owners = {base.modules.get(module, ""), *_owners([Path(entry) for entry in found], base)}
    if not owners.isdisjoint(base.fixed_in(kernel=True)):
        return False
    named = re.compile(rf"=\s*{module}\s*[.:]")
    files = (path for site in base.site_dirs for path in Path(site).glob("*-info/entry_points.txt"))
    return not any(named.search(path.read_text(encoding="utf-8", errors="replace")) for path in files)


def _all_belong(paths: Sequence[Path], base: BaseManifest, own: frozenset[str]) -> bool:
    """Whether these files and directories of the base belong to distributions of these names alone."""
    owners = _owners(paths, base) if own else []
    return bool(owners) and own.issuperset(owners)


def _owners(paths: Sequence[Path], base: BaseManifest) -> list[str]:
    """The distributions of the base that these files and directories of it belong to."""
    owners = []
    for path in paths:
        for site in (Path(place) for place in base.site_dirs if path.is_relative_to(place)):
            inside = path.relative_to(site).as_posix()
            for dist_info in records.dist_infos(site):
                with contextlib.suppress(OSError):  # Debian's packages have no RECORD
                    if any(f"{row}/".startswith(f"{inside}/") for row in records.paths(dist_info)):
                        owners.append(canonical(dist_info.name.split("-")[0]))
    return owners


def _inits_in_namespace(staged: Path, theirs: Sequence[Path]) -> Iterator[Path]:
    if staged.is_dir() and theirs and not any(map(_has_init, theirs)):
        yield from staged.glob("__init__.*")
        for path in staged.iterdir():
            yield from _inits_in_namespace(path, [d for other in theirs if (d := other / path.name).is_dir()])


def _has_init(package: Path) -> bool:
    return any(package.glob("__init__.*"))


def _path_lines(site: Path) -> Iterator[tuple[str, str, Path | None]]:
    """File, line and directory for each that ``.pth`` files add; None for one outside of ``site``."""
    for file in sorted(site.glob("*.pth")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith(("#", "import ", "import\t")):  # as module site reads it
                place = Path(os.path.normpath(site / line.rstrip().removeprefix("\ufeff")))
                yield file.name, line.strip(), place if place.is_relative_to(site) else None
