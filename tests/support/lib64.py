"""A Python that keeps compiled packages in ``lib64``, as Fedora's does, made from this one."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

_SITE = "import sys\nsys.platlibdir = 'lib64'\n"


def python_of_lib64(place: Path) -> Path:
    """The interpreter of a Python under ``place``; all but its idea of ``platlib`` is this one's."""
    true = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    python = place / "bin" / true.name
    python.parent.mkdir(parents=True)
    shutil.copy2(true, python)
    standard = Path(sysconfig.get_path("stdlib"))
    own = place / "lib" / standard.name
    own.mkdir(parents=True)
    for entry in standard.iterdir():
        if entry.name not in ("site-packages", "sitecustomize.py"):
            (own / entry.name).symlink_to(entry)
    (own / "sitecustomize.py").write_text(_SITE)
    (python.parent / "python3").symlink_to(python.name)
    return python
