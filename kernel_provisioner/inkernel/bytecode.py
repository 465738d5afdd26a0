"""Keep a base as it is where this user could write to it: no bytecode is put beside its modules.

The text of this file is laid into each overlay on such a base, and runs while Python starts. Python reads
bytecode that is there; what it compiles it keeps in another directory, and so does pytest what it
makes of assertions. Where that directory cannot be made nothing is kept.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

TYPE_CHECKING = False  # typing's own costs milliseconds, at each start
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_PYTEST = f"{os.sep}_pytest{os.sep}assertion"


def keep_elsewhere(places: tuple[str, ...], cache: str) -> None:
    """Let bytecode of the modules below ``places`` be kept below the directory ``cache``."""
    hooks: list[Any] = sys.path_hooks
    if any(getattr(hook, "__module__", "") == __name__ for hook in hooks):
        return  # a forked kernel has the fork server's
    roots = tuple(place + os.sep for place in places)

    def elsewhere(path: str) -> str:
        return cache + path if path.startswith(roots) else path

    class Loader(SourceFileLoader):
        def get_data(self, path: Any) -> bytes:
            try:
                return super().get_data(path)
            except OSError:
                if path.endswith(".pyc"):
                    return super().get_data(elsewhere(path))
                raise

        def _cache_bytecode(self, source_path: str, bytecode_path: str, data: bytes) -> None:
            parent: Any = super()
            parent._cache_bytecode(source_path, elsewhere(bytecode_path), data)  # noqa: SLF001 - importlib's own

    class PytestLoader(Loader):
        def exec_module(self, module: ModuleType) -> None:
            super().exec_module(module)
            # https://github.com/pytest-dev/pytest/blob/main/src/_pytest/assertion/rewrite.py
            if found := vars(module).get("get_cache_dir"):
                vars(module)["get_cache_dir"] = lambda file: type(file)(elsewhere(f"{found(file)}"))

    def hook(path: str) -> FileFinder:
        if path.endswith(_PYTEST):
            loader: type[Loader] = PytestLoader
        elif f"{path}{os.sep}".startswith(roots):
            loader = Loader
        else:
            raise ImportError
        if not os.path.isdir(path):  # noqa: PTH112 - before pathlib; a script that is to run is asked for, too
            raise ImportError
        return FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (loader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    hooks.insert(0, hook)
    for entry in [*sys.path_importer_cache]:
        if f"{entry}{os.sep}".startswith(roots):
            del sys.path_importer_cache[entry]
