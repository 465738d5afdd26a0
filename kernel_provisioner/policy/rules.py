"""The policy in force, and what it says of a request, a plan and what was unpacked; pure.

Each place that sets rules (a configuration file, a server's own configuration) is a layer. All
layers count together: what one forbids stays forbidden, whatever another says. So a user's own
file can tighten what the administrator's file set, and never loosen it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import NotAllowed, OverlayError
from ..inkernel.shared.packages import named_in
from .values import WRONG_NAMES, seconds_of, within

# Rules that say nothing of what an overlay holds: changing one makes no ready overlay wrong.
_OF_THE_MOMENT = frozenset({"contact", "max_seconds", "offline", "own_bases", "own_sources"})
_FORBIDS_NOTHING = {
    "source_builds": "after-first-cell",
    "pins": "stack",
    "cooldown": "",
    "locked_only": False,
}
_BY_NAME = "name the package alone, so that it comes from the index"
_NOBODY = "the administrator of this system"
_SHOWN = 120  # characters of a rule's value in a message


class Layer(NamedTuple):
    """The rules that one place sets, as JSON values; ``source`` names the place to people.

    A rule that is not among ``rules`` is left to the other layers.
    """

    source: str
    rules: Mapping[str, Any]


class Policy(NamedTuple):
    """All layers together, the most official one first. Without any, the program's defaults hold."""

    layers: tuple[Layer, ...] = ()

    @property
    def offline(self) -> bool:
        """Whether uv may use its cache only, never the network."""
        return any(value for _, value in self._said("offline"))

    @property
    def pins(self) -> str:
        """Which base packages no overlay may replace: ``stack`` or ``all``."""
        return "all" if any(value == "all" for _, value in self._said("pins")) else "stack"

    @property
    def locked_only(self) -> bool:
        """Whether extras are installed only from a notebook's lock."""
        return any(value for _, value in self._said("locked_only"))

    @property
    def buildable(self) -> tuple[str, ...] | None:
        """The packages that may be built from source once a cell has run; None for any."""
        lists = [
            () if value == "never" else tuple(value)
            for _, value in self._said("source_builds")
            if value != "after-first-cell"
        ]
        if not lists:
            return None
        return tuple(name for name in lists[0] if all(name in others for others in lists[1:]))

    @property
    def builds(self) -> bool:
        """Whether anything at all may ever be built from source."""
        return self.buildable != ()

    @property
    def indexes(self) -> tuple[str, ...]:
        """The only package indexes that count, the first the default one; empty for uv's settings."""
        return tuple(index for index in self._all_indexes() if "{tag}" not in index)

    @property
    def cooldown(self) -> float:
        """Seconds that a file must have been published for; 0 for none."""
        return max((seconds_of(value) for _, value in self._said("cooldown")), default=0.0)

    @property
    def max_bytes(self) -> int | None:
        """The most bytes that an overlay may add; None for any number."""
        return min((int(value) for _, value in self._said("max_bytes")), default=None)

    @property
    def max_seconds(self) -> float | None:
        """The longest that one run of the builder may take; None for any time."""
        return min((float(value) for _, value in self._said("max_seconds")), default=None)

    @property
    def asked_for_bases(self) -> str:
        """Whom users ask for a base; empty where they can make one of their own."""
        return next((self._contact(layer) for layer, can in self._said("own_bases") if not can), "")

    @property
    def urls(self) -> bool:
        """Whether any URL can be allowed as the source of an extra."""
        said = self._said("allow_urls")
        return bool(said) and all(value for _, value in said)

    def template(self, wanted: str) -> str:
        """The index of PyTorch's packages, with ``{tag}`` in it: ``wanted`` if that is allowed.

        Raises ValueError where ``indexes`` is set and leaves none, or no index for the rest.
        """
        said = self._said("indexes")
        if not said:
            return wanted
        templates = [index for index in self._all_indexes() if "{tag}" in index]
        if not templates or not self.indexes:
            missing = "an index" if templates else "an index of the PyTorch packages, with {tag} in it"
            where = " and ".join(dict.fromkeys(layer.source for layer, _ in said))
            raise ValueError(f"TorchPolicy.indexes in {where} leaves packages without {missing}")
        return wanted if wanted.rstrip("/") in templates else templates[0]

    def refuse_extras(self, extras: Iterable[str], base: Iterable[str] = ()) -> None:
        """Raise NotAllowed for the first extra that cannot be allowed, whatever its plan.

        ``base`` are the names of the base's packages: whether those change, the plan tells.
        """
        there = frozenset(base)
        for text in extras:
            name = named_in(text)
            if url := url_in(text):
                self._refuse_url(text, url)
            if name not in there:
                self._refuse_name(name, f'"{name}"')

    def refuse_plan(self, names: Sequence[str], extras: Iterable[str]) -> None:
        """Raise NotAllowed where what is to be installed, dependencies included, is not allowed."""
        declared = {named_in(text) for text in extras}
        for name in sorted(names):
            self._refuse_name(name, f'"{name}"' + ("" if name in declared else ", which the extras need,"))
        self.refuse_count(len(names))

    def refuse_locked(self, names: Iterable[str]) -> None:
        """Raise NotAllowed where what a project's lock adds to its base is not allowed."""
        found = sorted(names)
        for name in found:
            fix = f"uv tree --invert --package {name}  shows what needs it; remove that from the project"
            self._refuse_name(name, f'"{name}" in uv.lock', fix=fix)
        self.refuse_count(len(found), "the packages of uv.lock", fix="lock fewer, or use a base with more")

    def refuse_count(
        self,
        count: int,
        what: str = "the extras",
        *,
        fix: str = "declare fewer of them, or use a base that holds more",
    ) -> None:
        """Raise NotAllowed where an overlay would hold too many packages."""
        for layer, most in self._said("max_packages"):
            if count > most:
                raise self._refusal(
                    f"{what} come to {count} packages, and {most} are allowed",
                    (layer, "max_packages"),
                    fix=fix,
                )

    def refuse_bytes(
        self, count: int, what: str, *, fix: str = "declare fewer extras, or use a base that holds more"
    ) -> None:
        """Raise NotAllowed where ``count`` bytes are too many; ``what`` says of what they are."""
        for layer, most in self._said("max_bytes"):
            if count > most:
                raise self._refusal(
                    f"{what} {count:,} bytes, and {most:,} are allowed",
                    (layer, "max_bytes"),
                    fix=fix,
                )

    def refuse_unlocked(
        self,
        whose: str = "a notebook's",
        *,
        fix: str = "declare them in a notebook, and: jupyter overlay lock NOTEBOOK",
    ) -> None:
        """Raise NotAllowed where packages may be installed from a lock alone."""
        for layer, only in self._said("locked_only"):
            if only:
                raise self._refusal(
                    f"packages are installed only from {whose} current lock here, and these are in none",
                    (layer, "locked_only"),
                    fix=fix,
                )

    def refuse_sources(self, where: str, *, fix: str = "leave it out") -> None:
        """Raise NotAllowed where indexes are set, for a source of packages that is none of them."""
        for layer, _ in self._said("indexes"):
            what = f"{where} is not among the allowed indexes"
            raise self._refusal(what, (layer, "indexes"), fix=fix)

    def refuse_index(self, index: str) -> None:
        """Raise NotAllowed where indexes are set, and a lock names another one."""
        known = [re.escape(one).replace(re.escape("{tag}"), r"[\w.]+") for one in self._all_indexes()]
        if not any(re.fullmatch(one, index.rstrip("/")) for one in known):
            again = f"UV_NO_CONFIG=1 UV_DEFAULT_INDEX={next(iter(self.indexes), 'URL')} uv lock"
            self.refuse_sources(index, fix=f"lock with the allowed ones: {again}")

    def refuse_young(self, what: str, age: float | None) -> None:
        """Raise NotAllowed for a file of this age in seconds; None where nothing says how old it is."""
        for layer, value in self._said("cooldown"):
            if (least := seconds_of(value)) and (age is None or age < least):
                since = "an unknown time" if age is None else f"{max(age, 0.0) / 3600:.0f} hours"
                raise self._refusal(
                    f"{what} has been published for {since}, and {value} are needed",
                    (layer, "cooldown"),
                    fix="lock an older version: uv lock --upgrade --exclude-newer DATE",
                )

    def refuse_own_bases(self) -> None:
        """Raise NotAllowed where users can make no bases of their own."""
        for layer, can in self._said("own_bases"):
            if not can:
                raise self._refusal(
                    "users cannot create or adopt bases on this system",
                    (layer, "own_bases"),
                    fix="use one of those that are here: jupyter overlay base list",
                )

    def refuse_own_sources(self, what: str = "packages", *, fix: str = _BY_NAME) -> None:
        """Raise NotAllowed where users can add no packages from directories and repositories of their own."""
        for layer, can in self._said("own_sources"):
            if not can:
                raise self._refusal(
                    f"{what} cannot come from a directory or a repository on this system",
                    (layer, "own_sources"),
                    fix=fix,
                )

    def refuse_repository(self, url: str) -> None:
        """Raise NotAllowed for a repository that is not among the addresses that are allowed."""
        self._refuse_url(url, url)
        if not self._said("allow_urls"):
            self.refuse_sources(url)

    def no_build(self, what: str, *, fix: str = _BY_NAME) -> NotAllowed:
        """The error to raise where ``what`` would be built, and the policy lets nobody build it."""
        layer, _ = next(said for said in self._said("source_builds") if said[1] != "after-first-cell")
        return self._refusal(
            f"{what} would be built, and that is not allowed on this system",
            (layer, "source_builds"),
            fix=fix,
        )

    def late(self) -> NotAllowed:
        """The error to raise where a build has taken ``max_seconds``."""
        layer, most = min(self._said("max_seconds"), key=lambda said: float(said[1]))
        return self._refusal(
            f"the overlay was not ready within {most:g} seconds",
            (layer, "max_seconds"),
            fix="try again (downloads are kept), or declare fewer extras",
        )

    def explained(
        self, error: OverlayError, *, wants_source: bool, wants_newer: bool, base: Iterable[str] = ()
    ) -> OverlayError:
        """``error`` of a resolution with the rules that may have kept it from succeeding.

        ``wants_source`` and ``wants_newer``: with builds, or with newer files, it might. ``base`` are the
        names of the base's packages, which may be in its way.
        """
        reasons = {
            "source_builds": wants_source,
            "cooldown": wants_newer,
            "pins": any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", error.why) for name in base),
        }
        concerned = [
            (layer, name)
            for name, applies in reasons.items()
            for layer, value in self._said(name)
            if applies and value != _FORBIDS_NOTHING[name]
        ]
        if not concerned:
            return error
        rules = [self._rule(layer, name) for layer, name in concerned]
        fix = f"{error.fix};\n" if error.fix else ""
        return type(error)(
            error.what,
            why="\n".join([error.why, *rules]),
            fix=f"{fix}or ask {self._contact(concerned[0][0])} for what the rule forbids",
        )

    def joined(self, other: Policy) -> Policy:
        """Both together."""
        return Policy((*self.layers, *(layer for layer in other.layers if layer not in self.layers)))

    def spec(self) -> dict[str, list[Any]]:
        """What decides over the content of an overlay: rule → its values in the layers, as JSON."""
        found: dict[str, list[Any]] = {}
        for layer in self.layers:
            for name, value in layer.rules.items():
                if name in _OF_THE_MOMENT or value == _FORBIDS_NOTHING.get(name):
                    continue
                values = found.setdefault(name, [])
                if value not in values:
                    values.append(value)
        return dict(sorted(found.items()))

    def lines(self) -> list[str]:
        """Every rule that is set, and where, for people."""
        return [self._rule(layer, name) for layer in self.layers for name in sorted(layer.rules)]

    def as_list(self) -> list[dict[str, Any]]:
        """The layers as JSON."""
        return [{"source": layer.source, "rules": dict(layer.rules)} for layer in self.layers]

    @classmethod
    def from_list(cls, layers: Iterable[Mapping[str, Any]]) -> Policy:
        """What ``as_list`` wrote."""
        return cls(tuple(Layer(layer["source"], layer["rules"]) for layer in layers))

    def _said(self, name: str) -> list[tuple[Layer, Any]]:
        return [(layer, layer.rules[name]) for layer in self.layers if name in layer.rules]

    def _all_indexes(self) -> list[str]:
        lists = [[index.rstrip("/") for index in value] for _, value in self._said("indexes")]
        return [index for index in lists[0] if all(index in more for more in lists[1:])] if lists else []

    def _refuse_name(self, name: str, shown: str, *, fix: str = "") -> None:
        for rule, wrong in WRONG_NAMES.items():
            for layer, patterns in self._said(rule):
                if wrong(name, patterns):
                    raise self._refusal(
                        f"{shown} is not allowed on this system",
                        (layer, rule),
                        fix=fix
                        or (
                            "remove it from the extras (torch_env.extras, or the # /// script cell)"
                            if "which" not in shown
                            else "remove the extra that needs it"
                        ),
                    )

    def _refuse_url(self, text: str, url: str) -> None:
        for layer, prefixes in self._said("allow_urls"):
            if not any(within(url, prefix) for prefix in prefixes):
                raise self._refusal(
                    f"{text} comes from an address that is not allowed on this system",
                    (layer, "allow_urls"),
                    fix=_BY_NAME,
                )

    def _refusal(self, what: str, rule: tuple[Layer, str], *, fix: str) -> NotAllowed:
        layer, name = rule
        return NotAllowed(what, why=self._rule(layer, name), fix=f"{fix}; or ask {self._contact(layer)}")

    def _rule(self, layer: Layer, name: str) -> str:
        return f"rule {_shown(name, layer.rules[name])} in {layer.source}"

    def _contact(self, layer: Layer) -> str:
        contacts = [layer.rules.get("contact"), *(value for _, value in self._said("contact"))]
        return str(next(filter(None, contacts), _NOBODY))


OPEN = Policy()
"""The policy where nobody has set a rule."""


def url_in(extra: str) -> str:
    """The address that an extra (as ``Request`` writes it) names as its source; empty where none."""
    return extra.partition(" @ ")[2].partition(" ")[0]


def _shown(name: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"{name} = {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
