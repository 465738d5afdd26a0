"""An order: what to build, read from a generation's directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerators import ECOSYSTEM, index_url
from ..base.registry import RegisteredBase, read_manifest
from ..manifest import BaseManifest
from ..overlay import store

if TYPE_CHECKING:
    from ..pylock import Lock


@dataclasses.dataclass(frozen=True)
class Order:
    """What to build, as the launch wrote it down.

    ``alternatives`` are the directories of the other bases that the request would allow, the best
    first. ``lock`` is the notebook's; a ``stale`` one only holds versions. ``preferred`` are
    versions (``name==version``) that are taken where they fit.
    """

    generation: store.Generation
    content: Mapping[str, Any]
    base: RegisteredBase
    extras: tuple[str, ...]
    exclude_newer: str
    index_template: str
    pins: str
    source_builds: str
    offline: bool
    alternatives: tuple[Path, ...] = ()
    lock: Lock | None = None
    stale: bool = False
    preferred: tuple[str, ...] = ()

    @property
    def exact(self) -> Lock | None:
        """The lock that leaves nothing to resolve; None where there is none, or a stale one."""
        return None if self.stale else self.lock

    @property
    def manifest(self) -> BaseManifest:
        """What the base says of itself."""
        return self.base.manifest

    @property
    def key(self) -> str:
        """The name under which a resolution of this order is kept."""
        return store.order_key(self.content)

    @property
    def index_options(self) -> list[str]:
        """What every look-up for this order is bound to, besides the index of its tag.

        PyTorch's index does not say when a file was uploaded, so that a cut-off would exclude all
        of it; there the base's torch decides what fits.
        """
        newer = ["--exclude-newer", self.exclude_newer] if self.exclude_newer else []
        for name in sorted(ECOSYSTEM) if newer else ():
            newer += ["--exclude-newer-package", f"{name}=false"]
        return ["--find-links", str(self.base.receipts), *newer]

    @property
    def upstream(self) -> str:
        """The index of PyTorch's packages for the base's tag."""
        return index_url(self.index_template, self.manifest.tag)

    def elsewhere(self, base: RegisteredBase, generation: store.Generation) -> Order:
        """The same order on another base, to be planned in ``generation``."""
        content = {**self.content, "base": base.manifest.id, "fingerprint": base.manifest.fingerprint}
        return dataclasses.replace(self, generation=generation, content=content, base=base, alternatives=())

    @classmethod
    def read(cls, generation: store.Generation) -> Order:
        """The order in a generation's directory; raises CorruptState."""
        data = generation.read(store.ORDER)
        order, settings = data["order"], data["settings"]
        return cls(
            generation=generation,
            content=order,
            base=registered(Path(data["base_directory"])),
            extras=tuple(order["extras"]),
            exclude_newer=order["exclude_newer"],
            index_template=settings["index_template"],
            pins=settings["pins"],
            source_builds=settings["source_builds"],
            offline=settings["offline"],
            alternatives=tuple(map(Path, data["alternatives"])),
            lock=_lock(data.get("lock")),
            stale=order.get("stale", False),
            preferred=tuple(order.get("preferred", ())),
        )


def _lock(text: Any) -> Lock | None:
    if not text:
        return None
    from ..pylock import parse_lock

    return parse_lock(text)


def registered(directory: Path) -> RegisteredBase:
    """The base that a directory registers; raises CorruptState."""
    return RegisteredBase(read_manifest(directory), directory)
