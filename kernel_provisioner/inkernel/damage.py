"""Damage in the wheel store, looked for where it shows: a cell failed in a package whose files were changed.

Nobody can change them but root, a disk that fails, and who takes their protection away first. To look at
all files at each launch would take longer than the launch. So those of the packages are looked at that an
error has to do with. A package that is not what it was counts no more: the next launch of any notebook that
is linked to it unpacks it again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from .shared.links import ANCHOR, FACTS, INFO, SITE, time_of
from .shared.settle import site_packages

_MOST = 8  # packages that are looked at for one error; each takes a hundredth of a second at most


def damaged(error: BaseException, overlay: Path) -> str:
    """What to say of packages that ``error`` has to do with, and that were changed; empty where none was.

    They count no more then.
    """
    with contextlib.suppress(OSError):  # the overlay was removed, or the entry is just now
        return "\n".join(_told(error, str(site_packages(overlay))))
    return ""


def _told(error: BaseException, site: str) -> Iterator[str]:
    entries = dict.fromkeys(filter(None, (_entry_of(name, site) for name in _names(error, site))))
    for entry in list(entries)[:_MOST]:
        if changed := _changed(entry):
            yield f"{_discarded(entry)} in the wheel store was changed ({changed}): {_remedy(entry)}"


def _names(error: BaseException, site: str) -> Iterator[str]:
    """The names in site-packages that the error, and those that it came from, have to do with."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        files = [at.filename] if isinstance(at, SyntaxError) else []
        if isinstance(at, ImportError):
            files.append(at.path)
            yield (at.name or "").partition(".")[0]
        traceback = at.__traceback__
        while traceback is not None:
            files.append(traceback.tb_frame.f_code.co_filename)
            traceback = traceback.tb_next
        for file in files:
            if file and file.startswith(f"{site}/"):
                yield file[len(site) + 1 :]
        at = at.__cause__ or at.__context__


def _entry_of(name: str, site: str) -> Path | None:
    """The entry that a name below site-packages leads to: it, or a directory above it, is a link."""
    place = Path(site)
    for part in Path(name).parts:
        place /= part
        if place.is_symlink():
            goal = os.path.normpath(place.parent / place.readlink())
            overlay, _, inside = goal.partition(f"/{ANCHOR}/")
            return Path(os.path.realpath(f"{overlay}/{ANCHOR}"), inside.partition("/")[0]) if inside else None
    return None


def _changed(entry: Path) -> str:
    """What in an entry is not what it was: all bear one time, but the bytecode that came later."""
    time = time_of(entry.name) * 10**9
    for part in (SITE, INFO):
        for folder, folders, names in os.walk(f"{entry}/{part}"):
            if "__pycache__" in folders:
                folders.remove("__pycache__")
            for name in ("", *names):
                if os.lstat(f"{folder}/{name}").st_mtime_ns != time:
                    return os.path.relpath(f"{folder}/{name}", f"{entry}/{part}")
    return ""


def _discarded(entry: Path) -> str:
    """Let an entry count no more, where it is this user's own; the name of the package."""
    name = entry.name
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        name = str(json.loads((entry / FACTS).read_bytes())[INFO]).partition("-")[0]
        if not entry.is_symlink():
            entry.chmod(0o755)
            (entry / FACTS).unlink()
            entry.chmod(0o555)
    return name


def _remedy(entry: Path) -> str:
    if entry.is_symlink():
        return f"tell the admin of {entry.resolve().parent} to run jupyter overlay doctor"
    return "restart the kernel to unpack it again"
