"""Let the packages of an overlay be files of its own, before somebody installs into it by hand.

What pip or uv would write into a package's directory must not land in the wheel store. Run by its path
(``runpy``), where nothing else of this package can be imported, by what each overlay's Python starts with
(for pip), and by the overlay's uv.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_NAME = "_torch_overlay"


def before_pip(overlay: str, words: list[str]) -> None:
    """Free ``overlay`` where these ``words`` of a command line are pip's, and install something."""
    names = {os.path.basename(word).rstrip("0123456789.") for word in words}
    from_outside = "__pip-runner__.py" in names and "--prefix" not in words  # ``pip --python``; no build's
    if "install" in words and ("pip" in names or from_outside):
        free(overlay)


def free(overlay: str) -> None:
    """Let all links into a wheel store be files; raises OSError."""
    if not os.path.lexists(f"{overlay}/.store"):
        return
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        _NAME, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[_NAME] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    links = importlib.import_module(f"{_NAME}.shared.links")
    links.free(Path(overlay))
