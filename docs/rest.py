"""The page on the REST API and its events, from the description that the server itself gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kernel_provisioner.server import events

PAGE = Path(__file__).parent / "reference/rest.md"
DESCRIPTION = Path(events.__file__).with_name("openapi.json")
_ABOUT = """\
# REST API

<!-- Made by docs/generate.py; change the program, then run it. -->

What the panel in JupyterLab asks, and any other client can: below the base URL of a Jupyter server in which
kernel-provisioner is installed. The same in OpenAPI 3: `torch-overlay/openapi.json`.

- Requests are authenticated as all of that server's are, and authorized as the resource `torch-overlay`:
  reading is the action `read`; looking up changes, making locks and bases and removing overlays is
  `write`.
- A notebook is named by its path in the contents API. What the contents manager hides is not there.
- Long work answers 202 with a task. Ask `torch-overlay/tasks/{id}` how it goes, or listen to the events.
- An error is JSON with `message`, and where the program refused something `error`, `what`, `why` and `fix`,
  as the [commands](commands.md) tell it with `--json`.
"""


def page() -> str:
    """The text of the page."""
    document = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    parts = [_ABOUT]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                parts.append(_operation(method.upper(), path.lstrip("/"), operation))
    parts.append(
        "## Events\n\nBy jupyter_events, as `api/events/subscribe` sends them. Without them a client asks\n"
        "the routes above again.\n"
    )
    parts += [_event(schema) for schema in events.SCHEMAS]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    lines = [f"## {method} {path}\n", operation["summary"]]
    if "description" in operation:
        lines.append(f"\n{operation['description']}")
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        lines += ["\n| field | | |", "| --- | --- | --- |", *_fields(content["schema"])]
    lines.append("")
    for status, answer in operation["responses"].items():
        if status != "default":
            lines.append(f"{status}: {answer['description']}")
    return "\n".join(lines) + "\n"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, field in schema["properties"].items():
        needed = "required" if name in schema.get("required", ()) else f"default `{_shown(field)}`"
        if needed.endswith("``"):
            needed = "optional"
        yield f"| `{name}` | {field['type']}, {needed} | {field['description']} |"


def _shown(field: Mapping[str, Any]) -> str:
    return "" if "default" not in field else json.dumps(field["default"])


def _event(schema: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {field['type']} | {field['description']} |"
        for name, field in schema["properties"].items()
    ]
    head = f"### {schema['$id']}, version {schema['version']}\n\n{schema['description']}\n"
    return "\n".join([head, "| field | | |", "| --- | --- | --- |", *rows]) + "\n"
