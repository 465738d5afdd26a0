"""uv in the environment of a project: what its lock selects is installed, and torch is the base's.

``bin/uv`` of such an environment runs this for the commands that sync it (``uv run``, ``sync``, ``add``,
``remove``, ``version``, ``check``), and for ``build``. uv itself does all of it: it locks; it says what the
project needs, with torch and without it (``uv export --prune``); and it installs the rest
(``project_install.py``). Commands about other environments, scripts with a PEP 723 block among them, are
uv's own.

    main(OVERLAY, UV, TORCH_BACKEND, WORD...)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import lent_uv, uv_words
from .project_install import LOUDNESS, QUIET, Place, bring_in, is_set, run_uv
from .shared import layout
from .uv_words import COMMON, EXTRAS, GROUPS, LOCKING, MEMBERS, PYTHON, RUNNING, WITH, Command, Option

_BLOCK = re.compile(rb"^# /// script\s*$", re.MULTILINE)
_AWAY = {
    "add": {"--frozen", "--no-sync", "--script"},
    "build": PYTHON,
    "check": {"--isolated", "--no-project", "--no-sync", "--script"},
    "remove": {"--frozen", "--no-sync", "--script"},
    "run": {"--gui-script", "--isolated", "--no-project", "-s", "--script"},
    "sync": {"--script"},
    "version": {"--dry-run", "--frozen", "--no-sync"},
}
"""Options with which a command is about another environment, or about none."""
_AWAY_BY_VARIABLE = {
    "add": {"UV_FROZEN", "UV_NO_SYNC"},
    "check": {"UV_ISOLATED", "UV_NO_PROJECT", "UV_NO_SYNC"},
    "remove": {"UV_FROZEN", "UV_NO_SYNC"},
    "run": {"UV_ISOLATED", "UV_NO_PROJECT"},
    "version": {"UV_FROZEN", "UV_NO_SYNC"},
}
"""Variables that do so, too."""
_WHERE = ("--directory", "--project", "--config-file", "--no-config")


class Refused(Exception):
    """What cannot be done here; its text is told, and the exit status is 2."""


def main(overlay: str, uv: str, backend: str, *words: str) -> NoReturn:
    """Do it, and end as uv would."""
    command = _parsed(words)
    does = _COMMANDS.get(command.name)
    place = Place(Path(overlay), uv, _kept(Path(overlay)))
    root = _project(command, place) if does and place.kept else None
    if does is None or root is None:
        lent_uv.become(overlay, uv, backend, words)
    place = place._replace(root=root)
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
    if looks and not _look_at_lock(command, place):
        return
    locking = command.words(LOCKING) if not looks else ["--frozen"]
    own = command.words_but(EXTRAS | GROUPS | MEMBERS | LOCKING | PYTHON | {"--inexact"})
    bring_in(place, command.words(COMMON), choice, locking, own, exact=not command.has(["--inexact"]))
    if not looks:
        place.keep(member, choice)


def _look_at_lock(command: Command, place: Place) -> bool:
    """Whether there is a lock to compare the environment with; nothing is written.

    One that is missing or outdated ends the process with ``--check`` or ``--locked``, and is told otherwise.
    """
    if command.has(["--frozen"]) or is_set("UV_FROZEN"):
        return True
    common = [*command.words(COMMON - LOUDNESS), *place.python]
    locked = command.has(["--locked"]) or is_set("UV_LOCKED")
    if locked or command.has(["--check"]):
        run_uv(place, ["lock", "--locked" if locked else "--check", *common], quietly=True)
        return True
    asked = [place.uv, "lock", "--dry-run", *command.words(LOCKING), *common]
    done = subprocess.run(asked, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    lock = place.root / "uv.lock"
    if "No lockfile changes detected" not in done.stderr and not command.has(QUIET):
        sys.stderr.write(done.stderr)
        what = "uv.lock is outdated, and would be updated; what follows is what it selects as it is"
        print(what if lock.exists() else "uv.lock does not exist, and would be created", file=sys.stderr)
    return lock.exists()


def _run(command: Command, place: Place, member: str) -> None:
    if not (command.has(["--no-sync"]) or is_set("UV_NO_SYNC")):
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


def _check(command: Command, place: Place, member: str) -> None:
    """``uv check`` looks at what is installed; of itself it syncs first, as ``uv run`` does."""
    own = command.words_but(EXTRAS | GROUPS | MEMBERS | LOCKING | PYTHON | {"--fix", "--ty-version"})
    bring_in(place, command.words(COMMON), place.choice(command, member), command.words(LOCKING), own,
             exact=False, quietly=True)  # fmt: skip
    given = command.words_but(LOCKING | PYTHON | EXTRAS | GROUPS)
    words = ["check", "--no-sync", *place.python, *given, *command.rest]
    os.execv(place.uv, [place.uv, *words])  # noqa: S606 - becoming uv is the point


def _change(command: Command, place: Place, member: str) -> None:
    """``uv add``, ``uv remove``, and ``uv version`` with a new version."""
    choice = place.choice(uv_words.parse([]), member) + command.words(MEMBERS)
    if command.name == "add":  # what it was added to is installed, as uv has it
        choice += [word for group in _values(command, "--group") for word in ("--group", group)]
        choice += [word for extra in _values(command, "--optional") for word in ("--extra", extra)]
    common = command.words(COMMON)
    changed = _changed(command, place, member) if command.name == "add" else ()
    with _undone(changed):
        words = [command.name, "--no-sync", *command.words_but(PYTHON), *place.python]
        run_uv(place, [*words, "--", *command.rest])
        bring_in(place, common, choice, ["--frozen"], common, exact=command.name == "remove")


def _changed(command: Command, place: Place, member: str) -> set[Path]:
    """The files that ``uv add`` writes: the lock, and what declares the member and the workspace."""
    folder = place.root / member
    if name := command.value("--package"):
        asked = [place.uv, "workspace", "dir", "--package", name, *command.words(_WHERE)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        folder = Path(done.stdout.strip()) if not done.returncode else place.root
    return {place.root / "uv.lock", place.root / "pyproject.toml", folder / "pyproject.toml"}


@contextlib.contextmanager
def _undone(paths: Iterable[Path]) -> Iterator[None]:
    """Let files be as they were where the block does not come to its end: uv has it so where it adds."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        raise


