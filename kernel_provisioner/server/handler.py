"""What all routes share: how large a body may be, which notebook it speaks of, how errors are told."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import HTTPError

from ..errors import (
    BaseInUse,
    BaseNotFound,
    InvalidRequest,
    LockTimeout,
    NoBaseFits,
    NotAllowed,
    NotebookUnreadable,
    OverlayError,
    ResolutionFailed,
)
from ..runs.kernels import our_kernels
from ..runs.subject import Subject
from ..settings import Settings, load_settings
from .builds import Builds
from .tasks import Step, Tasks, TooManyTasks

if TYPE_CHECKING:
    from .edits import Edits

LARGEST = 4 << 20
"""Bytes of a request's body. A notebook's lock of 500 packages has one."""

_STATUS: tuple[tuple[type[OverlayError], int], ...] = (
    (InvalidRequest, 400),
    (NotebookUnreadable, 400),
    (NotAllowed, 403),
    (BaseNotFound, 404),
    (BaseInUse, 409),
    (LockTimeout, 409),
    (NoBaseFits, 422),
    (ResolutionFailed, 422),
)
_Done = TypeVar("_Done")
_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Served:
    """What the routes of one server share."""

    executor: Executor
    tasks: Tasks
    builds: Builds
    edits: Edits


def reads(method: _Method) -> _Method:
    """Let who can read our resource call this method, whatever its HTTP verb."""
    decorated: _Method = authorized("read")(method)
    return decorated


class OverlayHandler(APIHandler):
    """A route under ``torch-overlay/``; all are one resource to an authorizer."""

    auth_resource = "torch-overlay"

    def initialize(self, served: Served) -> None:
        """Called by tornado for each request."""
        self.served = served

    def in_force(self) -> Settings:
        """The settings in force, which takes reading files; raises OverlayError."""
        return load_settings(os.environ, self.serverapp.config if self.serverapp else None)

    async def aside(self, work: Callable[[], _Done]) -> _Done:
        """``work`` beside the event loop; what it raises passes."""
        return await asyncio.get_running_loop().run_in_executor(self.served.executor, work)

    async def answer(self, work: Callable[[Settings], Any]) -> None:
        """Send what ``work`` comes to with the settings in force, or its error."""
        try:
            self.finish(json.dumps(await self.aside(lambda: work(self.in_force()))))
        except OverlayError as error:
            self.refuse(error)

    def begin(self, kind: str, work: Callable[[Settings, Step], Any]) -> None:
        """Start long work, and send where it can be asked about: 202."""
        try:
            task = self.served.tasks.start(kind, lambda step: work(self.in_force(), step))
        except TooManyTasks:
            raise HTTPError(429, "as many tasks run as may; try again when one has ended") from None
        self.set_status(202)
        self.set_header("Location", f"{self.base_url}torch-overlay/tasks/{task.id}")
        self.finish(json.dumps(task.as_dict()))

    def refuse(self, error: OverlayError) -> None:
        """Send an error as its JSON, with the status that fits."""
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        self.set_status(status)
        self.finish(json.dumps({"message": error.what, **error.as_dict()}))

    def body(self, **known: type) -> dict[str, Any]:
        """The fields of the body, each of its type; refuses others, and a body that is too large."""
        if len(self.request.body) > LARGEST:
            raise HTTPError(413, f"the body has more than {LARGEST:,} bytes")
        try:
            body = self.get_json_body() or {}
        except UnicodeDecodeError:
            raise HTTPError(400, "the body is not UTF-8") from None
        except RecursionError:
            raise HTTPError(400, "the body is nested too deeply") from None
        if not isinstance(body, dict):
            raise HTTPError(400, "the body is not a JSON object")
        for name, value in body.items():
            if name not in known:
                raise HTTPError(400, f"{str(name)[:40]!r} is no field; known are {', '.join(sorted(known))}")
            wanted = (int, float) if known[name] is float else known[name]
            if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
                raise HTTPError(400, f"{name} is not a {known[name].__name__}")
        return body

    async def subject(self, body: Mapping[str, Any]) -> Subject:
        """The notebook that a body speaks of; refuses one that the contents manager does not give."""
        path = await self.file(body.get("path", ""))
        kernels = await self.aside(our_kernels)
        name = body.get("kernel", "torch")
        if name not in kernels:
            raise HTTPError(404, f"there is no shared torch kernel {str(name)[:80]!r} here")
        told = self._launched(body.get("kernel_id", ""))
        overlay = told.get("overlay")
        return Subject(
            path,
            kernels[name],
            content=body.get("content"),
            running=Path(overlay) if overlay else None,
            refused=told.get("failure") or None,
        )

    async def file(self, path: str) -> Path:
        """The file of a path of the contents API: what that hides or does not have is not there."""
        if not path or "\0" in path or len(path) > 4096:
            raise HTTPError(400, "path is not the path of a notebook")
        manager: Any = self.contents_manager
        model = await ensure_async(manager.get(path, content=False))
        if model["type"] == "directory":
            raise HTTPError(400, "path is a directory, not a notebook")
        try:
            return Path(manager._get_os_path(path))  # noqa: SLF001 - the contents API has no other way
        except AttributeError:
            raise HTTPError(501, "this server does not keep notebooks in files") from None

    def _launched(self, kernel_id: str) -> Mapping[str, Any]:
        """What a kernel of this server was told at its launch; nothing where another started it."""
        if not kernel_id:
            return {}
        manager: Any = self.kernel_manager
        if kernel_id not in manager:
            raise HTTPError(404, "there is no such kernel")
        provisioner = getattr(manager.get_kernel(kernel_id), "provisioner", None)
        told: Mapping[str, Any] = getattr(provisioner, "launched", {})
        return told
