"""``%overlay``: what this notebook runs on, and how to change it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class

from .disk import human, usage
from .display import Line, failure_lines
from .gate import Gate
from .info import Info
from .inherited import inherited_environment
from .packages import named_in, packages

_PATIENCE = 2.0  # seconds until progress is shown, and between its steps
_MORE = f"\n{'':8} "  # a row's further lines, under its first
_USAGE = """\
%overlay             what this notebook runs on, and why
%overlay add PKG…    install packages now, and offer the cell that declares them
%overlay freeze      what the overlay adds to its base, as exact requirements
%overlay log         what the builder did"""


@magics_class
class OverlayMagics(Magics):
    """The ``%overlay`` magic."""

    def __init__(self, shell: Any, info: Info, gate: Gate) -> None:
        super().__init__(shell)
        self._shell = shell
        self._info = info
        self._gate = gate
        self._has_script = info.has_script
        self._declared = {named_in(extra) for extra in info.extras}

    @line_magic
    def overlay(self, line: str) -> None:
        """What this notebook runs on; ``add``, ``freeze`` and ``log`` change it or say more."""
        try:
            command, *words = shlex.split(line) or ["show"]
        except ValueError:  # a quotation that does not end
            command, words = "", []
        if command == "add" and words:
            self._add(words)
        elif command in ("show", "freeze", "log") and not words:
            {"show": self._show, "freeze": self._freeze, "log": self._log}[command]()
        else:
            print(_USAGE)

    def _show(self) -> None:
        info, base = self._info, self._info.base
        if not info.overlay:
            print("this kernel has no overlay: " + info.failure.get("what", "it could not be prepared"))
            return
        added = packages(info.path)
        by_hand = [f"{package.name} {package.version}" for package in added if not package.declared]
        rows = [
            ("base", f"{base['id']}  (torch {base['torch']}, Python {base['python']})"),
            ("", base["path"]),
            ("why", _MORE.join(textwrap.wrap(info.reason, 70))),
            ("extras", ", ".join(info.extras) or "none"),
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

    def _add(self, requirements: list[str]) -> None:
        if self._gate.failure or not self._info.overlay:
            print("the overlay could not be built, so nothing can be added to it; restart the kernel first")
            return
        if options := [word for word in requirements if word.startswith("-")]:
            raise AddFailed({
                "error": "InvalidRequest",
                "what": f"{options[0]} is an option: %overlay add takes packages only",
                "fix": "for an installer's options use %pip install or %uv pip install",
            })  # fmt: skip
        before = {package.name: package.version for package in packages(self._info.path)}
        loaded = set(sys.modules)
        words = [*self._info.builder, self._info.overlay, "--add", *requirements]
        line = Line(self._shell.display_pub)
        answer = _ask(words, lambda: line.progress(", ".join(requirements)))
        if line.shown:  # the outcome itself is printed: consoles show no update of a display
            line.settle(f"{', '.join(requirements)}: {'not added' if 'error' in answer else 'done'}")
        if "error" in answer:
            raise AddFailed(answer)
        self._gate.look_again()
        after = {package.name: package.version for package in packages(self._info.path)}
        new = [f"{name} {version}" for name, version in after.items() if before.get(name) != version]
        print("Added " + ", ".join(new) if new else "Nothing to add: it is all there")
        if stale := [name for name in answer["changed"] if name.replace("-", "_") in loaded]:
            print(f"Restart the kernel to use the new {', '.join(stale)}: the old one is already imported")
        self._offer(requirements)

    def _offer(self, requirements: list[str]) -> None:
        """Put the declaration where the user needs only to keep it, once for each package."""
        new = [text for text in requirements if named_in(text) not in self._declared]
        self._declared.update(map(named_in, new))
        listed = ", ".join(json.dumps(text) for text in new)
        if new and self._has_script:  # a notebook has one such cell
            print(f"For next time too, add {listed} to the dependencies in the # /// script cell")
        elif new:
            print("The next cell declares it, for next time and other machines: keep it and save")
            self._shell.set_next_input(f"# /// script\n# dependencies = [{listed}]\n# ///")
            self._has_script = True


class AddFailed(Exception):
    """Packages could not be added to the overlay; ``failure`` says what, why and the fix."""

    def __init__(self, failure: dict[str, str]) -> None:
        super().__init__(failure.get("what", ""))
        self.failure = failure

    def _render_traceback_(self) -> list[str]:
        """IPython shows the message alone: where in our code it was raised helps nobody."""
        return failure_lines(self.failure)


def _ask(words: list[str], meanwhile: Callable[[], None]) -> dict[str, Any]:
    """Run the builder and return its answer, calling ``meanwhile`` now and then where it takes its time."""
    with subprocess.Popen(
        words,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited_environment(os.environ),
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
    if used.linked_bytes:
        lines.append(f"{human(used.linked_bytes)} in hard links to uv's cache, which has them anyway")
    lines.append(f"{human(info.base.get('bytes', 0))} shared in the base")
    return _MORE.join(lines)


def _event(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line
    why = f"\n         {event['why']}" if event.get("why") else ""
    return f"{event['phase']:8} {event['message']}{why}"
