"""What a Python process starts, connects to and imports, as its own audit hooks tell it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

SITECUSTOMIZE = """\
import json, os, sys

LOG = {log!r}
EVENTS = {events!r}
_log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _hook(event, args):
    kind = EVENTS.get(event)
    if kind == "started":
        told = repr(args[1]) if event == "subprocess.Popen" else repr(args)
    elif kind == "connected":
        told = repr(args[1] if event == "socket.connect" else args[0])
    elif kind == "imported":
        told = args[0]
    else:
        return
    os.write(_log, (json.dumps([kind, told]) + "\\n").encode())


sys.addaudithook(_hook)
"""
EVENTS = {
    "subprocess.Popen": "started", "os.posix_spawn": "started", "os.exec": "started", "os.fork": "started",
    "os.forkpty": "started", "os.spawn": "started", "os.system": "started", "socket.connect": "connected",
    "socket.getaddrinfo": "connected", "socket.gethostbyname": "connected", "import": "imported",
}  # fmt: skip
"""The audit events that count (https://docs.python.org/3/library/audit_events.html), and what they tell."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """``started``: commands; ``connected``: addresses, names looked up; ``imported``: modules found again."""

    started: tuple[str, ...]
    connected: tuple[str, ...]
    imported: tuple[str, ...]


class Audit:
    """Watches every Python that finds ``directory`` on its path when it starts, from its start on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "audit.jsonl"
        self._log.touch()
        hook = SITECUSTOMIZE.format(log=str(self._log), events=EVENTS)
        (directory / "sitecustomize.py").write_text(hook)

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._log.write_text("")

    @property
    def seen(self) -> Seen:
        """What was seen since the last ``forget``."""
        rows = [json.loads(line) for line in self._log.read_text().splitlines()]
        kinds = ("started", "connected", "imported")
        return Seen(*(tuple(told for kind, told in rows if kind == wanted) for wanted in kinds))
