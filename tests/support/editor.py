"""An editor that has a notebook open: over REST and events, what the extension in JupyterLab does there."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import websocket

from kernel_provisioner.inkernel.shared.packages import named_in

from .server import JupyterServer
from .waiting import WITHIN, wait_for

_EDIT = "urn:kernel-provisioner:edit"


class Editor:
    """Holds a notebook in memory, as it was when it was opened, and takes changes that it is told of."""

    def __init__(self, server: JupyterServer, path: str, *, saves: bool, answers: bool) -> None:
        self._server, self._path = server, path
        self._can_save, self._answers = saves, answers
        self._content = server.request("GET", f"api/contents/{path}")["content"]
        self.saves = 0
        address = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
        header = {"Authorization": f"token {server.token}"}
        self._socket = websocket.create_connection(address, header=header, timeout=WITHIN)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def said(self) -> dict[str, Any]:
        """What the notebook says under ``torch_env``, saved or not."""
        return dict(self._content["metadata"].get("torch_env", {}))

    def say(self, key: str, value: object) -> None:
        """Say something that is not saved yet."""
        self._content["metadata"]["torch_env"] = {**self.said, key: value}

    def wait_for(self, extras: Sequence[str]) -> None:
        """Wait until the notebook declares these."""
        wait_for(lambda: self.said.get("extras") == extras, f"{self._path} to declare {extras}")

    def close(self) -> None:
        """Close it, and listen no more."""
        if self._socket.sock is not None:
            self._socket.sock.shutdown(socket.SHUT_RDWR)  # which ends the wait for the next event
        self._thread.join(WITHIN)

    def _listen(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while text := self._socket.recv():
                event = json.loads(text)
                if event["schema_id"] == _EDIT and event["notebook"] == self._path:
                    self._take(f"torch-overlay/edits/{event['id']}")

    def _take(self, place: str) -> None:
        edit = self._server.request("POST", place, {})
        gone = set(edit.get("remove", []))
        extras = [extra for extra in self.said.get("extras", []) if named_in(extra) not in gone]
        self.say("extras", [*extras, *edit.get("add", [])])
        for key, value in edit.get("say", {}).items():
            self.say(key, value)
        if edit["first"]:
            if self._can_save:
                self.saves += 1
                model = {"type": "notebook", "format": "json", "content": self._content}
                self._server.request("PUT", f"api/contents/{self._path}", model)
            answer = {"extras": self.said["extras"], "saved": self._can_save}
            if self._answers:
                self._server.request("POST", f"{place}/done", answer)


@contextlib.contextmanager
def edited(server: JupyterServer, path: str, *, saves: bool = True, answers: bool = True) -> Iterator[Editor]:
    """A notebook of a server, open in an editor; whether that can save it, and says what became of it."""
    editor = Editor(server, path, saves=saves, answers=answers)
    try:
        yield editor
    finally:
        editor.close()
