"""An order: what to build, read from a generation's directory."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import uv
from ..accelerators import ECOSYSTEM, index_url
from ..base.registry import RegisteredBase, read_manifest
from ..manifest import BaseManifest
from ..overlay import store
from ..overlay.model import model_of
from ..policy import Policy
from ..uv_facts import uv_path

if TYPE_CHECKING:
    from ..pylock import Lock


class Order(NamedTuple):
    """What to build, as the launch wrote it down, among the overlays in ``root``.

    ``alternatives`` are the directories of the other bases that the request would allow, the best
    first. ``lock`` is the notebook's; a ``stale`` one only holds versions. ``preferred`` are
    versions (``name==version``) that are taken where they fit. ``policy`` is that of the launch, and
    ``begun`` (of ``time.monotonic``) the moment from which it counts the seconds.
    """

    generation: store.Generation
    root: Path
    content: Mapping[str, Any]
    base: RegisteredBase
    extras: tuple[str, ...]
    exclude_newer: str
    index_template: str
    policy: Policy
    begun: float
    alternatives: tuple[Path, ...] = ()
    lock: Lock | None = None
    stale: bool = False
    preferred: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """The interpreter that uv is shown: that of the base's model overlay."""
        return model_of(self.base, self.root, uv=uv_path())

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
        newest = min(filter(None, (self.exclude_newer, self._limit)), key=_instant, default="")
        newer = ["--exclude-newer", newest] if newest else []
        for name in sorted(ECOSYSTEM) if newer else ():
            newer += ["--exclude-newer-package", f"{name}=false"]
        return ["--find-links", str(self.base.receipts), *newer]

    @property
    def uv(self) -> uv.Uv:
        """uv, bound to the policy; looked for anew each time."""
        most = self.policy.max_seconds
        ends = None if most is None else self.begun + most
        return uv.find_uv(policy=self.policy, ends=ends, memory=self.root / store.UV_FACTS)

    def build_options(self, of: Container[str] | None = None, *, builds: bool) -> list[str]:
        """What may be built from source, as options of uv; without ``builds`` nothing.

        Where only some packages may be, uv takes no wheel of these; ``of`` says which are meant.
        """
        names = self.policy.buildable
        if builds and names is None:
            return []
        named = [name for name in names or () if builds and (of is None or name in of)]
        if not named:
            return ["--no-build"]
        return ["--only-binary", ":all:", *(word for name in named for word in ("--no-binary", name))]

    def refuse_late(self) -> None:
        """Raise NotAllowed where the policy's seconds are over."""
        most = self.policy.max_seconds
        if most is not None and time.monotonic() - self.begun > most:
            raise self.policy.late()

    @property
    def age_options(self) -> list[str]:
        """What the policy says of the age of files, for look-ups that the notebook's lock has bound."""
        return ["--exclude-newer", self._limit] if self._limit else []

    @property
    def _limit(self) -> str:
        """The moment after which nothing counts for the policy."""
        if not self.policy.cooldown:
            return ""
        import datetime as dt  # few policies have one, and a cell waits for the builder to start

        moment = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=self.policy.cooldown)
        return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"

    @property
    def upstream(self) -> str:
        """The index of PyTorch's packages for the base's tag."""
        return index_url(self.index_template, self.manifest.tag)

    def elsewhere(self, base: RegisteredBase, generation: store.Generation) -> Order:
        """The same order on another base, to be planned in ``generation``."""
        content = {**self.content, "base": base.manifest.id, "fingerprint": base.manifest.fingerprint}
        return self._replace(generation=generation, content=content, base=base, alternatives=())

    @classmethod
    def read(cls, generation: store.Generation, root: Path) -> Order:
        """The order in a generation's directory, to be built among the overlays in ``root``.

        Raises CorruptState.
        """
        data = generation.read(store.ORDER)
        order, settings = data["order"], data["settings"]
        return cls(
            generation=generation,
            root=root,
            content=order,
            base=registered(Path(data["base_directory"])),
            extras=tuple(order["extras"]),
            exclude_newer=order["exclude_newer"],
            index_template=settings["index_template"],
            policy=Policy.from_list(settings["policy"]),
            begun=time.monotonic(),
            alternatives=tuple(map(Path, data["alternatives"])),
            lock=_lock(data.get("lock")),
            stale=order.get("stale", False),
            preferred=tuple(order.get("preferred", ())),
        )


def _instant(moment: str) -> tuple[str, str]:
    """An order of times such as 2026-11-01T00:00:00.5Z."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return whole, fraction


def _lock(text: Any) -> Lock | None:
    if not text:
        return None
    from ..pylock import parse_lock

    return parse_lock(text)


def registered(directory: Path) -> RegisteredBase:
    """The base that a directory registers; raises CorruptState."""
    return RegisteredBase(read_manifest(directory), directory)
