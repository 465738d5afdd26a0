"""Which versions a package comes in: in an overlay, and in a private environment with the same torch.

The overlay's are found by the builder's own resolver, without a cell first, as when a notebook is opened;
where that has to wait for one, as after it. The private environment is one that ``uv pip`` would make from
the package and the base's torch, with nothing else of the base. Nothing is installed.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.builder.progress import Progress
from kernel_provisioner.builder.solution import Solution
from kernel_provisioner.builder.solve import Solver
from kernel_provisioner.builder.trial import trial
from kernel_provisioner.errors import OverlayError
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.packages import canonical, named_in
from kernel_provisioner.model.request import Request
from kernel_provisioner.overlay import store
from kernel_provisioner.settings import load_settings
from kernel_provisioner.uv.client import find_uv
from kernel_provisioner.uv.messages import said_by_uv


@dataclasses.dataclass(frozen=True)
class Versions:
    """What resolving one package came to.

    ``version`` is the overlay's and ``private`` the private environment's; empty where there is none, for
    the reason in ``refused`` or ``refused_privately``. ``added`` counts the overlay's distributions,
    ``replaced`` names those that the base has otherwise. ``others`` are packages besides it of which the two
    have different versions (name → the overlay's, the private one's), but for those that the base holds.
    """

    version: str = ""
    private: str = ""
    refused: str = ""
    refused_privately: str = ""
    held: bool = False
    added: int = 0
    from_source: bool = False
    replaced: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether a private environment would have another version, and no reason is told."""
        return bool(self.private) and not self.refused and not self.held and self.version != self.private


class Resolution:
    """Resolves packages on one base, with files in ``place``."""

    def __init__(self, base: RegisteredBase, place: Path) -> None:
        self._base, self._place = base, place
        self._settings = load_settings()
        self._root = store.Store(place / "overlays")

    def of(self, requirement: str) -> Versions:
        """The versions of one package, and of what it brings along."""
        name, base = named_in(requirement), self._base.manifest.distributions
        with tempfile.TemporaryDirectory(dir=self._place) as directory:
            private, why = self._private(requirement, Path(directory))
            try:
                solution, from_source = self._overlays(requirement, Path(directory))
            except OverlayError as error:
                return Versions(private=private.get(name, ""), refused=str(error), refused_privately=why)
        mine = solution.versions
        return Versions(
            version=mine.get(name, base.get(name, "")),
            private=private.get(name, ""),
            refused_privately=why,
            held=name in base and name not in mine,
            added=len(mine),
            from_source=from_source,
            replaced={changed: f"{old} → {new}" for changed, (old, new) in solution.replaced.items()},
            others={
                other: (mine[other], private.get(other, ""))
                for other in mine
                if other != name and private and mine[other] != private.get(other)
            },
        )

    def _overlays(self, requirement: str, directory: Path) -> tuple[Solution, bool]:
        """What the builder finds, and whether it has to build from source for that."""
        request = Request(extras=(requirement,))
        with trial(request, self._base, self._root, self._settings) as (spec, _):
            progress = Progress(directory / layout.PROGRESS)
            for builds in (False, True):
                scratch = directory / f"scratch-{builds}"
                scratch.mkdir()
                solution = Solver(spec, progress, scratch, builds=builds).solve()
                if solution is not None:
                    return solution, builds
        raise AssertionError("a resolution that may build waits for nothing")

    def _private(self, requirement: str, directory: Path) -> tuple[dict[str, str], str]:
        """Name → version in a private environment; or why there is none."""
        torch = f"torch=={self._base.manifest.torch}"
        wanted = directory / "private.in"
        wanted.write_text(f"{requirement}\n{torch}\n", encoding="utf-8")
        links = directory / "links"  # the base's torch may be on no index that can be reached
        links.mkdir()
        for receipt in self._base.receipts.glob("torch-*.whl"):
            shutil.copy(receipt, links)
        spec = self._base.manifest
        python = Path(spec.prefix) / "bin/python"
        words = ("--python", python, wanted, "--find-links", links, "--no-header", "--no-annotate", "-q")
        done = find_uv().run("pip", "compile", *words)
        if done.returncode:
            return {}, said_by_uv(done.stderr)
        pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", done.stdout, re.MULTILINE)
        return {canonical(name): version for name, version in pins}, ""
