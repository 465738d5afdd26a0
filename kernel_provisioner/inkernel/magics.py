"""``%overlay``: what this notebook runs on, and how to change it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class

from .disk import human, usage
from .gate import Gate
from .info import Info
from .packages import named_in, packages

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

    @line_magic
    def overlay(self, line: str) -> None:
        """What this notebook runs on; ``add``, ``freeze`` and ``log`` change it or say more."""
        command, *words = shlex.split(line) or ["show"]
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
            ("why", info.reason),
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
        for name in ("progress.jsonl", "builder.log", "failed.json"):
            path = self._info.path / name
            if self._info.overlay and path.exists():
                for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    print(_event(text) if name == "progress.jsonl" else text)
        if not self._info.overlay:
            print("nothing was built: " + self._info.failure.get("what", ""))

    def _add(self, requirements: list[str]) -> None:
        if self._gate.failure or not self._info.overlay:
            print("the overlay could not be built, so nothing can be added to it; restart the kernel first")
            return
        before = {package.name: package.version for package in packages(self._info.path)}
        loaded = set(sys.modules)
        words = [*self._info.builder, self._info.overlay, "--add", *requirements]
        done = subprocess.run(
            words, cwd="/", capture_output=True, text=True, check=False, env=_plain_environment()
        )
        try:
            answer = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            answer = {
                "error": "BuildFailed",
                "what": "the builder gave no answer",
                "why": done.stderr[-2000:],
            }
        if "error" in answer:
            raise AddFailed(
                "\n".join(f"{key}: {answer[key]}" for key in ("what", "why", "fix") if answer.get(key))
            )
        self._gate.look_again()
        after = {package.name: package.version for package in packages(self._info.path)}
        new = [f"{name} {version}" for name, version in after.items() if before.get(name) != version]
        print("added " + ", ".join(new) if new else "nothing to add: it is all there")
        if stale := [name for name in answer["changed"] if name.replace("-", "_") in loaded]:
            print(f"restart the kernel to use the new {', '.join(stale)}: the old one is already imported")
        self._offer(requirements)

    def _offer(self, requirements: list[str]) -> None:
        """Put the declaration where the user needs only to keep it."""
        declared = {named_in(extra) for extra in self._info.extras}
        new = [text for text in requirements if named_in(text) not in declared]
        if not new:
            return
        listed = ", ".join(json.dumps(text) for text in new)
        if self._info.has_script:
            print(f"keep it: add {listed} to the dependencies of this notebook's # /// script cell")
            return
        print("keep it: the next cell declares it, so that this notebook has it again wherever it is opened")
        self._shell.set_next_input(f"# /// script\n# dependencies = [{listed}]\n# ///")


class AddFailed(Exception):
    """Packages could not be added to the overlay; the message says what, why and the fix."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows the message alone: where in our code it was raised helps nobody."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]


def _disk(info: Info) -> str:
    used = usage([info.path])
    linked = f"; {human(used.linked_bytes)} more are hard links to uv's cache" if used.linked_bytes else ""
    shared = info.base.get("bytes", 0)
    own = f"{human(used.own_bytes)} of its own in {used.own_files} files"
    return f"{own}{linked}; {human(shared)} shared in the base"


def _event(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line
    why = f"\n         {event['why']}" if event.get("why") else ""
    return f"{event['phase']:8} {event['message']}{why}"


def _plain_environment() -> dict[str, str]:
    """The environment without what binds package managers to this overlay: the builder decides that."""
    bound = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_TORCH_BACKEND", "PIP_CONSTRAINT", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in bound}
