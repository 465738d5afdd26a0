"""uv in the environment of a project: what its lock selects is installed, and torch is the base's.

``bin/uv`` of such an environment runs this for ``uv run``, ``sync``, ``add``, ``remove`` and ``build``. uv
itself does all of it: it locks; it says what the project needs, with torch and without it (``uv export
--prune``); and it installs the rest. What the base has of torch's stack, and what only torch needs, it is
told to leave out. Commands about other environments, scripts with a PEP 723 block among them, are uv's own.

    main(OVERLAY, UV, TORCH_BACKEND, WORD...)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from . import lent_uv, uv_words
from .shared import layout
from .shared.links import free
from .shared.packages import canonical, packages
from .uv_words import COMMON, EXTRAS, GROUPS, LOCKING, MEMBERS, PYTHON, RUNNING, WITH, Command

_BLOCK = re.compile(rb"^# /// script\s*$", re.MULTILINE)
_AWAY = {
    "add": {"--frozen", "--no-sync", "--script"},
    "build": PYTHON,
    "remove": {"--frozen", "--no-sync", "--script"},
    "run": {"--gui-script", "--isolated", "--no-project", "-s", "--script"},
    "sync": {"--script"},
}
"""Options with which a command is about another environment, or about none."""
_CHECKED = re.compile("(Audited|Checked|Resolved|Would use) ")  # what uv says where nothing happens
_PRIVATE = 0o600


class Refused(Exception):
    """What cannot be done here; its text is told, and the exit status is 2."""


class Place(NamedTuple):
    """The overlay, the uv to run, and what ``layout.PROJECT`` says: see ``project/kept.py``."""

    overlay: Path
    uv: str
    kept: Mapping[str, Any]

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


def main(overlay: str, uv: str, backend: str, *words: str) -> NoReturn:
    """Do it, and end as uv would."""
    command = uv_words.parse(words)
    does = _COMMANDS.get(command.name)
    place = Place(Path(overlay), uv, _kept(Path(overlay)))
    root = _project(command, place) if does and place.kept else None
    if does is None or root is None:
        lent_uv.become(overlay, uv, backend, words)
    try:
        _refuse_python(command, place)
        does(command, place, _member(command, root))
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _sync(command: Command, place: Place, member: str) -> None:
    if command.value("--output-format"):
        raise Refused("the environment stands on a shared base: `uv sync --output-format` does not show that")
    choice = place.choice(command, member)
    looks = command.has(("--dry-run", "--check"))
    locking = command.words(LOCKING) if not looks else ["--frozen"]
    own = command.words_but(EXTRAS | GROUPS | MEMBERS | LOCKING | PYTHON | {"--inexact"})
    bring_in(
        place, command.words(COMMON), choice, locking, own, exact=not (looks or command.has(["--inexact"]))
    )
    if not looks:
        place.keep(member, choice)


def _run(command: Command, place: Place, member: str) -> None:
    if not (command.has(["--no-sync"]) or _is_set("UV_NO_SYNC")):
        choice = place.choice(command, member)
        own = command.words_but(EXTRAS | GROUPS | MEMBERS | LOCKING | PYTHON | RUNNING)
        bring_in(place, command.words(COMMON), choice, command.words(LOCKING), own,
                 exact=command.has(["--exact"]), quietly=True)  # fmt: skip
    given = command.words_but(LOCKING | PYTHON | {"--exact", "--no-sync"} | EXTRAS | GROUPS)
    if command.has(WITH):  # uv puts all that is needed into an environment of its own: torch's receipt, there
        given += _receipts(place)
        given += [
            word for name, version in place.kept["held"].items() for word in ("--with", f"{name}=={version}")
        ]
    words = ["run", "--no-sync", *place.python, *given, *(["--", *command.rest] if command.rest else [])]
    os.execv(place.uv, [place.uv, *words])  # noqa: S606 - becoming uv is the point


def _change(command: Command, place: Place, member: str) -> None:
    """``uv add`` and ``uv remove``."""
    _uv(place, [command.name, "--no-sync", *command.words_but(PYTHON), *place.python, "--", *command.rest])
    choice = place.choice(uv_words.parse([]), member) + command.words(MEMBERS)
    if command.name == "add":  # what it was added to is installed, as uv has it
        choice += [word for group in _values(command, "--group") for word in ("--group", group)]
        choice += [word for extra in _values(command, "--optional") for word in ("--extra", extra)]
    common = command.words(COMMON)
    bring_in(place, common, choice, ["--frozen"], common, exact=command.name == "remove")


def _build(command: Command, place: Place, _: str) -> None:
    """What a build needs of torch is the base's."""
    words = ["--build-constraints", f"{place.overlay}/build-constraints.txt", *_receipts(place)]
    built = [*command.words_but(()), *words, *(["--", *command.rest] if command.rest else [])]
    os.execv(place.uv, [place.uv, "build", *built])  # noqa: S606 - becoming uv is the point


