"""The ``find-links`` of pip's configuration files.

A variable such as ``PIP_FIND_LINKS`` does not add to what the files say, it takes their place:
https://pip.pypa.io/en/stable/topics/configuration/ . Who sets it must therefore repeat them.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def find_links(environ: Mapping[str, str]) -> list[str]:
    """What pip would take from ``PIP_FIND_LINKS``, or else from the last of its files that says it."""
    if "PIP_FIND_LINKS" in environ:
        return environ["PIP_FIND_LINKS"].split()
    found: dict[str, list[str]] = {}
    for path in _files(environ):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # pip itself will say so
            continue
        for section in ("global", "install"):
            if value := parser.get(section, "find-links", fallback=""):
                found[section] = value.split()
    return found.get("install", found.get("global", []))


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's configuration files outside an environment, in the order in which later ones win."""
    home = Path(environ.get("HOME", "/"))
    config = environ.get("PIP_CONFIG_FILE", "")
    if config == os.devnull:
        return
    for directory in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(directory, "pip/pip.conf")
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
        yield home / "Library/Application Support/pip/pip.conf"
    yield home / ".pip/pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")
    if config:
        yield Path(config)
