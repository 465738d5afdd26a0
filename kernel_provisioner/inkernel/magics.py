"""``%overlay``: what this notebook runs on, and how to change it."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class

from .display import Line
from .gate import Gate, imported
from .outer import OverlayFailed, run
from .shared.disk import human, usage
from .shared.environment import builder_environment
from .shared.info import Info
from .shared.links import linked_bytes
from .shared.packages import named_in, packages, plain
from .wording import told_in_cell

if TYPE_CHECKING:
    from .script_cell import ScriptCells

_PATIENCE = 1.0  # seconds until progress is shown, and between its steps
_MORE = f"\n{'':8} "  # a row's further lines, under its first
_OPTIONS_OF_ADD = frozenset({"-r", "--requirement", "--from", "-e", "--editable", "--dry-run", "--json"})
_GIT = "git+"


@magics_class
class OverlayMagics(Magics):
    """The ``%overlay`` magic."""

    def __init__(self, shell: Any, info: Info, gate: Gate) -> None:
        super().__init__(shell)
        self._shell = shell
        self._info = info
        self._gate = gate
        self._known = {plain(extra) for extra in info.extras}
        self._script_cells: ScriptCells | None = None

    @line_magic
    def overlay(self, line: str) -> None:
        """Show what this notebook runs on, and change it.

        %overlay                      what this notebook runs on, and why
        %overlay add PACKAGE…         install packages now, and offer the cell that declares them
        %overlay remove PACKAGE…      take packages out of the notebook's declaration
        %overlay upgrade [PACKAGE…]   take newer versions, of all packages or of some
        %overlay lock [--upgrade]     write exact versions and hashes into the notebook
        %overlay tree                 the packages, and what each of them needs
        %overlay why PACKAGE          why a package is there
        %overlay freeze               what the overlay adds to its base, as exact requirements
        %overlay export [--format F]  requirements, pylock, script or dockerfile
        %overlay du                   what all environments share and own on disk
        %overlay log                  what the builder did
        %overlay base list            the shared torch environments; also: create TAG, use TAG

        Each does what jupyter overlay does with the same words, for this notebook.
        """
        from . import commands

        try:
            command, *words = shlex.split(line) or ["show"]
        except ValueError:  # a quotation that does not end
            command, words = "help", []
        here = {"show": self._show, "freeze": self._freeze, "log": self._log}
        lacking = command in ("add", "remove", "why", "base") and not words
        if command in here and not words:
            here[command]()
        elif command == "add" and words and self._installs(words):
            self._add(words)
        elif command in commands.COMMANDS and command not in here and not lacking:
            self._run(commands.shell_words(command, words, self._info), [command, *words])
        else:
            if command not in (*commands.COMMANDS, "show", "help"):
                print(commands.no_such(command))
            print(inspect.getdoc(OverlayMagics.overlay))

    def _installs(self, words: list[str]) -> bool:
        """Whether ``add`` can install now; with options of the shell's it declares, as that does."""
        declares = {word.partition("=")[0] for word in words} & _OPTIONS_OF_ADD or [
            word for word in words if word.startswith(_GIT)
        ]
        return bool(self._info.overlay) and not self._gate.failure and not declares

    def _run(self, asked: list[str], words: list[str]) -> None:
        """Let ``jupyter overlay`` do what it is asked for: same words, same outcome."""
        line = Line(self._shell.display_pub, doing=f"%overlay {' '.join(words[:3])}")
        try:
            status = run(self._info.command, asked, line)
        except OverlayFailed as error:
            error.failure = told_in_cell(error.failure, self._info)
            raise
        finally:
            if line.shown:
                line.settle(f"%overlay {' '.join(words)}")
        if status == 0 and self._gate.failure and words[:2] == ["base", "create"]:
            print("Restart the kernel to use it.")

    def _show(self) -> None:
        info, base = self._info, self._info.base
        if not info.overlay:
            print("this kernel has no overlay: " + info.failure.get("what", "it could not be prepared"))
            return
        added = packages(info.path)
        by_hand = [f"{package.name} {package.version}" for package in added if not package.declared]
        declared = [extra for extra in info.extras if extra not in info.undeclared]
        built = {package.name for package in added if package.declared}
        kept = [extra for extra in info.undeclared if named_in(extra) in built]
        rows = [
            ("base", f"{base['id']}  (torch {base['torch']}, Python {base['python']})"),
            ("", base["path"]),
            ("why", _MORE.join(textwrap.wrap(info.reason, 70))),
            ("extras", ", ".join(declared) or "none"),
            *([("", f"{', '.join(kept)}: from %overlay add, not declared")] if kept else []),
            (
                "added",
                f"{len(added)} package{'s' * (len(added) > 1)}  (%overlay freeze lists them)"
                if added
                else "nothing",
            ),
            ("by hand", ", ".join(by_hand) or "nothing"),
            ("overlay", info.overlay),
            ("disk", _disk(info)),
        ]
        print("\n".join(f"{label:8} {text}" for label, text in rows))

    def _freeze(self) -> None:
        for package in packages(self._info.path):
            print(f"{package.name}=={package.version}")

    def _log(self) -> None:
        for name in ("progress.jsonl", "builder.log"):
            path = self._info.path / name
            if self._info.overlay and path.exists():
                for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    print(_event(text) if name == "progress.jsonl" else text)
        if not self._info.overlay:
            print("nothing was built: " + self._info.failure.get("what", ""))
        elif why := self._gate.failure.get("why"):
            print(why)

    def apply(self, code: str) -> None:
        """Install what a ``# /// script`` cell declares newly; raises OverlayFailed where that cannot be."""
        if self._script_cells is None:
            from .script_cell import ScriptCells

            self._script_cells = ScriptCells(self._info, self._known, self._declared_in_cell)
        if self._info.overlay:
            self._script_cells.apply(code)

    def _declared_in_cell(self, requirements: list[str]) -> None:
        """Install what a cell declares, so that nothing has to be offered."""
        self._install(requirements, "--declared")

    def _add(self, requirements: list[str]) -> None:
        if options := [word for word in requirements if word.startswith("-")]:
            raise AddFailed({
                "error": "InvalidRequest",
                "what": f"{options[0]} is an option: %overlay add takes packages only",
                "fix": "for an installer's options use %pip install or %uv pip install",
            })  # fmt: skip
        self._offer(**self._install(requirements)["offer"])

    def _install(self, requirements: list[str], *options: str) -> dict[str, Any]:
        """Install now, and say what came; the builder's answer. Raises AddFailed."""
        before = {package.name: package.version for package in packages(self._info.path)}
        words = [*self._info.builder, self._info.overlay, "--add", *options, *requirements]
        line = Line(self._shell.display_pub)
        try:
            answer = _ask(words, lambda: line.progress(", ".join(requirements)))
        except BaseException:
            self._gate.look_again()  # it may have counted already: then all of it is there
            raise
        if line.shown:  # the outcome itself is printed: consoles show no update of a display
            line.settle(f"{', '.join(requirements)}: {'not added' if 'error' in answer else 'done'}")
        if "error" in answer:
            raise AddFailed(told_in_cell(answer, self._info))
        self._known.update(map(plain, requirements))
        self._gate.look_again()
        after = {package.name: package.version for package in packages(self._info.path)}
        new = [f"{name} {version}" for name, version in after.items() if before.get(name) != version]
        print("Added " + ", ".join(new) if new else "Nothing to add: it is all there")
        for name, (old, version) in answer["replaced"].items():
            print(f"In this notebook only, {name} is {version} instead of the base's {old}")
        if stale := [name for name in answer["changed"] if any(imported(self._info.path, name))]:
            print(f"Restart the kernel to use the new {', '.join(stale)}: the old one is already imported")
        return answer

    def _offer(self, cell: str, changes: list[str], *, earlier: bool) -> None:
        """Put the declaration where the user has only to keep it."""
        if cell:
            too = (
                ", and what was declared or added before: a # /// script cell above can go" if earlier else ""
            )
            print(f"The next cell declares it{too}. Keep it and save the notebook.")
            self._shell.set_next_input(cell)
        if changes:
            name = Path(self._info.notebook).name
            print(f"To declare {', '.join(changes)}, save {name}, and in a terminal:")
            print(f"  jupyter overlay add {shlex.join([name, *changes])}")