_COMMANDS: Mapping[str, Callable[[Command, Place, str], None]] = {
    "add": _change, "build": _build, "remove": _change, "run": _run, "sync": _sync,
}  # fmt: skip


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

    ``exact``: what else was installed is removed. Ends the process as uv does where uv fails.
    """
    listed = ["--no-hashes", "--no-header", "--no-annotate", *common, *choice, *place.python]
    wanted = _exported(_uv(place, ["export", *locking, *listed], read=True, quietly=quietly))
    theirs = wanted.get("torch", set())
    held = set(place.kept["held"])
    if (
        theirs and place.kept["held"].get("torch") not in theirs
    ):  # what goes with it does not go with the base's
        held |= set(place.kept["ecosystem"])
        if not quietly:
            print(f"torch {', '.join(sorted(theirs))} is locked; the base's {place.kept['held']['torch']}"
                  " is used in its place", file=sys.stderr)  # fmt: skip
    pruned = [word for name in sorted(held) for word in ("--prune", name)]
    beside = _exported(_uv(place, ["export", "--frozen", "-q", *listed, *pruned], read=True))
    left_out = sorted((wanted.keys() - beside.keys()) | (held & wanted.keys()))
    options = ["--frozen", *place.python, *choice]
    for name in left_out:
        options += ["--no-install-package", name]
    dry = "--dry-run" in own or "--check" in own
    if not dry:
        free(place.overlay)  # what uv writes must not land in the wheel store
    building, env = _building(place, own)
    _uv(place, ["sync", "--inexact", *options, *building, *own], quietly=quietly, env=env)
    if dry:
        return
    mine = {package.name for package in packages(place.overlay)}
    removed = mine & set(left_out) & (held | {name for name in left_out if _is_accelerators(name)})
    if exact:
        removed |= mine & _extraneous(_uv(place, [
            "sync", "--dry-run", "--output-format", "json", "-q", *options, *common], read=True))  # fmt: skip
    if removed:
        _uv(place, ["pip", "uninstall", *place.python, *sorted(removed)])
    restore(place)


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
        _uv(place, ["pip", "install", "-q", "--no-deps", *links, *place.python, *missing])


def _building(place: Place, own: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """Words and environment with which packages that have no wheel are built with the base's torch.

    ``uv sync`` knows no build constraints (https://github.com/astral-sh/uv/issues/13532). But all that it
    still takes from an index, once locked, is what builds need, and of an index that it asks first it takes
    whatever it finds there.
    """
    index = place.overlay / layout.BUILD_INDEX
    if not index.is_dir() or _is_set("UV_NO_INDEX") or "--no-index" in own:
        return [], os.environ
    words = [word for name in place.kept["held"] for word in ("--no-sources-package", name)]
    if os.environ.get("UV_INDEX") and not any(word.split("=")[0] == "--index" for word in own):
        return words, {**os.environ, "UV_INDEX": f"{index.as_uri()} {os.environ['UV_INDEX']}"}
    return [*words, "--index", index.as_uri()], os.environ


def _uv(
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
            if not _CHECKED.match(line):
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


def _kept(overlay: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads((overlay / layout.PROJECT).read_bytes())
        return kept
    return {}


def _project(command: Command, place: Place) -> Path | None:
    """The root of the project, or workspace, that a command is about; None where it is not about this one."""
    if command.has(_AWAY[command.name]) or (command.name == "run" and _is_elsewhere(command)):
        return None
    where = command.words(("--directory", "--project", "--config-file", "--no-config"))
    asked = [place.uv, "workspace", "dir", *where]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    root = Path(done.stdout.strip())
    if command.name == "build" and command.rest:
        source = (_start(command) / command.rest[0]).resolve()
        if root.resolve() not in (source, *source.parents):
            return None
    named = os.environ.get("UV_PROJECT_ENVIRONMENT") or ".venv"
    if command.has(["--active"]) and os.environ.get("VIRTUAL_ENV"):
        named = os.environ["VIRTUAL_ENV"]
    return root if os.path.realpath(root / named) == os.path.realpath(place.overlay) else None


def _is_elsewhere(command: Command) -> bool:
    """Whether ``uv run`` runs something in an environment of its own."""
    return _is_set("UV_NO_PROJECT") or _is_set("UV_ISOLATED") or _has_block(command)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "on", "t", "true", "y", "yes")


def _has_block(command: Command) -> bool:
    """Whether what is to be run is a script that says what it needs itself, or one from the network."""
    if not command.rest or command.has(("-m", "--module")):
        return False
    if command.rest[0].startswith(("http://", "https://")):
        return True
    with contextlib.suppress(OSError):
        script = _start(command) / command.rest[0]
        return script.is_file() and bool(_BLOCK.search(script.read_bytes()))
    return False


def _start(command: Command) -> Path:
    return Path.cwd() / (command.value("--directory") or os.environ.get("UV_WORKING_DIR", ""))


def _member(command: Command, root: Path) -> str:
    """Whose choice counts: that of the member of a workspace that the command is about."""
    if command.has(["--all-packages"]):
        return "--all-packages"
    if name := command.value("--package"):
        return name
    start = (_start(command) / (command.value("--project") or os.environ.get("UV_PROJECT", ""))).resolve()
    near = next((place for place in (start, *start.parents) if (place / "pyproject.toml").exists()), root)
    return os.path.relpath(near, root.resolve())


def _receipts(place: Place) -> list[str]:
    """Where uv finds the receipts, for one command; a variable would reach what that starts."""
    return ["--find-links", Path(place.kept["receipts"]).as_uri()]


def _values(command: Command, name: str) -> list[str]:
    return [option.value for option in command.options if option.name == name]


def _refuse_python(command: Command, place: Place) -> None:
    """Raise Refused where another Python is asked for: uv would delete the environment and make another."""
    named = command.value(*PYTHON)
    path = Path.cwd() / named
    if named and not (
        path.exists() and os.path.realpath(path.parent) == os.path.realpath(place.overlay / "bin")
    ):
        raise Refused(
            f"--python {named} would delete {place.overlay} and make one without the shared torch\n"
            f"  fix: jupyter overlay venv --project . --recreate --base ID  with a base of that Python"
        )
