"""The documentation as something to run: pages into blocks, and a reader who types what they show.

What a fenced block's first words mean: ``console``, commands after ``$`` and what they print
(``console exit=2``: the last of them ends so); ``python``, a cell of the page's notebook, and a
``text`` block behind it what the cell shows; ``python script``, run by itself; ``python config``, a
Jupyter configuration file; ``json``, a notebook's metadata; ``sh``, commands that are only looked at.
Comments on lines of their own: ``<!-- file NAME KERNEL TORCH_ENV -->`` writes a notebook,
``<!-- notebook NAME KERNEL -->`` opens one, new or not, ``<!-- restart -->`` restarts its kernel.
In what is expected, ``…`` stands for anything, and numbers, hashes and directories for their kind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .editor import edited
from .notebooks import write_notebook
from .server import jupyter_server
from .session import Session

_FENCE = re.compile(
    r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$|^<!-- (?P<note>[^\n]*?) -->$", re.DOTALL | re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block, or a comment on a line of its own (``kind`` ``note``), and where it stands."""

    kind: str
    options: tuple[str, ...]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        said = match["info"] if match["note"] is None else f"note {match['note']}"
        kind, *options = said.split(maxsplit=4) or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(kind, tuple(options), match["text"] or "", line))
    return found


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a ``console`` block, each with what it is said to print."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [(command, expected) for command, _, expected in (part.partition("\n") for part in parts)]


class Reader:
    """Somebody who follows a page, in a home of their own; to be closed at the end.

    ``places`` are directories that the page shows under other names.
    """

    def __init__(self, home: Path, env: Mapping[str, str], places: Mapping[str, str]) -> None:
        self.desk = home / "notebooks"
        self.desk.mkdir(parents=True)
        path = os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]])  # noqa: PTH120 - not resolved
        # No GPU, whatever this machine has: the pages tell of one that has none.
        self._env = {**env, "PATH": path, "COLUMNS": "300", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._places = {**places, str(home): "/home/you"}
        self._stack = contextlib.ExitStack()
        self._session: Session | None = None

    def close(self) -> None:
        """End the session and its server, if there is one."""
        self._stack.close()

    def follow(self, page: Path) -> Iterator[tuple[Block, str, str]]:
        """Do what the page says; each thing that it shows the outcome of, what it says, and what came."""
        outcome: tuple[Block, str] | None = None
        for block in blocks(page):
            if block.kind == "text" and outcome is not None:
                yield block, block.text, outcome[1]
            outcome = None
            if block.kind == "note":
                self._heed(*block.options)
            elif block.kind == "console":
                yield from ((block, said, self.type(block, command)) for command, said in commands(block))
            elif block.kind == "python" and block.options == ("script",):
                self.type(block, f"{shlex.quote(sys.executable)} -c {shlex.quote(block.text)}")
            elif block.kind == "python" and not block.options:
                outcome = block, self.run_cell(block.text)

    def type(self, block: Block, command: str) -> str:
        """Type a command into a shell; what it prints. Raises AssertionError where it ends otherwise."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.desk,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        last = [command for command, _ in commands(block)][-1:] == [command]
        status = next((int(word.removeprefix("exit=")) for word in block.options if last), 0)
        assert done.returncode == status, f"line {block.line}: {command}\n{done.stdout}"
        return done.stdout

    def run_cell(self, code: str) -> str:
        """Run a cell in the open notebook; all that it shows."""
        assert self._session is not None, "no <!-- notebook NAME KERNEL --> before the first cell"
        # What %overlay add shows of its progress stays as one line, where it took a while at all.
        return re.sub(r"(?m)^.*: done\n", "", self._session.execute(code).text)

    def alike(self, said: str, came: str) -> bool:
        """Whether what came is what the page says, but for what differs from machine to machine."""
        parts = [re.escape(part.strip()) for part in self._plain(said).split("…")]
        return re.fullmatch(".*".join(parts), self._plain(came)) is not None

    def as_shown(self, came: str) -> str:
        """What came, as a page would show it."""
        for place, name in self._places.items():
            came = came.replace(place, name)
        return re.sub("\x1b\\[[0-9;]*m", "", came)

    def _plain(self, text: str) -> str:
        text = re.sub(r"(?<=-)[0-9a-f]{8,12}\b", "HASH", self.as_shown(text))
        text = re.sub(r"\d+([.:T+-]+\d+)*", "1", text)
        text = re.sub(r"\b([kMG]?B|[kM]iB)\b", "B", text)
        return " ".join(text.split())  # where lines break depends on how long versions are

    def _heed(self, *words: str) -> None:
        if words[:1] == ("file",):
            _, name, kernel, torch_env = words
            write_notebook(self.desk / name, "import torch", kernel=kernel, torch_env=json.loads(torch_env))
        elif words[:1] == ("notebook",):
            _, name, kernel = words
            if not (self.desk / name).exists():
                write_notebook(self.desk / name, kernel=kernel)
            server = self._stack.enter_context(jupyter_server(self.desk, self._env))
            self._session = self._stack.enter_context(server.session(name, kernel))
            self._stack.enter_context(edited(server, name))
        elif words == ("restart",):
            assert self._session is not None
            self._session.restart()
