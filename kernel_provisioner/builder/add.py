"""Add packages to an overlay that its user works in: what ``%overlay add`` runs.

The user has run a cell, so uv may look at the overlay as it stands, and may replace what the
user or the extras installed earlier. The base's pins hold as ever.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import uv
from ..accelerators import ECOSYSTEM
from ..errors import InvalidRequest, OverlayError
from ..overlay.skeleton import CONSTRAINTS
from ..request import parse_request
from ..router import Router
from . import audit
from .order import Order
from .solve import retold


def add(order: Order, requirements: Sequence[str]) -> list[str]:
    """Install ``requirements`` into the overlay now; the names whose version changed in it.

    They are checked as a notebook's extras are. Raises OverlayError; then nothing was changed
    unless uv was interrupted half-way.
    """
    wanted = parse_request({"extras": list(requirements)})
    if wanted.torch:
        raise InvalidRequest(
            f"torch is the base's: {order.manifest.torch}",
            field="torch",
            fix="choose another base, or declare torch in the notebook's metadata",
        )
    tool = uv.find_uv(offline=order.offline)
    python, path = order.generation.python, order.generation.path
    builds = ["--no-build"] if order.source_builds == "never" else []
    with (
        tempfile.TemporaryDirectory(prefix="torch-overlay-", dir=path) as name,
        Router(order.upstream, order.manifest.fixed, timeout=tool.page_timeout) as router,
    ):
        file = Path(name) / "wanted.txt"
        file.write_text("".join(f"{extra}\n" for extra in wanted.extras), encoding="utf-8")
        options = [
            *tool.index_options(router.url),
            *order.index_options,
            "-c",
            str(path / CONSTRAINTS),
            *builds,
        ]
        try:
            changes = tool.plan(python, file, options)
            audit.audit_plan(changes, order.manifest, pins=order.pins)
            if ECOSYSTEM & {change.name for change in changes}:
                pins = Path(name) / "pins.txt"
                pins.write_text("".join(f"{change.name}=={change.version}\n" for change in changes))
                lock = router.real(tool.lock(python, pins, Path(name) / "pylock.toml", options))
                audit.audit_origin(uv.locked_packages(lock), order.manifest.tag, order.upstream)
            done = tool.run("pip", "install", "--python", python, "-r", file, *options)
            if done.returncode != 0:
                raise uv.failure("a package could not be installed", done.stderr)
        except OverlayError as error:
            raise retold(error, order, router, wanted.extras) from error
    return [change.name for change in changes if change.replaces]
