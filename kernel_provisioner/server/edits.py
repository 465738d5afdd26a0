"""Changes of a notebook that is open in a browser: made there, where unsaved work is, and saved from there.

``jupyter overlay`` asks the server, the server tells all browsers by an event, and each that has the notebook
open asks for the change and makes it. The first of them saves. A browser that does not answer has no
extension of ours, or sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import HTTPError, authenticated

from .events import EDIT, Events
from .handler import OverlayHandler

CLAIMED_WITHIN = 2.0
"""Seconds in which a browser says that it has the notebook open; who asks can say how long."""

_LONGEST = 10.0
SAVED_WITHIN = 22.0
"""Seconds for that browser to save it; it gives up before, and says so."""

_MOST = 64  # changes at a time

CHANGE: dict[str, type] = {"add": list, "remove": list, "say": dict, "kernelspec": dict}
"""What is to change: requirements, names of packages, keys of ``torch_env``, the kernel."""


@dataclasses.dataclass
class Edit:
    """A change that browsers are asked for; ``outcome`` is what the first of them answers."""

    change: dict[str, Any]
    claimed: asyncio.Event
    outcome: asyncio.Future[dict[str, Any]]


class Edits:
    """The changes that one server waits for; on its loop only."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._waiting: dict[str, Edit] = {}

    async def ask(self, path: str, change: dict[str, Any], within: float) -> dict[str, Any] | None:
        """Let a browser make a change; what it answers, None where none has the notebook open.

        One that takes the change and does not say what became of it has not saved it.
        """
        if len(self._waiting) >= _MOST:
            raise HTTPError(429, "too many changes are waited for")
        name, loop = secrets.token_hex(8), asyncio.get_running_loop()
        edit = self._waiting[name] = Edit(change, asyncio.Event(), loop.create_future())
        self._events.emit(EDIT, {"id": name, "notebook": path})
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(edit.claimed.wait(), min(within, _LONGEST))
            if not edit.claimed.is_set():
                return None
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(edit.outcome, SAVED_WITHIN)
            return {"saved": False}
        finally:
            del self._waiting[name]

    def find(self, name: str) -> Edit:
        """A change that is waited for; 404 where there is none."""
        try:
            return self._waiting[name]
        except KeyError:
            raise HTTPError(404, "nobody waits for this change any more") from None


class EditsRoute(OverlayHandler):
    """A notebook that may be open in a browser."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Change it there; ``changed`` is false where no browser that has it open answers."""
        body = self.body(path=str, within=float, **CHANGE)
        path, within = body.pop("path", ""), body.pop("within", CLAIMED_WITHIN)
        await self.file(path)
        outcome = await self.served.edits.ask(path, body, within)
        self.finish(json.dumps({"changed": outcome is not None, **(outcome or {})}))


class EditRoute(OverlayHandler):
    """One change, for the browsers that have its notebook open."""

    @authenticated
    @authorized
    async def post(self, name: str) -> None:
        """Take it: what to change, and whether this browser is the ``first``, which saves and answers."""
        self.body()
        edit = self.served.edits.find(name)
        first = not edit.claimed.is_set()
        edit.claimed.set()
        self.finish(json.dumps({"first": first, **edit.change}))


class EditedRoute(OverlayHandler):
    """One change that was made."""

    @authenticated
    @authorized
    async def post(self, name: str) -> None:
        """What the notebook declares now, and whether it is saved."""
        body = self.body(extras=list, saved=bool)
        edit = self.served.edits.find(name)
        if not edit.outcome.done():
            edit.outcome.set_result({"extras": body.get("extras", []), "saved": body.get("saved", False)})
        self.set_status(204)
        self.finish()
