"""Move what was staged to where the overlay's interpreter looks: in the kernel, or by a command.

A build is moved in once, when its overlay is entered. What ``%overlay add`` adds later is staged in the
same way, and counts from the moment when ``ADDING`` is written: a kernel that ends then moves it in at its
next start, and before that nothing in the overlay has changed.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from . import flock, links
from .layout import ADDING, BASE_PATHS, ENTER_LOCK, ENTERED, OVERLAY, STAGING
from .packages import RECEIPT, canonical


def settle(overlay: Path, state: dict[str, Any]) -> None:
    """Move the staged packages to where the interpreter of ``overlay`` looks; nothing of them runs.

    Each entry moves by one rename; a move that was cut short is taken up where it stopped.
    Two kernels of one notebook take turns.
    """
    with flock.exclusive(overlay / ENTER_LOCK):
        if not (overlay / ENTERED).exists():
            remove(site_packages(overlay), overlay, state.get("replaced", {}), only_receipts=True)
            _move_in(overlay)
            (overlay / ENTERED).touch(mode=0o600)


def settle_added(overlay: Path) -> None:
    """Move in what ``%overlay add`` has staged and committed, if there is anything."""
    if not (overlay / ADDING).exists():
        return
    _make_room(overlay)
    with flock.exclusive(overlay / ENTER_LOCK), contextlib.suppress(FileNotFoundError):
        adding = json.loads((overlay / ADDING).read_bytes())
        if adding["gone"]:
            remove(site_packages(overlay), overlay, adding["gone"])
            _write(overlay / ADDING, {**adding, "gone": []})  # what comes has the same names
        _move_in(overlay)
        _write(overlay / OVERLAY, adding["state"])
        (overlay / ADDING).unlink()


def links_in_the_way(staging: Path, overlay: Path) -> list[Path]:
    """The links of ``overlay`` where ``staging`` has directories, whose files would land behind the links."""
    found = []
    for entry in os.scandir(staging):
        if entry.is_dir(follow_symlinks=False):
            place = overlay / entry.name
            if place.is_symlink():
                found.append(place)
            elif place.is_dir():
                found += links_in_the_way(Path(entry), place)
    return found


def remove(own: Path, overlay: Path, gone: Collection[str], *, only_receipts: bool = False) -> None:
    """Remove distributions of these names, each ``dist-info`` last: what was cut short goes on.

    ``own`` is the site-packages of the tree ``overlay``, which may be one that is only staged.
    """
    for info in own.glob("*.dist-info") if gone else ():
        if canonical(info.name.partition("-")[0]) not in gone:
            continue
        # A receipt names nobody, as does a package that is linked. Those of older bases have the mark there.
        others = _installer(info) not in ("", RECEIPT)
        if only_receipts and (others or (info / "METADATA").is_symlink()):
            continue
        with contextlib.suppress(OSError):  # a receipt's RECORD names what goes below
            _remove_files(info / "RECORD", own, overlay)
        shutil.rmtree(info, ignore_errors=True)


def _installer(info: Path) -> str:
    with contextlib.suppress(OSError):
        return (info / "INSTALLER").read_text(encoding="utf-8").strip()
    return ""


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a state file whole, by one rename, for this user's eyes only."""
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=1), encoding="utf-8")
    new.replace(path)


def _make_room(overlay: Path) -> None:
    """Let links be files where what is staged has a part in what they lead to.

    A build does so before it counts. Those of earlier versions did not: what they left could not be moved in.
    """
    with contextlib.suppress(FileNotFoundError):  # another kernel moved it just now
        gone = json.loads((overlay / ADDING).read_bytes())["gone"]
        own = site_packages(overlay)
        found = {os.path.relpath(link, own) for link in links_in_the_way(overlay / STAGING, overlay)}
        if owners := links.owners(own, found) - set(gone):
            links.free(overlay, owners)


def _move_in(overlay: Path) -> None:
    staging = overlay / STAGING
    if staging.is_dir():
        _merge(staging, overlay)
    shutil.rmtree(staging, ignore_errors=True)


def _remove_files(record: Path, own: Path, overlay: Path) -> None:
    """The files that a RECORD names, as far as they lie in the overlay, and folders that are left empty."""
    rows = csv.reader(record.read_text(encoding="utf-8").splitlines())
    named = {Path(os.path.normpath(own / row[0])) for row in rows if row} - {*record.parent.iterdir()}
    prefix = os.path.realpath(overlay)
    folders = {path.parent for path in named}
    inside = {folder for folder in folders if f"{os.path.realpath(folder)}/".startswith(f"{prefix}/")}
    for path in named:
        if path.parent in inside:
            with contextlib.suppress(OSError):  # gone already, or a folder
                path.unlink()
    for folder in sorted(inside - {own}, key=lambda path: len(path.parts), reverse=True):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        with contextlib.suppress(OSError):  # something else lies there
            folder.rmdir()


def _merge(source: Path, target: Path) -> None:
    """Move ``source`` to ``target``; never through a link there, which may lead into the wheel store."""
    with contextlib.suppress(FileNotFoundError):  # no locks here, and another kernel moved it just now
        if not source.is_dir() or source.is_symlink() or not os.path.lexists(target):
            source.replace(target)
            return
        if target.is_symlink():
            raise OSError(
                errno.ELOOP, "a directory of a package would be moved in through a link", str(target)
            )
        for entry in list(os.scandir(source)):
            _merge(Path(entry.path), target / entry.name)


def site_packages(overlay: Path) -> Path:
    """Where the overlay's interpreter looks; raises FileNotFoundError where its ``.pth`` file is gone."""
    for base_paths in overlay.glob(f"lib/python*/site-packages/{BASE_PATHS}.pth"):
        return base_paths.parent
    raise FileNotFoundError(errno.ENOENT, f"its {BASE_PATHS}.pth is gone", str(overlay))
