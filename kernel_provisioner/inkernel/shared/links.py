"""Packages of an overlay that are links into a wheel store, and how they become files of its own.

An overlay has ``.store``, a link to the store, and leads all others through it: ``site-packages/numpy`` is
``../../../.store/KEY/site/numpy``. So each is short, and lies in its inode. A real ``dist-info`` whose RECORD
names the links lets installers unlink them. What they install over a link, however, would land in the
store. So before they install, all links become files: hard links to the store's where the disk allows it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from . import flock
from .layout import BASE_PATHS, ENTER_LOCK, ENTRIES, OVERLAY
from .packages import canonical

ANCHOR = ".store"
"""The link to the store in an overlay. What is in a shared store is linked from there."""

FACTS, SITE, INFO, PREFIX = "entry.json", "site", "info", "prefix"
"""What an entry of a store is made of."""

_NEW = ".~new"  # what is being made beside a link; no module bears such a name


def time_of(key: str) -> int:
    """The time (seconds since the epoch) that all files of an entry bear.

    Python takes bytecode for that of a source by its time and size: no two entries have the same time.
    """
    return 1_000_000_000 + int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 700_000_000


def free(overlay: Path, only: Collection[str] | None = None) -> None:
    """Let packages of ``overlay`` be files of its own; all, or those with names in ``only``.

    What was cut short is taken up where it stopped. Raises OSError.
    """
    with flock.exclusive(overlay / ENTER_LOCK):
        for site in overlay.glob(f"lib/python*/site-packages/{BASE_PATHS}.pth"):
            for info in list(site.parent.glob("*.dist-info")):
                name = canonical(info.name.partition("-")[0])
                if (only is None or name in only) and (entry := entry_of(info)):
                    _free(info, entry)


def entry_of(info: Path | str, real: Callable[[str], str] = os.path.realpath) -> str:
    """The entry of a store that the distribution with this ``dist-info`` is links to; empty where not.

    ``real`` is asked for the real path of the store: by who looks at many, a function that remembers it.
    """
    metadata = os.path.join(info, "METADATA")
    if not os.path.islink(metadata):
        return ""
    entry = os.path.dirname(os.path.dirname(os.path.normpath(os.path.join(info, os.readlink(metadata)))))
    return os.path.join(real(os.path.dirname(entry)), os.path.basename(entry))


def linked_bytes(overlay: Path) -> int:
    """What the packages are that ``overlay`` is linked to; nothing where that cannot be read."""
    total = 0
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        for entry in json.loads((overlay / OVERLAY).read_bytes()).get(ENTRIES, ()):
            total += int(json.loads(Path(entry, FACTS).read_bytes())["bytes"])
    return total


def owners(site: Path, links: Collection[str]) -> set[str]:
    """The names of the distributions in ``site`` whose RECORD names one of ``links`` (paths below it)."""
    found = set()
    for record in site.glob("*.dist-info/RECORD") if links else ():
        if any(row[0] in links for row in _rows(record)):
            found.add(canonical(record.parent.name.partition("-")[0]))
    return found


def named_by(site: Path, names: Collection[str]) -> set[str]:
    """The paths that the RECORDs of the distributions ``names`` in ``site`` name."""
    found: set[str] = set()
    for record in site.glob("*.dist-info/RECORD") if names else ():
        if canonical(record.parent.name.partition("-")[0]) in names:
            found.update(row[0] for row in _rows(record))
    return found


def _free(info: Path, entry: str) -> None:
    site = info.parent
    own = {row[0]: row for row in _rows(info / "RECORD")}
    for path in own:
        if path != f"{info.name}/METADATA":
            _become_files(site / path)
    kept = []
    for row in _rows(Path(entry, INFO, "RECORD")):
        mine = own.get(row[0])
        if os.path.lexists(site / row[0]):  # some are left out of an overlay
            kept.append(mine if mine and mine[1] else row)
            own.pop(row[0], None)
    kept += [row for path, row in own.items() if (site / path).is_file()]  # what the store has added
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    new = info / f"RECORD{_NEW}"
    new.write_text(text.getvalue(), encoding="utf-8")
    new.replace(info / "RECORD")
    _become_files(info / "METADATA")  # last: it tells what there is to do


def _become_files(link: Path) -> None:
    new = link.with_name(f"{link.name}{_NEW}")
    if not os.path.lexists(link) and new.is_dir():  # somebody was killed in between
        new.replace(link)
    if not link.is_symlink():
        return
    with contextlib.suppress(FileNotFoundError):
        _unlink(new)
    try:
        copy_tree(os.path.realpath(link), os.fspath(new))
    except FileNotFoundError:  # it leads nowhere
        return
    if new.is_dir():
        link.unlink()  # a directory does not take the place of a link by a rename
    new.replace(link)


def copy_tree(source: str, target: str) -> None:
    """Let ``target`` be what ``source`` is: directories that can be written to, and hard links or copies."""
    if not os.path.isdir(source):
        _copy(source, target)
        return
    os.mkdir(target)
    for entry in os.scandir(source):
        place = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            copy_tree(entry.path, place)
        else:
            _copy(entry.path, place)


def _copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, too many links, or a system that forbids links to files of others
        shutil.copy2(source, target)


def _unlink(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _rows(record: Path) -> Iterator[list[str]]:
    with contextlib.suppress(OSError, csv.Error):
        text = record.read_text(encoding="utf-8")
        yield from ([*row, "", ""][:3] for row in csv.reader(text.splitlines()) if row)
