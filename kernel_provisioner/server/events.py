"""What the server tells of its own accord, by jupyter_events: how a build and a task go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

BUILD = "urn:kernel-provisioner:build"
TASK = "urn:kernel-provisioner:task"
EDIT = "urn:kernel-provisioner:edit"

_STEP: dict[str, Any] = {
    "message": {"type": "string", "title": "Step", "description": "What is being done now, for people."},
    "done": {"type": "number", "title": "Done", "description": "How much of total is done; 0 of 0: unknown."},
    "total": {"type": "number", "title": "Total", "description": "How much there is to do."},
}

SCHEMAS: tuple[dict[str, Any], ...] = (
    {
        "$id": BUILD,
        "version": "1",
        "title": "Build of a notebook's environment",
        "description": "An event for each step of a build, and one at its end.",
        "type": "object",
        "required": ["notebook", "state"],
        "properties": {
            "notebook": {
                "type": "string",
                "title": "Notebook",
                "description": "Its path as the contents API has it.",
            },
            "state": {
                "type": "string",
                "title": "State",
                "description": "building until the end; then ready, failed or abandoned.",
                "enum": ["building", "ready", "failed", "abandoned"],
            },
            "phase": {
                "type": "string",
                "title": "Phase",
                "description": "wait, plan, fetch, install, verify, ready, failed or needs-cell.",
            },
            **_STEP,
            "bytes": {
                "type": "number",
                "title": "Bytes",
                "description": "What has been downloaded of the larger files.",
            },
            "total_bytes": {
                "type": "number",
                "title": "Total bytes",
                "description": "Of the larger files that are known so far.",
            },
        },
    },
    {
        "$id": TASK,
        "version": "1",
        "title": "Task of the REST API",
        "description": "Long work that a request has started goes on, or has ended.",
        "type": "object",
        "required": ["id", "kind", "state"],
        "properties": {
            "id": {"type": "string", "title": "Id", "description": "Its id, as in torch-overlay/tasks/{id}."},
            "kind": {"type": "string", "title": "Kind", "description": "What was asked for."},
            "state": {
                "type": "string",
                "title": "State",
                "description": "running until the end; then done, failed or cancelled.",
                "enum": ["running", "done", "failed", "cancelled"],
            },
            **_STEP,
        },
    },
    {
        "$id": EDIT,
        "version": "1",
        "title": "Change of a notebook that may be open",
        "description": "A client that has the notebook open takes the change from torch-overlay/edits/{id}.",
        "type": "object",
        "required": ["id", "notebook"],
        "properties": {
            "id": {"type": "string", "title": "Id", "description": "Its id, as in torch-overlay/edits/{id}."},
            "notebook": {
                "type": "string",
                "title": "Notebook",
                "description": "Its path as the contents API has it.",
            },
        },
    },
)


class Events:
    """Emits on a server's event logger, from any thread; nothing where the server has none."""

    def __init__(self, logger: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._logger, self._loop = logger, loop
        for schema in SCHEMAS if logger is not None else ():
            if schema["$id"] not in logger.schemas:
                logger.register_event_schema(schema)

    def emit(self, schema: str, data: Mapping[str, Any]) -> None:
        """Tell all who listen; the logger may be used on the server's own thread only."""
        if self._logger is not None:
            with contextlib.suppress(RuntimeError):  # the server is ending
                self._loop.call_soon_threadsafe(self._emit, schema, dict(data))

    def _emit(self, schema: str, data: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # an event is a courtesy: who missed it asks
            self._logger.emit(schema_id=schema, data=data)
