"""A command line as people know it: plain ``--help``, and an error for an option that does not exist.

``--help-all`` says all that traitlets can.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

from traitlets import TraitError
from traitlets.config import Application, Config
from traitlets.config.loader import KVArgParseConfigLoader

_WIDTH = 88
_COLUMN = 24


class PlainHelp(Application):
    """An application that explains itself as a command line tool does."""

    usage: str = ""
    """How it is called, ``jupyter overlay …``; empty where the subcommands say it."""

    def emit_help(self, classes: bool = False) -> Generator[str, None, None]:  # noqa: FBT001, FBT002 - traitlets calls it so
        """The lines of ``--help``; with ``classes``, traitlets' own, with every setting."""
        if classes:
            yield from super().emit_help(classes)
            return
        if self.usage:
            yield from (f"usage: {self.usage}", "")
        for paragraph in inspect.cleandoc(str(self.description)).split("\n\n"):
            yield from (_filled(paragraph), "")
        yield from self.emit_subcommands_help()
        if self.aliases or self.flags:
            yield "Options"
            for name, text in sorted(self._options()):
                yield _row(name, text)
            yield _row("--help", "Show this help.")
            yield from (_row("--help-all", "Show this help and all settings."), "")
        yield from self.emit_examples()

    def emit_subcommands_help(self) -> Generator[str, None, None]:
        """The subcommands, a line each."""
        if self.subcommands:
            yield "Commands"
            for name, (_, text) in self.subcommands.items():
                yield _row(str(name), text)
            yield ""

    def emit_examples(self) -> Generator[str, None, None]:
        """The examples in line; traitlets leaves the first one behind."""
        if self.examples:
            yield "Examples"
            yield textwrap.indent(inspect.cleandoc(str(self.examples)), "  ")

    @property
    def command(self) -> str:
        """The words that call it, without those that stand for something."""
        words = self.usage.split()
        return " ".join(word for word in words if word.islower() and word[0].isalpha()) or self.name

    def update_config(self, config: Config) -> None:
        """Take ``config``; of the command line, what an option does not take is refused, exit status 2."""
        try:
            super().update_config(config)
        except TraitError as error:
            if config is not self.cli_config:
                raise
            text = str(error)
            trait = re.search(r"'(\w+)' trait of an? \w+ instance ", text)
            for name, target in self.aliases.items():
                if trait and str(target).endswith(f".{trait[1]}"):
                    text = f"{_spelt(name)} {text[trait.end() :]}"
            print(f"{self.command}: {text}\n  {self.command} --help  shows all options", file=sys.stderr)
            self.exit(2)

    def options_alone(self) -> Iterator[tuple[str, str]]:
        """Each option, as it is typed, with what it is for."""
        for spelt, text in self._options():
            for word in spelt.split():
                if word.startswith("-"):
                    yield word.rstrip(","), text

    def _create_loader(
        self, argv: list[str] | None, aliases: Any, flags: Any, classes: Any
    ) -> KVArgParseConfigLoader:
        loader = _Loader(argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands)
        loader.command = self.command
        return loader

    def _options(self) -> Iterator[tuple[str, str]]:
        for name, (_, text) in self.flags.items():
            yield _spelt(name), text
        known: dict[str, Any] = {cls.__name__: cls for cls in (*type(self).mro(), *self.classes)}
        for name, target in self.aliases.items():
            owner, _, trait_name = str(target).partition(".")
            trait = known[owner].class_traits()[trait_name]
            yield f"{_spelt(name)} {trait.metadata.get('metavar', 'VALUE')}", trait.help


class _Loader(KVArgParseConfigLoader):
    """Refuses what traitlets only warns of: without the option that it meant, a command does too much."""

    command = ""

    def _create_parser(self) -> None:
        super()._create_parser()
        self.parser.error = self._refuse  # type: ignore[method-assign] # argparse's would show its own usage
        # Words may stand before, between and behind options: venv DIR --base cpu einops
        self.parser.parse_args = self.parser.parse_intermixed_args  # type: ignore[method-assign]

    def _handle_unrecognized_alias(self, arg: str) -> None:
        self._refuse(f"argument {_spelt(arg)}: expected one argument")

    def _refuse(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit with status 2."""
        known = [_spelt(name) for name in (*_flat(self.flags), *_flat(self.aliases))]
        lacking = re.fullmatch(r"argument (\S+): expected one argument", message)
        targets = {f"--{target}": _spelt(name) for name, target in self.aliases.items()}
        if lacking and (lacking[1] in known or lacking[1] in targets):
            message = f"{targets.get(lacking[1], lacking[1])} needs a value"
        elif lacking:
            close = difflib.get_close_matches(lacking[1], known, 1)
            message = f"there is no option {lacking[1]}" + (f"; did you mean {close[0]}?" if close else "")
        print(f"{self.command}: {message}\n  {self.command} --help  shows all options", file=sys.stderr)
        raise SystemExit(2)


def _flat(options: dict[Any, Any]) -> Iterator[str]:
    for names in options:
        yield from (names,) if isinstance(names, str) else names


def _spelt(names: str | tuple[str, ...]) -> str:
    words = (names,) if isinstance(names, str) else names
    return ", ".join(("-" if len(word) == 1 else "--") + word for word in words)


def _row(name: str, text: str) -> str:
    """A name and what it means, in two columns."""
    filled = textwrap.wrap(" ".join(text.split()), _WIDTH - _COLUMN)
    if len(name) > _COLUMN - 4:
        return "\n".join([f"  {name}", *(" " * _COLUMN + line for line in filled)])
    first, *rest = filled or [""]
    return "\n".join([f"  {name}".ljust(_COLUMN) + first, *(" " * _COLUMN + line for line in rest)])


def _filled(paragraph: str) -> str:
    """A paragraph laid out again; one whose lines are indented, as tables are, stays as it is."""
    if any(line.startswith(" ") for line in paragraph.splitlines()):
        return paragraph
    return textwrap.fill(paragraph, _WIDTH)
