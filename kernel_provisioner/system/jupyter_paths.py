"""Where Jupyter looks for data and configuration, worked out again only when a variable changed.

jupyter_core looks at the disk each time, for who owns this environment, and a launch needs both paths.
Within one process they rest on nothing else that changes than its environment variables.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

_Variables = tuple[tuple[bytes, bytes], ...]


def data_path() -> tuple[Path, ...]:
    """The directories of data such as kernel specs, the first to count first: ``jupyter_path()``."""
    return _data_path(tuple(os.environb.items()))


def config_path() -> tuple[Path, ...]:
    """The directories of configuration files, the first to count first: ``jupyter_config_path()``."""
    return _config_path(tuple(os.environb.items()))


@functools.lru_cache(maxsize=2)
def _data_path(_: _Variables) -> tuple[Path, ...]:
    from jupyter_core.paths import jupyter_path

    return tuple(map(Path, jupyter_path()))


@functools.lru_cache(maxsize=2)
def _config_path(_: _Variables) -> tuple[Path, ...]:
    from jupyter_core.paths import jupyter_config_path

    return tuple(map(Path, jupyter_config_path()))
