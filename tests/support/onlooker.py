"""Somebody else on the machine, who reads what can be read of others' processes, and what lies on disk.

Looks whenever an index is asked, before it answers: whoever asks is alive for as long. And in between, as
often as it can.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from .index import LocalIndex


class Onlooker:
    """What was seen of ``secrets``: in command lines, and in files below ``trees``; made by ``onlooker``."""

    def __init__(self, secrets: Sequence[str], trees: Sequence[Path]) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._trees = trees
        self._seen: set[str] = set()
        self.programs: set[str] = set()

    @property
    def seen(self) -> list[str]:
        """The command lines and the files that held a secret at any moment."""
        return sorted(self._seen)

    def look(self) -> None:
        """Look once at every process and every file."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended
                    self._judge("process: ", (entry / "cmdline").read_bytes())
        for tree in self._trees:
            for folder, _, names in os.walk(tree):
                for name in names:
                    with contextlib.suppress(OSError):  # it is gone, or a link that leads nowhere
                        path = Path(folder, name)
                        self._judge(f"file {path}: ", path.read_bytes() if path.is_file() else b"")

    def _judge(self, where: str, content: bytes) -> None:
        if where == "process: ":
            self.programs.add(Path(content.partition(b"\0")[0].decode(errors="replace")).name)
        for secret in self._secrets:
            if secret in content:
                told = content[:400] if where == "process: " else secret
                self._seen.add(where + told.replace(b"\0", b" ").decode(errors="replace"))


@contextlib.contextmanager
def onlooker(index: LocalIndex, secrets: Sequence[str], *trees: Path) -> Iterator[Onlooker]:
    """Look for as long as the context lasts."""
    watch = Onlooker(secrets, trees)
    over = threading.Event()

    def keep_looking() -> None:
        while not over.is_set():
            watch.look()

    thread = threading.Thread(target=keep_looking, daemon=True)
    index.onlooker = watch.look
    thread.start()
    try:
        yield watch
    finally:
        index.onlooker = None
        over.set()
        thread.join()
        watch.look()
