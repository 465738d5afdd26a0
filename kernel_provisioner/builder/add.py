"""Add packages to an overlay that its user works in: what ``%overlay add`` runs.

The user has run a cell, so uv may look at the overlay as it stands, and may replace what the
user or the extras installed earlier. The base's pins hold as ever, and so does the policy: that of
the launch, and that of the configuration files as they are now.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .. import uv
from ..accelerators import ECOSYSTEM
from ..errors import InvalidRequest, NotAllowed, OverlayError, ResolutionFailed
from ..inkernel.packages import packages
from ..overlay.skeleton import CONSTRAINTS
from ..policy import Policy
from ..request import parse_request
from ..router import Router
from ..settings import load_policy
from ..uv_failures import failure
from . import audit
from .build import bytes_in
from .order import Order
from .solve import pins_of, retold, wants_source, with_least_built


def add(order: Order, requirements: Sequence[str]) -> list[str]:
    """Install ``requirements`` into the overlay now; the names whose version changed in it.

    They are checked as a notebook's extras are. Raises OverlayError; then nothing was changed
    unless uv was interrupted half-way.
    """
    order = _under(order.policy.joined(load_policy()), order)
    wanted = parse_request({"extras": list(requirements)}, allow_urls=order.policy.urls)
    if wanted.torch:
        raise InvalidRequest(
            f"torch is the base's: {order.manifest.torch}",
            field="torch",
            fix="choose another base, or declare torch in the notebook's metadata",
        )
    order.policy.refuse_unlocked()
    order.policy.refuse_extras(wanted.extras, order.manifest.distributions)
    tool = order.uv
    python, path = order.generation.python, order.generation.path
    with (
        tempfile.TemporaryDirectory(prefix="torch-overlay-", dir=path) as name,
        Router(order.upstream, order.manifest.fixed, timeout=tool.page_timeout) as router,
    ):
        file = Path(name) / "wanted.txt"
        file.write_text("".join(f"{extra}\n" for extra in wanted.extras), encoding="utf-8")
        sources = [*tool.index_options(router.url), *order.index_options]
        options = [*sources, "-c", str(path / CONSTRAINTS)]
        try:
            changes, builds = _planned(order, tool, file, options)
            options += builds
            audit.audit_plan(changes, order.manifest, pins=order.policy.pins)
            _judge(order, changes, wanted.extras)
            if not changes:
                return []
            pins = Path(name) / "pins.txt"
            pins.write_text("".join(f"{line}\n" for line in pins_of(changes, wanted.extras)))
            if ECOSYSTEM & {change.name for change in changes} or order.policy.max_bytes is not None:
                lock = Path(name) / "pylock.toml"
                text = router.real(tool.lock(python, pins, lock, options))
                audit.audit_origin(uv.locked_packages(text), order.manifest.tag, order.upstream)
                _weigh(order, tool, lock, Path(name) / "trial", [*sources, *builds])
            # What was judged, and nothing else: an index may change, and a package name an address.
            done = tool.run("pip", "install", "--python", python, "--no-deps", "-r", pins, *options)
            if done.returncode != 0:
                raise failure("a package could not be installed", done.stderr)
        except OverlayError as error:
            raise retold(error, order, router, wanted.extras) from error
    return [change.name for change in changes if change.replaces]


def _under(policy: Policy, order: Order) -> Order:
    """The order as ``policy`` lets it be, from now on; raises NotAllowed where its index is not."""
    try:
        template = policy.template(order.index_template)
    except ValueError as error:
        fix = "restart the kernel, which then follows the rules of now alone"
        raise NotAllowed("nothing can be added under these rules", why=str(error), fix=fix) from error
    return order._replace(policy=policy, index_template=template, begun=time.monotonic())


def _planned(
    order: Order, tool: uv.Uv, file: Path, options: Sequence[str]
) -> tuple[list[uv.Change], list[str]]:
    """What ``file`` would change, and the options of what is built for it: nothing, where that will do."""

    def find(builds: list[str]) -> tuple[list[uv.Change], list[str]]:
        return tool.plan(order.generation.python, file, [*options, *builds]), builds

    try:
        return with_least_built(order, find)
    except ResolutionFailed as error:
        raise order.policy.explained(error, wants_source=wants_source(error)) from error


def _judge(order: Order, changes: Sequence[uv.Change], extras: Sequence[str]) -> None:
    """Raise NotAllowed where the policy does not let these in, beside what is there already."""
    policy = order.policy
    policy.refuse_plan([change.name for change in changes], extras)
    there = {package.name for package in packages(order.generation.path)}
    policy.refuse_count(len(there | {change.name for change in changes}))


def _weigh(order: Order, tool: uv.Uv, lock: Path, trial: Path, options: Sequence[str]) -> None:
    """Raise NotAllowed where the overlay would become too large: unpacked in ``trial`` to be weighed."""
    if order.policy.max_bytes is None:
        return
    tool.install_lock(order.generation.python, lock, trial, options)
    there = sum(bytes_in(site) for site in order.generation.path.glob("lib*/python*/site-packages"))
    order.policy.refuse_bytes(there + bytes_in(trial), "the overlay would come to")
