"""A notebook session on a real server, as a frontend has it: REST for its life, a websocket to speak."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import websocket

from .waiting import patient

ANSWERS_WITHIN = patient(120.0)
"""Seconds in which a cell is expected to end, where a test does not say otherwise."""


@dataclasses.dataclass
class Execution:
    """What became of one executed cell, as its output area would show it.

    ``outputs`` are outputs as in a notebook file, display updates applied; ``updates`` is every
    state that each updated display went through, so that a progress bar can be watched.
    ``status`` is ``ok``, ``error`` or ``aborted``, empty while it runs.
    """

    status: str = ""
    outputs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    updates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    reply: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def stdout(self) -> str:
        """What the cell printed."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """What the cell printed on standard error."""
        return self._stream("stderr")

    @property
    def error(self) -> str:
        """``Name: message`` of the exception, empty where there was none."""
        errors = [one for one in self.outputs if one["output_type"] == "error"]
        return f"{errors[-1]['ename']}: {errors[-1]['evalue']}" if errors else ""

    @property
    def text(self) -> str:
        """All that a reader sees, in order: streams, plain text of displays and results, tracebacks."""
        return "".join(_text_of(output) for output in self.outputs)

    def _stream(self, name: str) -> str:
        return "".join(one["text"] for one in self.outputs if one.get("name") == name)


class Session:
    """One open notebook and its kernel. Made by ``JupyterServer.session``."""

    def __init__(
        self,
        id: str,  # noqa: A002 (the name that the REST API gives it)
        kernel_id: str,
        request: Callable[..., Any],
        channels: Callable[[str, str], str],
        token: str,
    ) -> None:
        self.id = id
        self.kernel_id = kernel_id
        self._request = request
        self._channels = channels
        self._header = {"Authorization": f"token {token}"}  # JupyterHub takes no token in an address
        self._client = uuid.uuid4().hex
        self._socket: websocket.WebSocket | None = None

    def connect(self) -> None:
        """Open the websocket (again) and wait until the kernel answers."""
        self.close()
        address = self._channels(self.kernel_id, self._client)
        self._socket = websocket.create_connection(address, header=self._header, timeout=ANSWERS_WITHIN)
        asked = self._send("shell", "kernel_info_request", {})
        deadline = time.monotonic() + ANSWERS_WITHIN
        while True:
            message = self._receive(deadline)
            if message["msg_type"] == "kernel_info_reply" and message["parent_header"].get("msg_id") == asked:
                return

    def close(self) -> None:
        """Close the websocket; the kernel lives on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def execute(
        self, code: str, *, answers: Sequence[str] = (), timeout: float = ANSWERS_WITHIN, **content: Any
    ) -> Execution:
        """Run a cell to its end. ``answers`` are typed, in turn, when the kernel asks for input."""
        return self.begin(code, answers=answers, **content).result(timeout=timeout)

    def begin(self, code: str, *, answers: Sequence[str] = (), **content: Any) -> Running:
        """Send a cell and come back at once; ``content`` overrides fields of the execute request."""
        request = {
            "code": code, "silent": False, "store_history": True, "user_expressions": {},
            "allow_stdin": True, "stop_on_error": True, **content,
        }  # fmt: skip
        return Running(self, self._send("shell", "execute_request", request), list(answers))

    def ask(self, message: str, content: dict[str, Any], *, channel: str = "shell") -> dict[str, Any]:
        """Send any request (``complete_request``, ``debug_request`` …) and return its reply's content."""
        asked = self._send(channel, message, content)
        wanted = message.replace("_request", "_reply")
        deadline = time.monotonic() + ANSWERS_WITHIN
        while True:
            got = self._receive(deadline)
            if got["msg_type"] == wanted and got["parent_header"].get("msg_id") == asked:
                reply: dict[str, Any] = got["content"]
                return reply

    def restart(self) -> None:
        """Restart the kernel as the frontend's button does, and wait until it answers."""
        self._request("POST", f"api/kernels/{self.kernel_id}/restart")
        self.connect()

    def interrupt(self) -> None:
        """Press the stop button."""
        self._request("POST", f"api/kernels/{self.kernel_id}/interrupt")

    def rename(self, path: str) -> None:
        """Tell the server that the notebook has moved, as a frontend does after a rename."""
        self._request("PATCH", f"api/sessions/{self.id}", {"path": path, "name": path.rpartition("/")[2]})

    def _send(self, channel: str, kind: str, content: dict[str, Any]) -> str:
        assert self._socket is not None, "connect first"
        header = {
            "msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self._client, "username": "test",
            "version": "5.3", "date": "2020-01-01T00:00:00Z",
        }  # fmt: skip
        message = {"channel": channel, "header": header, "parent_header": {}, "metadata": {}}
        self._socket.send(json.dumps({**message, "content": content, "buffers": []}))
        return header["msg_id"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message that is JSON; raises AssertionError once ``deadline`` has passed."""
        assert self._socket is not None, "connect first"
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                frame = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                raise AssertionError("the kernel did not answer in time") from None
            if isinstance(frame, str) and frame:
                message: dict[str, Any] = json.loads(frame)
                return {"msg_type": message["header"]["msg_type"], **message}


class Running:
    """A cell that was sent: watch it with ``until``, wait for its end with ``result``."""

    def __init__(self, session: Session, id: str, answers: list[str]) -> None:  # noqa: A002
        self._session = session
        self._id = id
        self._answers = answers
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._clear_at_next = False
        self._idle = False
        self.seen = Execution()

    def result(self, *, timeout: float = ANSWERS_WITHIN) -> Execution:
        """Wait until the cell has ended and its outputs are complete."""
        return self.until(lambda _: False, timeout=timeout)

    def until(self, enough: Callable[[Execution], bool], *, timeout: float = ANSWERS_WITHIN) -> Execution:
        """Read on until ``enough(what was seen)`` or the cell's end.

        Raises AssertionError with what was seen where neither comes within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (enough(self.seen) or (self._idle and self.seen.status)):
            try:
                message = self._session._receive(deadline)
            except AssertionError as error:
                raise AssertionError(f"{error}; seen so far: {self.seen.text!r}") from None
            if message["parent_header"].get("msg_id") == self._id:
                self._take(message["msg_type"], message["content"])
        return self.seen

    def _take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "execute_reply":
            self.seen.reply = content
            self.seen.status = content["status"]
        elif kind == "status":
            self._idle = content["execution_state"] == "idle"
        elif kind == "input_request":
            assert self._answers, f"the kernel asks {content['prompt']!r}, and the test has no answer"
            self._session._send("stdin", "input_reply", {"value": self._answers.pop(0), "status": "ok"})
        elif kind == "clear_output":
            self._clear_at_next = bool(content["wait"])
            if not content["wait"]:
                self.seen.outputs.clear()
        elif kind == "update_display_data":
            self._update(content)
        elif kind in {"stream", "display_data", "execute_result", "error"}:
            self._add(kind, content)

    def _add(self, kind: str, content: dict[str, Any]) -> None:
        if self._clear_at_next:
            self.seen.outputs.clear()
            self._clear_at_next = False
        last = self.seen.outputs[-1] if self.seen.outputs else {}
        if kind == "stream" and last.get("name") == content["name"]:
            last["text"] += content["text"]
            return
        output = {"output_type": kind, **{key: content[key] for key in content if key != "transient"}}
        self.seen.outputs.append(output)
        with contextlib.suppress(KeyError):
            self._displays.setdefault(content["transient"]["display_id"], []).append(output)

    def _update(self, content: dict[str, Any]) -> None:
        self.seen.updates.append(content["data"])
        for output in self._displays.get(content["transient"]["display_id"], []):
            output.update(data=content["data"], metadata=content["metadata"])


def _text_of(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return "\n".join(output["traceback"]) + "\n"
    return str(output["data"].get("text/plain", "")) + "\n"
