"""The settings that a builder's uv runs with: those of the user's and the system's that say where to look.

A ``uv.toml`` can also say what is installed: ``override-dependencies`` and ``constraint-dependencies`` let in
what a policy forbids; ``no-deps``, ``torch-backend``, ``target`` and ``prefix`` lead to another environment.
Here indexes, authentication, network, certificates and cache count, and nothing else.
https://docs.astral.sh/uv/reference/settings/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..system.files import replace_text

FILE = ".uv.toml"
_KEPT = frozenset({
    "allow-insecure-host", "cache-dir", "concurrent-builds", "concurrent-downloads", "concurrent-installs",
    "extra-index-url", "find-links", "http-proxy", "https-proxy", "index", "index-strategy", "index-url",
    "keyring-provider", "native-tls", "no-cache", "no-index", "no-proxy", "offline", "system-certs",
})  # fmt: skip
_PLACES = ("extra-index-url", "find-links", "index-url")  # paths in these start at the file's own directory


def own_settings(env: Mapping[str, str], file: Path) -> dict[str, str]:
    """The variables by which uv takes the settings that count, from ``file``, and no others.

    ``file`` lies in a private directory; it is written where it is not of now. A file of the user's that
    is no TOML is left to uv, which says so.
    """
    if env.get("UV_NO_CONFIG"):
        return {}
    found = [(path, text) for path in settings_files(env) if (text := _text(path))]
    if not found:
        return {"UV_NO_CONFIG": "1"}
    mark = f"# {hashlib.sha256(json.dumps(found).encode()).hexdigest()}\n"
    if not _text(str(file)).startswith(mark):
        try:
            written = _written([_of(path, text) for path, text in found])
        except ValueError:  # tomli's error is one
            return {}
        replace_text(file, mark + written, mode=0o600, durable=False)
    return {"UV_CONFIG_FILE": os.fspath(file)}


def settings_files(env: Mapping[str, str]) -> list[str]:
    """The files that uv would take its settings from, the one that wins first.

    https://docs.astral.sh/uv/concepts/configuration-files/
    """
    if named := env.get("UV_CONFIG_FILE"):
        return [named]
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", ""), ".config")  # noqa: PTH118 - text
    system = [*(env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    first = next((path for place in system if os.path.exists(path := f"{place}/uv/uv.toml")), "")  # noqa: PTH110
    return [f"{home}/uv/uv.toml", *filter(None, [first])]


def toml(value: object) -> str:
    """A value as ``tomli`` reads it, as TOML on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    moment = getattr(value, "isoformat", None)
    return moment() if moment else json.dumps(value)


def _of(path: str, text: str) -> dict[str, Any]:
    """What counts of a file's settings; raises ValueError where it is no TOML."""
    import tomli

    said = tomli.loads(text)
    kept = {key: value for key, value in said.items() if key in _KEPT}
    pip = said.get("pip")
    if isinstance(pip, dict):
        kept["pip"] = {key: value for key, value in pip.items() if key in _KEPT}
    folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - text
    for table in (kept, kept.get("pip", {})):
        for key in _PLACES:
            if key in table:
                value = table[key]
                table[key] = (
                    [_at(one, folder) for one in value] if isinstance(value, list) else _at(value, folder)
                )
    return kept


def _at(place: Any, folder: str) -> Any:
    local = isinstance(place, str) and "://" not in place
    return os.path.join(folder, place) if local else place  # noqa: PTH118 - text


def _written(files: list[dict[str, Any]]) -> str:
    """The settings of all files together, as uv puts them together: lists one after another."""
    together: dict[str, Any] = {}
    for settings in files:
        pip = {**settings.pop("pip", {})}
        _under(together, settings)
        if pip:
            together["pip"] = _under(together.get("pip", {}), pip)
    return "".join(f"{key} = {toml(value)}\n" for key, value in together.items())


def _under(above: dict[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in below.items():
        if isinstance(value, list) and isinstance(above.get(key), list):
            above[key] = [*above[key], *value]
        else:
            above.setdefault(key, value)
    return above


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
