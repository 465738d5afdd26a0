"""Import each module of an environment, each in a process of its own: run by ``corpus_imports.py``.

    python import_all.py DIRECTORY KNOWN [MODULE ...]

DIRECTORY is a site-packages: what lies in it is imported, or only the modules that are named. Those named
in the file KNOWN, one a line as ``module place``, are left out where they still lie in that place. Prints
one JSON object: module → where it lies and, where it fails, the last line of its traceback. Standard library
only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

_WITHIN = 120  # seconds for one module
_TESTS = ("test", "tests")  # without an __init__, what a wheel has packed by mistake
_DEPTH = 3  # of namespaces: google.cloud.storage
_EXTENSIONS = (".py", ".abi3.so", f".cpython-{sys.version_info[0]}{sys.version_info[1]}")


def modules_in(site: str, inside: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """The top-level modules below ``site``, of namespaces what is in them, and where each really lies."""
    for entry in sorted(os.scandir(site), key=lambda one: one.name):
        name = entry.name.partition(".")[0]
        if not name.isidentifier() or name.startswith("__"):
            continue
        dotted = f"{inside}{name}"
        if not entry.is_dir():
            if any(mark in entry.name for mark in _EXTENSIONS):
                yield dotted, _place(entry.path)
        elif entry.name != name:  # libraries of a wheel, "numpy.libs"
            continue
        elif any(inner.name.startswith("__init__.") for inner in os.scandir(entry.path)):
            yield dotted, _place(entry.path)
        elif depth > 1 and name not in _TESTS:
            yield from modules_in(entry.path, f"{dotted}.", depth - 1)


def _place(path: str) -> str:
    """Where it really lies, from the wheel store on, or from the environment's own packages on."""
    real = os.path.realpath(path)
    return real.partition("/.store/")[2] or real.partition("/site-packages/")[2] or real


def failure_of(module: str) -> str:
    """How the import of a module fails in a process of its own; empty where it does not."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        signal.alarm(_WITHIN)
        said = ""
        try:
            importlib.import_module(module)
        except BaseException as error:  # sys.exit included: that is what is looked for
            said = traceback.format_exception_only(type(error), error)[-1].strip() or repr(error)
        with contextlib.suppress(OSError):
            os.write(write, said.encode(errors="replace")[:2000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)}"
    return said.replace(sys.base_prefix, "")


def main() -> None:
    """Import, and print what became of each."""
    site, known_file, *named = sys.argv[1:]
    sys.path.pop(0)  # this file's directory, which has modules of its own
    known = set(Path(known_file).read_text(encoding="utf-8").splitlines())
    found = {}
    for module, place in modules_in(site):
        if module in named if named else f"{module} {place}" not in known:
            found[module] = {"place": place, "failure": failure_of(module)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
