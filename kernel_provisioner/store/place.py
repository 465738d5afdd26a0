"""Lay entries of the store into an environment that is being staged: by links, where links serve.

A directory becomes one link, unless others have a part in it: where a second wheel brings it, and where the
base or the overlay has it as a namespace. Then it is a real directory, with links in it. For a part that
comes later ``%overlay add`` makes room by ``supply.make_room``, an install by hand by ``inkernel.free``.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..inkernel.shared.links import ANCHOR, copy_tree
from ..system import records
from ..system.files import make_directory, write_new
from .entry import Entry, place_of_row
from .fill import SHEBANG
from .reasons import PLUGIN

_CACHE = "__pycache__"
# RECORD names the links; nobody has asked for this package by hand; and who has installed it is optional:
# uv leaves that out, too, where it is told to (--no-installer-metadata).
_LEFT_OUT = frozenset({"RECORD", "REQUESTED", "INSTALLER"})


class Stage:
    """An environment that is being staged at ``prefix``, with site-packages ``site`` in it.

    ``shebang`` is the first line of its scripts. ``shared`` tells of a directory below site-packages
    whether others than these packages have a part in it. ``beside`` is the site-packages of what is there
    already. ``pytest``: it has that, or is about to.
    """

    def __init__(
        self,
        prefix: Path,
        site: Path,
        *,
        beside: Path,
        shebang: str,
        shared: Callable[[str], bool] = lambda _: False,
        pytest: bool = False,
    ) -> None:
        self._prefix, self._site, self._beside = prefix, site, beside
        self._inside = site.relative_to(prefix).as_posix()
        self._shebang, self._shared, self._pytest = shebang, shared, pytest
        self._by: dict[str, tuple[Entry, str]] = {}  # path below site → whose link it is, and to what
        self._rows: dict[Path, dict[str, tuple[str, str]]] = {}  # entry → path → hash and size
        self._named: dict[Path, dict[str, str]] = {}  # entry → path in its wheel → hash
        self._store = ""  # where the link leads that all others go through, once it is there

    def lay(self, entries: Iterable[Entry]) -> None:
        """Lay all of these; raises OSError."""
        laid = list(entries)
        if laid and os.path.lexists(anchor := f"{self._prefix}/{ANCHOR}"):
            raise FileExistsError(errno.EEXIST, "a package brings a file of that name", anchor)
        sites = [*(entry.site for entry in laid), str(self._site), str(self._beside)]
        for entry in laid:
            if _serves_by_links(entry, sites, pytest=self._pytest):
                self._link(entry)
            else:
                self._copy(entry)
        for entry in laid:
            self._write_record(entry)

    def _link(self, entry: Entry) -> None:
        rows = self._rows.setdefault(entry.path, {})
        for part in _parts(entry.site):
            self._put(part, part.name, entry)
        info = entry.facts["info"]
        os.mkdir(f"{self._site}/{info}")
        for name in sorted(os.listdir(entry.info)):
            if name not in _LEFT_OUT:
                self._symlink(f"{entry.info}/{name}", f"{info}/{name}", entry)
        rows[f"{info}/RECORD"] = ("", "")
        self._elsewhere(entry, copies=False)

    def _put(self, source: os.DirEntry[str], path: str, entry: Entry) -> None:
        """Let ``path`` below site-packages be, or have in it, what ``source`` in the store is."""
        if not source.is_dir():
            self._symlink(source.path, path, entry)
            return
        cache = source.name == _CACHE
        if not (cache or self._shared(path) or os.path.lexists(f"{self._site}/{path}")):
            self._symlink(source.path, path, entry)
            return
        if path in self._by and (larger := self._larger(self._by[path][0], entry, path)):
            if larger is entry:
                self._rows[self._by[path][0].path].pop(path)
                self._symlink(source.path, path, entry)
            return
        parts = _parts(source.path)
        if parts or not cache:
            self._real_directory(path)
        for part in parts:
            self._put(part, f"{path}/{part.name}", entry)

    def _larger(self, one: Entry, later: Entry, path: str) -> Entry | None:
        """Of two wheels that bring a directory the one that serves for both, as files of both would; if any.

        So it is with mlflow and mlflow-skinny: thousands of files, the same in both.
        """
        old, new = (self._files_in(entry, path) for entry in (one, later))
        if old.keys() <= new.keys():
            return later  # it has each file that both bring
        same = all(hashed and old.get(file) == hashed for file, hashed in new.items())
        return one if new and same else None

    def _files_in(self, entry: Entry, path: str) -> dict[str, str]:
        """The files below a directory that a wheel names, with their hashes."""
        if entry.path not in self._named:
            rows = records.rows(Path(entry.info))
            self._named[entry.path] = {records.plain(row[0]): row[1] for row in rows}
        return {
            file: hashed for file, hashed in self._named[entry.path].items() if file.startswith(f"{path}/")
        }

    def _real_directory(self, path: str) -> None:
        """Let ``path`` below site-packages be a directory; a link there gives way to links in it."""
        if "/" in path:
            self._real_directory(os.path.dirname(path))
        place = f"{self._site}/{path}"
        if os.path.islink(place):
            other, source = self._by.pop(path)
            self._rows[other.path].pop(path)
            os.unlink(place)
            os.mkdir(place)
            for part in _parts(source):
                self._put(part, f"{path}/{part.name}", other)
        elif not os.path.isdir(place):
            os.mkdir(place)

    def _symlink(self, source: str, path: str, entry: Entry) -> None:
        """A link to a file or a directory of the store; of two wheels that bring a file the later has it."""
        place = f"{self._site}/{path}"
        goal = self._goal(source, f"{self._inside}/{path}", entry)
        try:
            os.symlink(goal, place)
        except FileExistsError:
            os.unlink(place)
            os.symlink(goal, place)
        self._by[path] = entry, source
        self._rows[entry.path][path] = ("", "")

    def _goal(self, source: str, place: str, entry: Entry) -> str:
        """Where a link at ``place`` in the environment leads: through the environment's own to the store."""
        if not self._store:
            self._store = str(entry.path.parent)
            os.symlink(self._store, f"{self._prefix}/{ANCHOR}")
        return f"{'../' * place.count('/')}{ANCHOR}{source.removeprefix(self._store)}"

    def _elsewhere(self, entry: Entry, *, copies: bool) -> None:
        """Commands, headers and data: the directories are the environment's own."""
        up = "../" * (self._inside.count("/") + 1)
        for folder, _, names in os.walk(entry.prefix):
            for name in names:
                source = f"{folder}/{name}"
                path = source.removeprefix(f"{entry.prefix}/")
                if path.startswith("lib64/"):  # a link to the other
                    path = f"lib/{path.removeprefix('lib64/')}"
                if path.split("/")[0] == ANCHOR:
                    what = "a package brings a file of that name"
                    raise FileExistsError(errno.EEXIST, what, f"{self._prefix}/{path}")
                if path.startswith(f"{self._inside}/"):
                    below = path.removeprefix(f"{self._inside}/")
                    if "/" in below:
                        self._real_directory(os.path.dirname(below))
                make_directory(Path(self._prefix, path).parent)
                row = self._lay_file(source, path, entry, copies=copies)
                self._rows[entry.path][f"{up}{path}"] = row

    def _lay_file(self, source: str, path: str, entry: Entry, *, copies: bool) -> tuple[str, str]:
        """One file outside of site-packages; its hash and size where it is the environment's own."""
        place = Path(self._prefix, path)
        if os.path.lexists(place):
            place.unlink()
        if os.path.dirname(path) == "bin" and os.path.basename(source) in entry.facts["scripts"]:
            content = Path(source).read_bytes().removeprefix(SHEBANG)
            text = f"{self._shebang}\n".encode() + content
            place.write_bytes(text)
            place.chmod(0o755)
            return records.row_of(place)
        if copies:
            copy_tree(source, str(place))
        else:
            os.symlink(self._goal(source, path, entry), place)
        return ("", "")

    def _copy(self, entry: Entry) -> None:
        """Lay an entry as files, hard links where the disk allows: with the RECORD of the wheel."""
        info = entry.facts["info"]
        own: dict[str, tuple[str, str]] = {}
        self._rows[entry.path] = own
        self._merge(entry.site, "")
        os.mkdir(f"{self._site}/{info}")
        for name in os.listdir(entry.info):
            if name != "RECORD":
                copy_tree(f"{entry.info}/{name}", f"{self._site}/{info}/{name}")
        self._elsewhere(entry, copies=True)
        for path, hashed, size in records.rows(Path(entry.info)):
            elsewhere = path.startswith("../")
            place = place_of_row(path, info, entry.facts["inside"])
            if place and os.path.lexists(entry.path / place) and (not elsewhere or own.get(path) == ("", "")):
                own[path] = (hashed, size)
        own.setdefault(f"{info}/RECORD", ("", ""))

    def _merge(self, source: str, path: str) -> None:
        for name in sorted(os.listdir(source)):
            inside = f"{path}/{name}" if path else name
            place = f"{self._site}/{inside}"
            if os.path.isdir(f"{source}/{name}"):
                if not os.path.lexists(place):
                    copy_tree(f"{source}/{name}", place)
                else:
                    self._real_directory(inside)
                    self._merge(f"{source}/{name}", inside)
            else:
                if os.path.lexists(place):
                    os.unlink(place)
                copy_tree(f"{source}/{name}", place)

    def _write_record(self, entry: Entry) -> None:
        text = io.StringIO()
        rows = ((path, *row) for path, row in self._rows[entry.path].items())
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_new(f"{self._site}/{entry.facts['info']}/RECORD", text.getvalue())


def _parts(directory: str) -> list[os.DirEntry[str]]:
    """What is in a directory, by name; whether it is one itself is known then without another look."""
    with os.scandir(directory) as found:
        return sorted(found, key=lambda part: part.name)


def _serves_by_links(entry: Entry, sites: Sequence[str], *, pytest: bool) -> bool:
    """Whether links serve a wheel: not where its libraries look for those of another one here."""
    reason = entry.facts["as_files"]
    if reason and (pytest or reason != PLUGIN):
        return False
    return not any(os.path.exists(f"{site}/{path}") for path in entry.facts["reaches"] for site in sites)
