"""The rules as traitlets: ``c.TorchPolicy.<rule>`` in a configuration file, checked and made a layer."""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name
from traitlets import Bool, Enum, Float, Int, List, TraitError, Unicode, Union, validate
from traitlets.config import Config, Configurable

from .rules import Layer
from .values import pattern_of, seconds_of

# ``bad[extra]``, which as a pattern means bade, badx …: a class of characters, no package's extra.
_WITH_EXTRA = r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\[(?!\w-\w\])\w[\w.-]+\]"


class TorchPolicy(Configurable):
    """What notebooks on shared torch may install, as ``c.TorchPolicy.<rule>`` in a configuration file.

    No rule is set by default. Where several files set one, all of them hold.
    """

    allowed = List(
        Unicode(),
        help="""The packages that can be installed, by name or pattern ("einops", "acme-*"). Their
        dependencies must be allowed too. Packages of the base are always allowed.""",
    ).tag(config=True)
    denied = List(
        Unicode(),
        help="""Packages that cannot be installed, by name or pattern, not even as dependencies.
        Overrides allowed.""",
    ).tag(config=True)
    indexes = List(
        Unicode(),
        help="""The only indexes that packages can come from: the default index, any others, and, with
        {tag} in it, the index of the PyTorch packages. Indexes in uv's configuration files, in
        environment variables and in TorchOverlay.index_template are then ignored.""",
    ).tag(config=True)
    allow_urls = List(
        Unicode(),
        help="""URL prefixes that a notebook can install a package from ("name @ https://…"). By
        default there are none.""",
    ).tag(config=True)
    source_builds = Union(
        [Enum(["after-first-cell", "never"]), List(Unicode())],
        default_value="after-first-cell",
        help="""When packages without a wheel are built from source, which runs their code: after the
        user has run a cell ("after-first-cell"), "never", or only these packages, after the first cell
        (a list of names).""",
    ).tag(config=True)
    pins = Enum(
        ["stack", "all"],
        "stack",
        help="""Which base packages an overlay can never replace. "stack": torch's own stack and ipykernel.
        "all": every package of the base.""",
    ).tag(config=True)
    cooldown = Unicode(
        "",
        help="""How long a file must have been published before it can be installed: "7 days", "36 hours"
        or "P7D". PyTorch's index does not say when a file was published, and is exempt.""",
    ).tag(config=True)
    locked_only = Bool(
        False,
        help="""Install extras only from a lock in the notebook (jupyter overlay lock). Never resolve
        them at the start.""",
    ).tag(config=True)
    max_packages = Int(
        0, min=0, help="""The maximum number of packages that an overlay can add to its base."""
    ).tag(config=True)
    max_bytes = Int(
        0, min=0, help="""The maximum size of an overlay's packages in bytes, packed or unpacked."""
    ).tag(config=True)
    max_seconds = Float(0.0, min=0.0, help="""The maximum time of one build, in seconds.""").tag(config=True)
    offline = Bool(False, help="Use only uv's cache, never the network. Environment: UV_OFFLINE.").tag(
        config=True
    )
    own_bases = Bool(
        True,
        help="""Whether users can create and adopt bases of their own. False: they use those that an
        administrator created with --sys-prefix or --system.""",
    ).tag(config=True)
    own_sources = Bool(
        True,
        help="""Whether users can add packages from directories and Git repositories of their own
        (jupyter overlay add NOTEBOOK -e DIR, or git+https://…). Repositories must also be among
        allow_urls where that is set, or where indexes is.""",
    ).tag(config=True)
    contact = Unicode(
        "", help="""Whom to ask when a rule refuses something: a name, an email address, or a page."""
    ).tag(config=True)

    @validate("allowed", "denied")
    def _patterns(self, proposal: Any) -> list[str]:
        _refuse_what_matches_nothing(proposal, r"[\w.*?!\[\]-]+")
        return [pattern_of(text) for text in proposal["value"]]

    @validate("source_builds")
    def _names(self, proposal: Any) -> str | list[str]:
        value = proposal["value"]
        if isinstance(value, str):
            return value
        _refuse_what_matches_nothing(proposal, r"[\w.-]+")
        return [str(canonicalize_name(name.strip())) for name in value]

    @validate("indexes", "allow_urls")
    def _addresses(self, proposal: Any) -> list[str]:
        rule = f"TorchPolicy.{proposal['trait'].name}"
        for text in proposal["value"]:
            parts = urlsplit(text)
            if not parts.scheme or (parts.scheme != "file" and not parts.netloc) or " " in text:
                raise TraitError(f"{rule} holds {text!r}, which is not a URL")
            if "@" in parts.netloc and "ssh" not in parts.scheme:
                what = f"{rule} holds a password for {parts.hostname}"
                raise TraitError(f"{what}, and everybody can read it; it belongs in ~/.netrc")
        return list(proposal["value"])

    @validate("cooldown")
    def _span(self, proposal: Any) -> str:
        try:
            seconds_of(proposal["value"])
        except ValueError as error:
            raise TraitError(f"TorchPolicy.cooldown: {error}") from error
        return str(proposal["value"])


def _refuse_what_matches_nothing(proposal: Any, names: str) -> None:
    """Raise TraitError for what no package is called, such as two names in one text: it would forbid none."""
    rule = f"TorchPolicy.{proposal['trait'].name}"
    for text in proposal["value"]:
        if not text.strip():
            raise TraitError(f"{rule} holds an empty name")
        if not re.fullmatch(names, text.strip(), re.ASCII):
            what = f"{rule} holds {text!r}"
            raise TraitError(f"{what}; write names without versions, each in quotes of its own")
        if extra := re.fullmatch(_WITH_EXTRA, text.strip(), re.ASCII):
            what = f"{rule} holds {text!r}, and rules do not tell a package's extras apart"
            raise TraitError(f"{what}; write {extra[1]!r}, which means the package with any of them")


def layer_of(config: Config, source: str) -> Layer | None:
    """The rules that a configuration sets; None where it sets none.

    Raises TraitError for a rule that does not exist or a value that it does not take: a policy that
    is misspelt must not be one that is not there.
    """
    section = dict.get(config, "TorchPolicy")
    if not section:
        return None
    refuse_unknown(section, TorchPolicy)
    policy = TorchPolicy(config=Config(TorchPolicy=section))
    return Layer(source, {name: getattr(policy, name) for name in sorted(section)})


def refuse_unknown(section: Config, known: type[Configurable]) -> None:
    """Raise TraitError for a name that ``known`` does not have, with the one that was meant."""
    names = known.class_trait_names(config=True)
    for name in section:
        if name in names:
            continue
        if name in TorchPolicy.class_trait_names(config=True):
            hint = f"write c.TorchPolicy.{name}"
        else:
            close = difflib.get_close_matches(str(name), names, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(names))}"
        raise TraitError(f"{known.__name__} has no {str(name)!r}; {hint}")
