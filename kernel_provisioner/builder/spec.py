"""An order: what to build, read from a generation's directory."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base.registry import RegisteredBase, read_manifest
from ..errors import without_credentials
from ..inkernel.shared import layout
from ..inkernel.shared.packages import named_in
from ..model.accelerators import ECOSYSTEM, index_url
from ..model.manifest import BaseManifest
from ..overlay import store
from ..overlay.added import merged
from ..overlay.model import model_of
from ..policy import Policy
from ..uv import client
from ..uv.discovery import uv_path

if TYPE_CHECKING:
    from ..model.lock import Lock


class BuildSpec(NamedTuple):
    """What to build, as the launch wrote it down, among the overlays in ``root``.

    ``sources`` stands for the index settings. ``alternatives`` are the directories of the other bases
    that the request would allow, the best first. ``lock`` is the notebook's; a ``stale`` one only holds
    versions. ``preferred`` are versions (``name==version``) that are taken where they fit. ``local``
    (``name @ file://…``) are the wheels of extras that have a source on this machine. ``policy`` is that of
    the launch, and ``begun`` (of ``time.monotonic``) the moment from which it counts the seconds.
    ``wheels`` is the wheel store to be linked to, and ``shared`` are those that others have filled.
    ``project``: no kernel of ours runs in it. ``adds``: to the overlay as it is, see ``onto_overlay``.
    ``provisional``: what the store lacks may be files for now, see ``behind``.
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
    sources: str
    wheels: Path
    shared: tuple[Path, ...] = ()
    alternatives: tuple[Path, ...] = ()
    lock: Lock | None = None
    stale: bool = False
    preferred: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    project: bool = False
    adds: bool = False
    provisional: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that uv is shown: that of the base's model overlay, or of the one to add to."""
        if self.adds:
            return self.generation.python
        return model_of(self.base, self.root, uv=uv_path())

    @property
    def exact(self) -> Lock | None:
        """The lock that leaves nothing to resolve; None where there is none, or a stale one."""
        return None if self.stale else self.lock

    @property
    def wanted(self) -> Sequence[str]:
        """What uv is asked for: the extras, those with a source on this machine by its wheel's address."""
        return _at_sources(self.extras, self.local) if self.local else self.extras

    @property
    def manifest(self) -> BaseManifest:
        """What the base says of itself."""
        return self.base.manifest

    @property
    def fixed(self) -> frozenset[str]:
        """What of the base nothing may replace."""
        return self.manifest.fixed_in(kernel=not self.project)

    @property
    def known(self) -> Path:
        """Where the packages are kept that this order came to, on the indexes of now."""
        content = {**self.content, "project": True} if self.project else self.content
        return store.Store(self.root).lock_path(store.spec_key(content), self.sources)

    @property
    def index_options(self) -> list[str]:
        """What every look-up for this order is bound to, besides where it looks (``uv_at``).

        PyTorch's index does not say when a file was uploaded, so that a cut-off would exclude all
        of it; there the base's torch decides what fits.
        """
        newest = min(filter(None, (self.exclude_newer, self._limit)), key=_instant, default="")
        newer = ["--exclude-newer", newest] if newest else []
        for name in sorted(ECOSYSTEM) if newer else ():
            newer += ["--exclude-newer-package", f"{name}=false"]
        return newer

    def uv_at(self, index: str) -> client.Uv:
        """``uv``, asking ``index`` before all others, and finding the receipts of what the base holds."""
        return self.uv.at(index, str(self.base.receipts))

    @property
    def uv(self) -> client.Uv:
        """uv, bound to the policy; looked for again each time."""
        most = self.policy.max_seconds
        ends = None if most is None else self.begun + most
        return client.find_uv(policy=self.policy, ends=ends, memory=self.root / store.UV_FACTS)

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
        """The index of PyTorch's packages for the base's tag; empty where they come from the normal one."""
        return index_url(self.index_template, self.manifest.tag) if self.manifest.from_pytorch else ""

    def onto_overlay(self, more: tuple[str, ...]) -> BuildSpec:
        """The order to add ``more`` to the overlay, which its user works in, as the next launch has it."""
        extras, stale = merged(self.extras, more), self.stale or self.lock is not None
        content = {**self.content, "extras": list(extras), "stale": stale}
        return self._replace(content=content, extras=extras, stale=stale, adds=True)

    def from_sources(self, local: tuple[str, ...]) -> BuildSpec:
        """The same order with these wheels for packages that have a source on this machine."""
        content = {name: value for name, value in self.content.items() if name != "local"}
        return self._replace(content={**content, **({"local": list(local)} if local else {})}, local=local)

    def elsewhere(self, base: RegisteredBase, generation: store.Generation) -> BuildSpec:
        """The same order on another base, to be planned in ``generation``."""
        content = {**self.content, "base": base.manifest.id, "fingerprint": base.manifest.fingerprint}
        return self._replace(generation=generation, content=content, base=base, alternatives=())

    @classmethod
    def read(cls, generation: store.Generation, root: Path, index_template: str) -> BuildSpec:
        """The order in a generation's directory, to be built among the overlays in ``root``.

        No file holds credentials: ``index_template`` brings them for the order's address, and is left
        alone where it is another. Raises CorruptState.
        """
        data = generation.read(layout.SPEC)
        spec, settings = data["order"], data["settings"]
        ordered = settings["index_template"]
        policy = Policy.from_list(settings["policy"])
        return cls(
            generation=generation,
            root=root,
            content=spec,
            base=registered(Path(data["base_directory"])),
            extras=tuple(spec["extras"]),
            exclude_newer=spec["exclude_newer"],
            index_template=index_template if without_credentials(index_template) == ordered else ordered,
            policy=policy,
            begun=time.monotonic(),
            sources=client.sources(os.environ, policy),
            wheels=root / store.WHEELS,
            shared=tuple(map(Path, settings.get("shared_stores", ()))),
            alternatives=tuple(map(Path, data["alternatives"])),
            lock=_lock(data.get("lock")),
            stale=spec.get("stale", False),
            preferred=tuple(spec.get("preferred", ())),
            local=tuple(spec.get("local", ())),
            project=data.get("project", False),
        )


def _at_sources(extras: Sequence[str], local: Sequence[str]) -> list[str]:
    """``extras`` with the addresses of those that are among ``local``; pure."""
    from packaging.requirements import Requirement

    urls = {named_in(text): text.partition(" @ ")[2] for text in local}
    found = []
    for extra in extras:
        url = urls.get(named_in(extra))
        if url is None:
            found.append(extra)
            continue
        said = Requirement(extra)
        within = f"[{','.join(sorted(said.extras))}]" if said.extras else ""
        marker = f" ; {said.marker}" if said.marker else ""
        found.append(f"{said.name}{within} @ {url}{marker}")
        if said.specifier:
            found.append(f"{said.name}{said.specifier}{marker}")
    return found


def _instant(moment: str) -> tuple[str, str]:
    """An order of times such as 2026-11-01T00:00:00.5Z."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return whole, fraction


def _lock(text: Any) -> Lock | None:
    if not text:
        return None
    from ..model.lock import parse_lock

    return parse_lock(text)


def registered(directory: Path) -> RegisteredBase:
    """The base that a directory registers; raises CorruptState."""
    return RegisteredBase(read_manifest(directory), directory)
