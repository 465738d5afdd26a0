"""What the lock of a project selects, installed into its environment, where torch is the base's.

uv does all of it, told to leave out what the base has of torch's stack, and what only torch needs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import uv_words
from .shared import layout
from .shared.links import free
from .shared.packages import canonical, packages
from .uv_words import EXTRAS, GROUPS, MEMBERS, Command

QUIET = frozenset({"-q", "--quiet"})
LOUDNESS = QUIET | {"-v", "--verbose"}
"""How much uv tells. It refuses ``-q`` beside ``-v``; with ``-q`` twice it may print nothing at all."""
# What uv says where nothing happens
_UNCHANGED = re.compile("(Audited|Checked|Resolved|Would make no changes|Would use) ?")
_PRIVATE = 0o600


class Place(NamedTuple):
    """The overlay, the uv to run, what ``layout.PROJECT`` says (``project/kept.py``), the project's root."""

    overlay: Path
    uv: str
    kept: Mapping[str, Any]
    root: Path = Path()

    @property
    def python(self) -> list[str]:
        """The option that keeps uv from taking another Python, and making the environment again."""
        return ["--python", f"{self.overlay}/bin/python"]

    def choice(self, command: Command, member: str) -> list[str]:
        """The extras, groups and members that count: those of the command, else those that were kept."""
        kept = uv_words.parse(self.kept["choices"].get(member, [])).options
        families = [family for family in (EXTRAS, GROUPS) if not command.has(family)]
        return [
            *command.words(EXTRAS | GROUPS | MEMBERS),
            *(word for option in kept if any(option.name in family for family in families)
              for word in option.words),
        ]  # fmt: skip

    def keep(self, member: str, choice: Sequence[str]) -> None:
        """Let a choice hold for the commands to come."""
        choices = {**self.kept["choices"], member: uv_words.parse(choice).words_but(MEMBERS)}
        if choices != self.kept["choices"]:
            path, new = self.overlay / layout.PROJECT, self.overlay / f".{layout.PROJECT}.new"
            new.touch(_PRIVATE)
            new.write_text(json.dumps({**self.kept, "choices": choices}, indent=1), encoding="utf-8")
            new.replace(path)


def bring_in(
    place: Place,
    common: Sequence[str],
    choice: Sequence[str],
    locking: Sequence[str],
    own: Sequence[str],
    *,
    exact: bool,
    quietly: bool = False,
) -> None:
    """Lock where need be, and let the environment hold what the lock selects, but for what is the base's.

    ``common``: the user's options that other commands of uv take, too; how much uv tells (``-q``, ``-v``) is
    left to those whose output is not read. ``own``: those of ``uv sync``. ``exact``: what else was installed
    is removed. With ``--check`` or ``--dry-run`` in ``own`` nothing is changed. Ends the process as uv does
    where uv fails.
    """
    said = uv_words.parse(common)
    common, loudness, silent = said.words_but(LOUDNESS), said.words(LOUDNESS), said.has(QUIET)
    listed = ["--no-hashes", "--no-header", "--no-annotate", *common, *choice, *place.python]
    locked = run_uv(
        place, ["export", *locking, *listed, *(["-q"] if silent else [])], read=True, quietly=quietly
    )
    wanted = _exported(locked)
    theirs = wanted.get("torch", set())
    held = set(place.kept["held"])
    if theirs and place.kept["held"].get("torch") not in theirs:
        # What goes with the locked torch does not go with the base's.
        held |= set(place.kept["ecosystem"])
        if not (quietly or silent):
            print(f"torch {', '.join(sorted(theirs))} is locked; the base's {place.kept['held']['torch']}"
                  " is used in its place", file=sys.stderr)  # fmt: skip
    pruned = [word for name in sorted(held) for word in ("--prune", name)]
    beside = _exported(run_uv(place, ["export", "--frozen", "-q", *listed, *pruned], read=True))
    left_out = (wanted.keys() - beside.keys()) | (held & wanted.keys())
    theirs_alone = left_out & held | {name for name in left_out if _is_accelerators(name)}
    options = ["--frozen", *place.python, *choice]
    for name in sorted(left_out):
        options += ["--no-install-package", name]
    building, env = _building(place, own)
    syncing = ["sync", "--inexact", *options, *building, *own]
    ask = [*options, *common] if exact else None
    if "--dry-run" in own or "--check" in own:
        removed = _removable(place, theirs_alone, ask)
        if removed and not silent:
            _tell_removals(removed)
        run_uv(place, syncing, quietly=quietly or bool(removed), env=env)
        if removed and "--check" in own:
            print("error: The environment is outdated; run `uv sync` to update the environment",
                  file=sys.stderr)  # fmt: skip
            sys.exit(1)
        return
    free(place.overlay)  # what uv writes must not land in the wheel store
    run_uv(place, syncing, quietly=quietly, env=env)
    if removed := _removable(place, theirs_alone, ask):
        run_uv(place, ["pip", "uninstall", *loudness, *place.python, *removed])
    restore(place)