class AddFailed(OverlayFailed):
    """Packages could not be added to the overlay."""


def _ask(words: list[str], meanwhile: Callable[[], None]) -> dict[str, Any]:
    """Run the builder and return its answer, calling ``meanwhile`` now and then where it takes its time."""
    with subprocess.Popen(
        words,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=builder_environment(os.environ),
    ) as process:
        try:
            out, said = _hear(process, meanwhile)
        except BaseException:  # an interrupt
            process.kill()
            raise
    try:
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": "BuildFailed", "what": "the builder gave no answer", "why": said[-2000:]}
    return answer


def _hear(process: subprocess.Popen[str], meanwhile: Callable[[], None]) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:  # noqa: PERF203 - it is the clock of this loop
            meanwhile()


def _disk(info: Info) -> str:
    used = usage([info.path])
    lines = [f"{human(used.own_bytes)} of its own in {used.own_files} files"]
    if linked := used.linked_bytes + linked_bytes(info.path):
        lines.append(f"{human(linked)} in links to the wheel store or uv's cache")
    lines.append(f"{human(info.base.get('bytes', 0))} shared in the base")
    return _MORE.join(lines)


def _event(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line
    why = f"\n         {event['why']}" if event.get("why") else ""
    return f"{event['phase']:8} {event['message']}{why}"
