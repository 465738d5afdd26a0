"""The words of a uv command about a project, sorted by what they are for; pure.

Source of the tables: ``uv help`` of run, sync, export, add, remove, version and check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

EXTRAS = frozenset({"--all-extras", "--extra", "--no-extra"})
GROUPS = frozenset({
    "--all-groups", "--dev", "--group", "--no-default-groups", "--no-dev", "--no-group", "--only-dev",
    "--only-group",
})  # fmt: skip
MEMBERS = frozenset({"--all-packages", "--package"})
LOCKING = frozenset({"--frozen", "--locked", "-P", "-U", "--upgrade", "--upgrade-group", "--upgrade-package"})
PYTHON = frozenset({"-p", "--python"})
WITH = frozenset({"-w", "--with", "--with-editable", "--with-requirements"})
RUNNING = WITH | frozenset({"--env-file", "--exact", "-m", "--module", "--no-env-file", "--no-sync"})
"""What ``uv run`` alone has."""
COMMON = frozenset({
    "--allow-insecure-host", "-C", "--cache-dir", "--color", "--config-file", "--config-setting",
    "--config-settings-package", "--default-index", "--directory", "--exclude-newer",
    "--exclude-newer-package", "--extra-index-url", "-f", "--find-links", "--fork-strategy", "-i", "--index",
    "--index-strategy", "--index-url", "--keyring-provider", "--link-mode", "--managed-python", "-n",
    "--native-tls", "--no-binary", "--no-binary-package", "--no-build", "--no-build-isolation",
    "--no-build-isolation-package", "--no-build-package", "--no-cache", "--no-config", "--no-index",
    "--no-managed-python", "--no-progress", "--no-python-downloads", "--no-sources", "--no-sources-package",
    "--offline", "--prerelease", "--prerelease-package", "--preview", "--preview-features", "--project", "-q",
    "--quiet", "--refresh", "--refresh-package", "--resolution", "--system-certs", "--trusted-host", "-v",
    "--verbose",
})  # fmt: skip
"""What every command about a project takes."""
_VALUED = frozenset({
    "--allow-insecure-host", "-b", "--bounds", "--branch", "--build-constraints", "--bump", "-C", "-c",
    "--cache-dir", "--color", "--config-file", "--config-setting", "--config-settings-package",
    "--constraints", "--default-index", "--directory", "--env-file", "--exclude-newer",
    "--exclude-newer-package", "--extra", "--extra-index-url", "-f", "--find-links", "--fork-strategy",
    "--group", "-i", "--index", "--index-strategy", "--index-url", "--keyring-provider", "--link-mode",
    "-m", "--marker", "--no-binary-package", "--no-build-isolation-package", "--no-build-package",
    "--no-editable-package", "--no-extra", "--no-group", "--no-install-package", "--no-sources-package",
    "-o", "--only-group", "--optional", "--out-dir", "--output-format", "-P", "-p", "--package",
    "--prerelease", "--prerelease-package", "--preview-features", "--project", "--python",
    "--python-platform", "-r", "--refresh-package", "--reinstall-package", "--requirements", "--resolution",
    "--rev", "--script", "--tag", "--trusted-host", "--ty-version", "--upgrade-group", "--upgrade-package",
    "-w", "--with", "--with-editable", "--with-requirements",
})  # fmt: skip
_FLAGS_OF_RUN = frozenset({"-m", "--script"})  # they have no word of their own there


class Option(NamedTuple):
    """One option: its name, and it with its value as it was given."""

    name: str
    words: tuple[str, ...]

    @property
    def value(self) -> str:
        """What it is given; empty for a flag."""
        if len(self.words) > 1:
            return self.words[1]
        if self.words[0].startswith("--"):
            return self.words[0].partition("=")[2]
        return self.words[0][2:].removeprefix("=")


class Command(NamedTuple):
    """``uv NAME``: its options, wherever they stand, and the other words (for ``run``: what to run)."""

    name: str
    options: tuple[Option, ...]
    rest: tuple[str, ...]

    def has(self, names: Iterable[str]) -> bool:
        """Whether any of these options is given."""
        return any(option.name in set(names) for option in self.options)

    def value(self, *names: str) -> str:
        """What the last of these options is given; empty where none is."""
        return next((option.value for option in reversed(self.options) if option.name in names), "")

    def words(self, names: Iterable[str]) -> list[str]:
        """The options with these names, as words."""
        wanted = set(names)
        return [word for option in self.options if option.name in wanted for word in option.words]

    def words_but(self, names: Iterable[str]) -> list[str]:
        """The options without these names, as words."""
        return self.words({option.name for option in self.options} - set(names))


def parse(words: Sequence[str]) -> Command:
    """Sort the words after ``uv``."""
    name, options, rest = "", list[Option](), list[str]()
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            rest += words[at + 1 :]
            break
        if not word.startswith("-") or word == "-":
            if name == "run":
                rest += words[at:]
                break
            if name:
                rest.append(word)
            name = name or word
            at += 1
            continue
        option = _named(word)
        follows = option == word and option in _VALUED and not (name == "run" and option in _FLAGS_OF_RUN)
        taken = tuple(words[at : at + 2] if follows else words[at : at + 1])
        options.append(Option(option, taken))
        at += len(taken)
    return Command(name, tuple(options), tuple(rest))


def _named(word: str) -> str:
    """The option's name: ``-qq`` is ``-q``, ``-p3.11`` is ``-p``, ``--extra=a`` is ``--extra``."""
    if word.startswith("--"):
        return word.partition("=")[0]
    return word[:1] + ("U" if re.fullmatch("-[qvn]*U[qvn]*", word) else word[1])
