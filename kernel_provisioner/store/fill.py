"""Put wheels into the store: from what uv has unpacked to entries, published by one rename each.

uv unpacks all wheels that are missing at once, into one environment. Each is what its RECORD names. What two
wheels name (a ``tests`` directory, say) is of one of them only: these are asked for again, one by one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InstallFailed
from ..inkernel.shared.links import FACTS, INFO, PREFIX, SITE, time_of
from ..inkernel.shared.packages import canonical
from ..system import locks, records
from ..system.files import write_new
from ..system.pause_points import pause
from . import entry as entries
from .keys import Material, key_of
from .reasons import reason_for_files, written_at_first_use
from .rpaths import leading_out

SHEBANG = b"#!overlay\n"
"""What a script in the store begins with; each overlay's own has its interpreter there."""

USE_LOCK = "use.lock"
NEW = ".new-"
_STRANGERS = (".dist-info", ".egg-info")


@contextlib.contextmanager
def held(store: Path) -> Iterator[None]:
    """Hold the entries of ``store``, which is made if need be: none that is there goes meanwhile.

    Raises OSError, and LockTimeout where they are being collected for long.
    """
    store.mkdir(mode=0o700, exist_ok=True)
    with locks.shared(store / USE_LOCK, timeout=60.0):
        yield


@contextlib.contextmanager
def workplace(store: Path) -> Iterator[Path]:
    """A directory in ``store`` for wheels to be unpacked into; what is left in it goes."""
    path = store / f"{NEW}{os.getpid()}-{os.urandom(4).hex()}"
    path.mkdir(mode=0o755)
    try:
        yield path
    finally:
        remove(path)


def shared_files(filled: Path) -> set[str]:
    """The names of the distributions in ``filled`` that name a file which another one names, too."""
    named: dict[str, list[str]] = {}
    for dist_info in _dist_infos(filled):
        name = _name(dist_info)
        for path in records.paths(dist_info):
            named.setdefault(records.plain(path), []).append(name)
    return {name for names in named.values() if len(names) > 1 for name in names}


def publish(filled: Path, store: Path, wanted: Mapping[str, Material], shebangs: Sequence[bytes]) -> None:
    """Publish the distributions in ``filled`` that are ``wanted`` (name → what it is made from).

    ``shebangs`` are the forms in which scripts name their interpreter. Raises InstallFailed for one with
    files where no wheel's belong, and OSError.
    """
    owners = Counter(top for dist_info in _dist_infos(filled) for top in _tops(dist_info))
    for dist_info in _dist_infos(filled):
        if (name := _name(dist_info)) in wanted:
            material = wanted[name]
            new = filled.parent / key_of(material)
            remove(new)
            inside = dist_info.parent.relative_to(filled).as_posix()
            _split(dist_info, new, inside, owners, shebangs)
            _describe(new, dist_info.name, inside, material)
            pause("unpacked-wheel")
            _put(new, store / new.name)
            pause("published-wheel")


def remove(path: Path) -> None:
    """Remove what lies in a store, read-only as it is; what is gone is no error."""
    if not os.path.lexists(path):
        return
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)  # thousands of them
    shutil.rmtree(path, ignore_errors=True)


def leavings(store: Path) -> list[Path]:
    """What those who were killed have left in ``store``."""
    return sorted(store.glob(f"{NEW}*"))


def _dist_infos(filled: Path) -> list[Path]:
    return [
        path
        for site in sorted(filled.glob("lib/python*/site-packages"))
        for path in records.dist_infos(site)
        if (path / "RECORD").exists()
    ]


def _name(dist_info: Path) -> str:
    return canonical(dist_info.name.partition("-")[0])


def _tops(dist_info: Path) -> set[str]:
    """The top-level entries of site-packages that a distribution has a part in."""
    return {os.path.normpath(path).partition("/")[0] for path in records.paths(dist_info)}


