"""Who else could change what lies at a path.

Somebody who can rename a directory on the way to ours can put their own in its place, also later,
while a kernel imports from it. So each component of a path, and of every link on the way, has to
belong to root or to this user, and be closed to others. A sticky bit (``/tmp``) will do for a
directory on the way, because there nobody can rename what is another's.

A group counts by its members: homes that one's private group can write to are the rule on Debian,
and those of the group ``users`` in a container with one user. A group without a name here may have any
members, on another machine that shares the disk for example. Only where this process is in it, it is taken
for a number that a container was started with (``--user``, ``fsGroup``), and nobody else has. What access
control lists or a file server let others do is not seen here.
"""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import shlex
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import BuildFailed, OverlayError

_MOST_LINKS = 40  # as Linux follows them
_NOBODY = 65534  # how a user namespace shows a user or a group that it does not know


class Danger(NamedTuple):
    """A component that others can change: where it is, how, and the command, if any, that ends it."""

    path: str
    how: str
    remedy: str = ""


def danger_at(
    path: Path | str, trusted: frozenset[int] = frozenset(), passed: set[str] | None = None
) -> Danger | None:
    """The first component of ``path`` that others could change; None where none is.

    ``trusted`` are users that are no others, besides root and this one; ``passed`` collects the
    directories on the way that are in order, which other paths of the same moment can share.
    What is not there yet is nobody's. Reads a few inodes (microseconds). Raises OSError where it
    cannot be told.
    """
    passed = set() if passed is None else passed
    ours = trusted | {0, os.geteuid()}
    here, links = "", 0
    text = os.fspath(path)
    pending = _components(text if text.startswith("/") else str(Path(path).absolute()))
    while pending:
        name = pending.pop()
        if name == "..":
            here = here.rpartition("/")[0]
            continue
        if name == "/":
            here, name = "", ""
        step = f"{here}/{name}"
        if pending and step in passed:
            here = step.rstrip("/")
            continue
        try:
            info = os.lstat(step)
        except FileNotFoundError:
            return None
        if danger := _danger(step, info, ours, last=not pending):
            return danger
        if stat.S_ISLNK(info.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), step)
            pending += _components(os.readlink(step))  # noqa: PTH115 - text, as the rest here
        else:
            here = step.rstrip("/")
            if pending:
                passed.add(step)
    return None


def refuse_strangers(path: Path, *, what: str, fix: str, error: type[OverlayError] = BuildFailed) -> None:
    """Raise ``error``, which says ``what`` cannot be done, where others could change ``path``.

    ``fix`` is what helps besides closing the place to them. Raises OSError as ``danger_at``.
    """
    if danger := danger_at(path):
        raise error(
            f"{what}: other users can change {danger.path}",
            why=f"{danger.how}: they could replace its code with their own",
            fix="; or ".join(filter(None, [danger.remedy, fix])),
        )


@functools.cache
def owners_of_this_program() -> frozenset[int]:
    """Who could change what runs here anyway: the owners of this package and of its interpreter."""
    return frozenset(Path(path).stat().st_uid for path in (__file__, os.path.realpath(sys.executable)))


def make_private(path: Path) -> None:
    """Make a directory and its missing parents for this user alone, whatever the umask."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def _components(path: str) -> list[str]:
    """The parts of a path, the last one first; ``Path`` takes longer, and each launch asks of a dozen."""
    parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    return [*parts, "/"] if path.startswith("/") else parts


def _danger(path: str, info: os.stat_result, ours: frozenset[int], *, last: bool) -> Danger | None:
    if info.st_uid not in ours and not _is_unknown(info.st_uid):
        return Danger(path, f"it belongs to another user ({_name(info.st_uid)})")
    if stat.S_ISLNK(info.st_mode) or (info.st_mode & stat.S_ISVTX and not last):
        return None
    if info.st_mode & stat.S_IWOTH:
        return Danger(path, "every user can write to it", _chmod("o-w", path, last=last))
    if info.st_mode & stat.S_IWGRP and (how := _open_to_group(info.st_gid, ours)):
        return Danger(path, how, _chmod("g-w", path, last=last))
    return None


def _chmod(less: str, path: str, *, last: bool) -> str:
    place = shlex.quote(path)
    return f"chmod {less} {place}" + ("" if last else f"  or  chmod +t {place}  (its owner)")


@functools.cache
def _open_to_group(group: int, ours: frozenset[int]) -> str:
    """How others than these users can write to what a group can; empty where nobody else is in it.

    As far as the user database lists its people. The group of root is root's.
    """
    if group == 0:
        return ""
    unknown = f"its group (gid {group}), whose people are not known here, may write to it"
    if group == _NOBODY:
        return unknown
    members, known = set[str](), True
    try:
        members.update(grp.getgrgid(group).gr_mem)
    except KeyError:
        known = group in {os.getegid(), *os.getgroups()}
    everybody = pwd.getpwall()
    members |= {person.pw_name for person in everybody if person.pw_gid == group}
    others = sorted(members - {person.pw_name for person in everybody if person.pw_uid in ours})
    if others:
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        return f"its group, which {listed} are in, may write to it"
    return "" if known else unknown


@functools.cache
def _is_unknown(user: int) -> bool:
    """Whether this is how a container without root's powers shows the machine's own root."""
    if user != _NOBODY:
        return False
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except OSError:
        return False
    return mapped != ["0", "0", "4294967295"]


def _name(user: int) -> str:
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"
