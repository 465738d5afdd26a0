"""What to say under the traceback of a module that is not there: which package has it, and how to add it.

Only for an import that the user's own code asked for: where a package fails to import something of its
own, adding that would hide the package's fault. And only where nothing of that name is there: a misspelt
submodule of an installed package is no missing package.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import linecache
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .shared.info import Info
from .shared.packages import canonical, named_in

MIME_TYPE = "application/vnd.kernel-provisioner.missing-module+json"
"""Beside the text, for JupyterLab's button: ``{"module", "distribution", "version": 1}``."""

NAMES = Path(__file__).with_name("module_names.json")
"""Modules whose package is called otherwise. Those of pipreqs's ``mapping`` (Apache-2.0,
https://github.com/bndr/pipreqs) that belong to the 15,000 most downloaded packages, without the ones that
are out of date, and our own for what people put beside torch and for namespaces."""

# What people call files of their own. A package of that name is hardly what they mean, and may be anybody's.
_OWN = frozenset({
    "app", "common", "config", "constants", "core", "data", "dataset", "helper", "helpers",
    "lib", "main", "model", "models", "module", "modules", "my_module", "project", "scripts", "settings",
    "src", "test", "tests", "tools", "train", "util", "utils",
})  # fmt: skip
_NAMESPACES = frozenset({"azure", "google"})  # of which no package has the plain name


class Missing(NamedTuple):
    """A module that is not there, the distribution that has it, and the line that says what to do."""

    module: str
    distribution: str
    text: str

    def bundle(self) -> dict[str, Any]:
        """The line as a MIME bundle."""
        value = {"module": self.module, "distribution": self.distribution, "version": 1}
        return {"text/plain": self.text, MIME_TYPE: value}


def missing(error: BaseException | None, info: Info) -> Missing | None:
    """What to say of ``error``, which a cell has raised; None where it is no module to add."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    file, line = _failed_in(error.__traceback__)
    if not users_own(file) or not re.fullmatch(r"[A-Za-z_][\w.]*", error.name):
        return None
    return found_by_name(_whole(error.name, line), info)


def found_by_name(name: str, info: Info) -> Missing | None:
    """What to say of a dotted name that could not be imported; None where that is no module to add."""
    module, distribution = _looked_up(name)
    if not distribution or _is_there(module):
        return None
    return Missing(module, distribution, _line(module, distribution, info))


def _looked_up(name: str) -> tuple[str, str]:
    """The part of a dotted name that names a distribution, and that distribution; empty for none."""
    names: Mapping[str, str] = json.loads(NAMES.read_bytes())
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (start := ".".join(parts[:end])) in names:
            return start, names[start]
    known = parts[0] in sys.stdlib_module_names or parts[0] in _OWN or parts[0] in _NAMESPACES
    return parts[0], "" if known else canonical(parts[0])


def _whole(name: str, line: str) -> str:
    """The dotted name that the line imports; the error names only the first part that is not there."""
    try:
        statement = ast.parse(line.strip()).body[0]
    except (SyntaxError, IndexError):  # one line of several
        return name
    wanted = []
    if isinstance(statement, ast.Import):
        wanted = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom) and statement.module:
        wanted = [f"{statement.module}.{alias.name}" for alias in statement.names]
    return next((dotted for dotted in wanted if f"{dotted}.".startswith(f"{name}.")), name)


def _is_there(module: str) -> bool:
    """Whether something of that name can be imported, so that no package is missing."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # its parent is not there, or is no package
        return False


def _failed_in(traceback: TracebackType | None) -> tuple[str, str]:
    """The file and the line whose import failed, not counting the import system's own."""
    file, line = "", ""
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if not name.startswith("<frozen importlib") and module.partition(".")[0] != "importlib":
            file, line = name, linecache.getline(name, traceback.tb_lineno)
        traceback = traceback.tb_next
    return file, line


def users_own(file: str) -> bool:
    """Whether a file is a cell or a module of the user's, and no package's."""
    library = f"{Path(os.__file__).parent}{os.sep}"
    return bool(file) and not file.startswith(library) and f"{os.sep}site-packages{os.sep}" not in file


def _line(module: str, distribution: str, info: Info) -> str:
    named = module if canonical(module) == distribution else f"{module} (package {distribution})"
    if distribution in {named_in(extra) for extra in info.extras}:
        return f"{named} is declared, but not installed: restart the kernel to install it"
    return f"{named} is not in this notebook's environment: %overlay add {distribution}"
