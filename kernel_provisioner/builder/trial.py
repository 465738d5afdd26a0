"""An order to build that no kernel waits for: tried out in a directory that goes afterwards.

What a command leaves that was killed goes with the next prune: nobody holds its lock.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..base.registry import RegisteredBase
from ..inkernel.shared import layout
from ..model.request import Request
from ..overlay import store
from ..overlay.skeleton import write_skeleton
from ..settings import Settings
from ..system import locks
from ..uv.discovery import uv_path
from .spec import BuildSpec

PREFIX = "trial-"
LOCK = "trial.lock"
_WAIT = 10.0  # seconds for somebody who looks whether it is held


@contextlib.contextmanager
def trial(
    request: Request, base: RegisteredBase, root: store.Store, settings: Settings
) -> Iterator[tuple[BuildSpec, Path]]:
    """The order that ``request`` is on ``base``, and a directory for the files of its build."""
    root.prepare()
    with (
        contextlib.ExitStack() as held,
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=root.root) as name,  # which goes before the lock does
    ):
        held.enter_context(locks.exclusive(Path(name, LOCK), timeout=_WAIT))
        generation = store.Generation(Path(name, "overlay"))
        generation.path.mkdir()
        write_skeleton(generation.path, base, uv=uv_path())
        generation.write(
            layout.SPEC,
            {
                "order": store.spec_of(request, base.manifest, settings),
                "lock": request.lock.as_dict() if request.lock else None,
                "base_directory": str(base.directory),
                "alternatives": [],
                "settings": settings.as_dict(),
                "notebook": "",
            },
        )
        yield BuildSpec.read(generation, root.root, settings.index_template), Path(name)