def _split(
    dist_info: Path, new: Path, inside: str, owners: Mapping[str, int], shebangs: Sequence[bytes]
) -> None:
    """Move the files of one distribution to where an entry has them."""
    site, info = dist_info.parent, dist_info.name
    for part in (SITE, PREFIX):
        (new / part).mkdir(parents=True)
    moved = set()
    for row in list(records.paths(dist_info)):
        top = os.path.normpath(row).partition("/")[0]
        place = entries.place_of_row(row, info, inside)
        if not place:
            raise InstallFailed(
                f"{info.removesuffix('.dist-info')} has a file outside of its environment: {row}",
                why="no package's files belong there",
                fix="remove the extra that brings it: that package is broken or hostile",
            )
        if top == info or top in moved:
            continue
        if top != ".." and owners[top] == 1:
            moved.add(top)
            source, place = site / top, f"{SITE}/{top}"
        else:
            source = site / row
        if not os.path.lexists(source):  # bytecode that nobody wrote
            continue
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        source.rename(new / place)
    dist_info.rename(new / INFO)
    strangers = [path.name for path in (new / SITE).iterdir() if path.name.endswith(_STRANGERS)]
    if strangers:
        raise InstallFailed(
            f"an extra would pass for another package: {', '.join(strangers)}",
            why="installers believe such metadata, and would count as installed what is not",
            fix="remove the extra that does so: that package is broken or hostile",
        )
    for script in sorted((new / PREFIX / "bin").glob("*")):
        content = b"" if script.is_symlink() or not script.is_file() else script.read_bytes()
        if form := next((form for form in shebangs if content.startswith(form)), b""):
            script.write_bytes(SHEBANG + content.removeprefix(form).removeprefix(b"\n"))


def _describe(new: Path, info: str, inside: str, material: Material) -> None:
    """Make an entry complete and read-only, and write down what it is."""
    site = new / SITE
    top_level = new / INFO / "top_level.txt"
    python = [int(part) for part in material[2].rstrip("t").split(".")]
    if python < [3, 12] and not top_level.exists():  # later ones see it in a RECORD that names directories
        tops = {path.name.partition(".")[0] for path in site.iterdir() if not path.name.startswith("__")}
        write_new(top_level, "".join(f"{name}\n" for name in sorted(tops) if name.isidentifier()))
    for path, text in written_at_first_use(canonical(info.partition("-")[0])).items():
        if (site / path).parent.is_dir() and not (site / path).exists():
            write_new(site / path, text)
    key = key_of(material)
    time = time_of(key)
    folders, count, size = [], 0, 0
    for folder, _, names in os.walk(new, topdown=False):
        if any(name.endswith(".py") for name in names) and folder.startswith(f"{site}"):
            with contextlib.suppress(FileExistsError):  # so that compiling changes no other directory
                os.mkdir(cache := f"{folder}/__pycache__")
                os.chmod(cache, 0o555)  # noqa: S103 - nobody writes there, and whatever the umask all read
        for name in names:
            path = f"{folder}/{name}"
            seen = os.lstat(path)
            size, count = size + seen.st_size, count + 1
            os.chmod(path, 0o555 if seen.st_mode & 0o111 else 0o444)
            os.utime(path, (time, time))
        if folder != str(new):
            if os.path.basename(folder) != "__pycache__":
                folders.append(os.path.relpath(folder, new))
            os.utime(folder, (time, time))
            os.chmod(folder, 0o555)  # noqa: S103 - nobody writes there
    scripts = [
        path.name
        for path in sorted((new / PREFIX / "bin").glob("*"))
        if path.is_file() and path.read_bytes()[: len(SHEBANG)] == SHEBANG
    ]
    facts: dict[str, Any] = {
        "schema": entries.SCHEMA,
        "material": material,
        "info": info,
        "inside": inside,
        "boot": entries.boot(),
        "bytes": size,
        "files": count,
        "folders": folders,
        "scripts": scripts,
        "reaches": leading_out(site),
        "as_files": reason_for_files(canonical(info.partition("-")[0]), new / INFO),
    }
    write_new(new / FACTS, json.dumps(facts))
    (new / FACTS).chmod(0o444)


def _put(new: Path, place: Path) -> None:
    """Publish by a rename. What is there already stays; what is damaged there goes out of the way."""
    new.chmod(0o755)
    if place.is_symlink():  # to a shared store, which has it no more, or which others can change now
        with contextlib.suppress(OSError):  # somebody was quicker
            place.unlink()
    try:
        new.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        facts = json.loads((new / FACTS).read_bytes())
        if entries.find(place.parent, facts["material"]):
            return  # somebody was quicker
        place.chmod(0o755)
        place.rename(new.parent / f"damaged-{place.name}")
        pause("replacing-wheel")
        new.rename(place)
    place.chmod(0o555)