def _removable(place: Place, theirs: Iterable[str], exact: Sequence[str] | None) -> dict[str, str]:
    """What is to be removed from the environment, name → version: ``theirs``, and what the lock lacks.

    ``exact``: the options with which ``uv sync`` knows the latter; None where it may stay.
    """
    mine = {package.name: package.version for package in packages(place.overlay)}
    names = set(theirs)
    if exact is not None:
        asked = ["sync", "--dry-run", "--output-format", "json", "-q", *exact]
        names |= _extraneous(run_uv(place, asked, read=True))
    return {name: mine[name] for name in sorted(mine.keys() & names)}


def _tell_removals(removed: Mapping[str, str]) -> None:
    """Tell what would be removed, as uv does."""
    lines = [f" - {name}=={version}" for name, version in removed.items()]
    count = f"Would uninstall {len(removed)} package{'' if len(removed) == 1 else 's'}"
    print(count, *lines, sep="\n", file=sys.stderr)


def restore(place: Place) -> None:
    """Lay the receipts of what the base has again where one is missing, from the base's own wheels."""
    there = {
        canonical(info.name.partition("-")[0])
        for info in place.overlay.glob("lib/python*/site-packages/*.dist-info")
    }
    missing = [
        f"{name}=={version}" for name, version in place.kept["distributions"].items() if name not in there
    ]
    if missing:
        links = ["--no-config", "--no-index", "--find-links", place.kept["receipts"]]
        run_uv(place, ["pip", "install", "-q", "--no-deps", *links, *place.python, *missing])


def _building(place: Place, own: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """Words and environment with which packages that have no wheel are built with the base's torch.

    ``uv sync`` knows no build constraints (https://github.com/astral-sh/uv/issues/13532). But all that it
    still takes from an index, once locked, is what builds need, and of an index that it asks first it takes
    whatever it finds there.
    """
    index = place.overlay / layout.BUILD_INDEX
    if not index.is_dir() or is_set("UV_NO_INDEX") or "--no-index" in own:
        return [], os.environ
    words = [word for name in place.kept["held"] for word in ("--no-sources-package", name)]
    if os.environ.get("UV_INDEX") and not any(word.split("=")[0] == "--index" for word in own):
        return words, {**os.environ, "UV_INDEX": f"{index.as_uri()} {os.environ['UV_INDEX']}"}
    return [*words, "--index", index.as_uri()], os.environ


def run_uv(
    place: Place,
    words: Iterable[str],
    *,
    read: bool = False,
    quietly: bool = False,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run uv; what it prints, where it is ``read``. Ends the process with uv's status where it fails.

    ``quietly``: what it says where it has nothing to do is not told.
    """
    out = subprocess.PIPE if read else None
    err = subprocess.PIPE if quietly else None
    with subprocess.Popen([place.uv, *words], stdout=out, stderr=err, text=True, env=env) as process:
        if read:
            said, told = process.communicate()
        else:
            said, told = "", None
        for line in told.splitlines(keepends=True) if told is not None else process.stderr or ():
            if not _UNCHANGED.match(line):
                sys.stderr.write(line)
    if process.returncode:
        sys.exit(process.returncode)
    return said


def _exported(text: str) -> dict[str, set[str]]:
    """Name → its versions, from ``uv export``; those of a path or a URL have none."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*])?(?:==([^\s;]+)| @ )", line):
            found.setdefault(canonical(match[1]), set()).update(filter(None, [match[2]]))
    return found


def _extraneous(text: str) -> set[str]:
    """What an exact ``uv sync`` would remove, from its report."""
    changes = json.loads(text)["sync"].get("changes", ())
    return {canonical(one["name"]) for one in changes if one["action"] == "uninstalled"}


def _is_accelerators(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-", "triton", "pytorch-triton"))


def is_set(name: str) -> bool:
    """Whether a variable is true, as uv reads it."""
    return os.environ.get(name, "").lower() in ("1", "on", "t", "true", "y", "yes")
