"""Compile entries of a wheel store: run by a base's Python, by its path, with their paths as words.

    python -IS -W ignore compile_store.py ENTRY...

No code of a package runs. What a wheel brings for other Pythons (templates, tests of a parser) does not
compile, which is no fault. A file is compiled once, and one that was cut short is taken up where it stopped.
"""

import contextlib
import fcntl
import importlib.util
import os
import py_compile
import sys

COMPILED, PROVEN = "compiled", "proven"
_ENTRY, _FOLDER = 0o755, 0o555


def main() -> None:
    """Compile each entry, behind all else that this machine has to do."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    store = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
    fcntl.flock(store, fcntl.LOCK_EX)  # one at a time, and each file once
    for entry in sys.argv[1:]:
        with contextlib.suppress(OSError):  # it is collected just now
            if not os.path.exists(f"{entry}/{COMPILED}"):
                compile_entry(entry)


def compile_entry(entry: str) -> None:
    """Compile what is in an entry's ``site``, and see all of the entry to the disk. Raises OSError."""
    for folder, folders, names in os.walk(f"{entry}/site"):
        sources = [name for name in names if name.endswith(".py")]
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            if sources:
                _compile(folder, sources)
    for folder, _, names in os.walk(entry):
        for name in names:
            _sync(f"{folder}/{name}")
    os.chmod(entry, _ENTRY)
    try:
        for mark in (PROVEN, COMPILED):
            with open(f"{entry}/{mark}", "w", encoding="ascii"):
                pass
    finally:
        os.chmod(entry, _FOLDER)


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _compile(folder: str, sources: list[str]) -> None:
    cache = f"{folder}/__pycache__"
    os.chmod(cache, _ENTRY)
    try:
        for name in sources:
            source = f"{folder}/{name}"
            target = importlib.util.cache_from_source(source)
            if not os.path.exists(target):
                with contextlib.suppress(py_compile.PyCompileError, ValueError, RecursionError, MemoryError):
                    mode = py_compile.PycInvalidationMode.TIMESTAMP
                    py_compile.compile(source, target, doraise=True, quiet=2, invalidation_mode=mode)
                    os.chmod(target, 0o444)
    finally:
        os.chmod(cache, _FOLDER)


if __name__ == "__main__":
    main()
