"""What holds installs by hand to the base: files of the environment, never variables of a process.

A variable would reach every process that is started from a kernel or an activated shell: other
environments, ``uv lock``, ``uv tool``, ``pip-compile``. pip reads ``pip.conf`` in the environment that it
runs in. uv reads no such file: an overlay's ``bin/uv`` sets what it needs (``lent.py``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..base.registry import RegisteredBase
from ..model.accelerators import DEFAULT_INDEX_TEMPLATE
from ..model.manifest import BaseManifest
from ..policy import OPEN, Policy
from ..system.files import write_new
from .lent import lend_uv

CONSTRAINTS = "constraints.txt"
BUILD_CONSTRAINTS = "build-constraints.txt"
PIP_CONFIG = "pip.conf"


class Terms(NamedTuple):
    """On which terms an overlay is held to its base: the settings, and whether a kernel is to run there."""

    policy: Policy = OPEN
    index_template: str = DEFAULT_INDEX_TEMPLATE
    kernel: bool = True

    def fixed(self, base: BaseManifest) -> Iterable[str]:
        """The distributions of ``base`` that nobody may replace there."""
        if self.policy.pins == "all":
            return base.distributions
        return base.fixed_in(kernel=self.kernel)


def write_guards(prefix: Path, site: Path, base: RegisteredBase, terms: Terms, *, uv: str) -> None:
    """Hold what is installed by hand into the overlay ``prefix``, with site-packages ``site``, to its base.

    ``uv`` is the program to lend. Raises OSError.
    """
    manifest = base.manifest
    from_pytorch = terms.index_template == DEFAULT_INDEX_TEMPLATE and not terms.policy.indexes
    lent = lend_uv(prefix, site, base, uv=uv, from_pytorch=from_pytorch)
    # Both tools read this line in a constraints file, where it adds to what the user has set. What
    # insists on installing a base package again finds its receipt there, not its gigabytes.
    receipts = f"--find-links {base.receipts.as_uri()}"
    _write(prefix / BUILD_CONSTRAINTS, [*manifest.pins(manifest.fixed), receipts])
    _write(prefix / PIP_CONFIG, _pip_config(prefix, base, terms.policy))
    # Last: it says that all is there.
    _write(prefix / CONSTRAINTS, [*manifest.pins(terms.fixed(manifest)), *lent, receipts])


def give_way_to_uv(prefix: Path, site: Path) -> None:
    """Let a uv of the overlay's own be the one that counts as installed."""
    for receipt in site.glob("uv-*.dist-info"):
        shutil.rmtree(receipt)
    constraints = prefix / CONSTRAINTS
    lines = constraints.read_text(encoding="utf-8").splitlines()
    _write(constraints, [line for line in lines if not line.startswith("uv==")])


def _pip_config(prefix: Path, base: RegisteredBase, policy: Policy) -> list[str]:
    """``pip.conf``: https://pip.pypa.io/en/stable/topics/configuration/ .

    For ``pip install`` alone. What ``pip wheel`` and ``pip download`` fetch is for other environments.
    """
    lines = [
        "# What pip installs here is held to this environment's base.",
        "[install]",
        f"constraint = {(prefix / CONSTRAINTS).as_uri()}",  # pip splits it at blanks
        f"build-constraint = {(prefix / BUILD_CONSTRAINTS).as_uri()}",
    ]
    if policy.indexes:  # in the place of what the user's own files say
        lines.append(f"find-links = {base.receipts.as_uri()}")
    return lines


def _write(path: Path, lines: list[str]) -> None:
    write_new(path, "".join(f"{line}\n" for line in lines))