def _build(command: Command, place: Place, _: str) -> None:
    """What a build needs of torch is the base's."""
    words = ["--build-constraints", f"{place.overlay}/build-constraints.txt", *_receipts(place)]
    built = [*command.words_but(()), *words, *(["--", *command.rest] if command.rest else [])]
    os.execv(place.uv, [place.uv, "build", *built])  # noqa: S606 - becoming uv is the point


_COMMANDS: Mapping[str, Callable[[Command, Place, str], None]] = {
    "add": _change, "build": _build, "check": _check, "remove": _change, "run": _run, "sync": _sync,
    "version": _change,
}  # fmt: skip


def _parsed(words: Sequence[str]) -> Command:
    """The words sorted; ``-qn`` is ``-q -n``."""
    command = uv_words.parse(words)
    options = [
        each
        for option in command.options
        for each in (
            [Option(f"-{letter}", (f"-{letter}",)) for letter in option.words[0][1:]]
            if re.fullmatch("-[qvnU]{2,}", option.words[0])
            else [option]
        )
    ]
    return command._replace(options=tuple(options))


def _kept(overlay: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads((overlay / layout.PROJECT).read_bytes())
        return kept
    return {}


def _project(command: Command, place: Place) -> Path | None:
    """The root of the project, or workspace, that a command is about; None where it is not about this one."""
    if _is_elsewhere(command):
        return None
    asked = [place.uv, "workspace", "dir", *command.words(_WHERE)]
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
    """Whether a command is about an environment of its own, or about none."""
    if command.has(_AWAY[command.name]) or any(map(is_set, _AWAY_BY_VARIABLE.get(command.name, ()))):
        return True
    if command.name == "version":  # it only says which it is
        return not (command.rest or command.has(["--bump"]))
    return command.name == "run" and _has_block(command)


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
