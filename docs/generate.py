"""Write the pages of the reference that the program itself knows best: commands and settings.

    python docs/generate.py

tests/test_docs.py fails where a page is not what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from traitlets import Enum, TraitType
from traitlets.config import Application
from traitlets.utils.importstring import import_item

from kernel_provisioner.cli.app import OverlayCommand
from kernel_provisioner.settings import TorchOverlay

REFERENCE = Path(__file__).parent / "reference"
_MADE = "<!-- Made by docs/generate.py; change the program, then run it. -->\n"
_ABOUT_COMMANDS = """\
`jupyter overlay COMMAND --help` says the same. `--json` prints one JSON value on stdout and nothing
else. Exit status, where a command does not say otherwise: 0 done; 2 not done, with the reason and
the fix on stderr.
"""
_ABOUT_SETTINGS = """\
What an admin or a user may set, as `c.TorchOverlay.NAME = VALUE` in `jupyter_overlay_config.py`, or
in `jupyter_overlay_config.json`, in any of Jupyter's configuration directories (`jupyter --paths`
lists them). The user's own file counts before the system's. A Jupyter server's own configuration
counts before both, and the environment variables that are named here before everything. The
commands take `--TorchOverlay.NAME=VALUE` too. A notebook can set none of these.
"""


def pages() -> dict[Path, str]:
    """Each generated page and its text."""
    return {REFERENCE / "commands.md": commands_page(), REFERENCE / "settings.md": settings_page()}


def commands_page() -> str:
    """What ``--help`` says, for every command."""
    parts = [
        "# Commands\n",
        _MADE,
        _ABOUT_COMMANDS,
    ]
    for words, app in leaves():
        said = "\n".join(app().emit_help()).strip()
        parts.append(f"## {' '.join(words)}\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


def leaves(
    app: type[Application] = OverlayCommand, words: tuple[str, ...] = ("jupyter", "overlay")
) -> Iterator[tuple[tuple[str, ...], type[Application]]]:
    """Every command that does something, with the words that call it."""
    commands = app.subcommands
    if not isinstance(commands, dict):  # a command without any has the trait itself there
        yield words, app
        return
    for name, (target, _) in commands.items():
        yield from leaves(import_item(target) if isinstance(target, str) else target, (*words, str(name)))


def settings_page() -> str:
    """Every trait of ``TorchOverlay``: its values, its default, what it does."""
    parts = [
        "# Settings\n",
        _MADE,
        _ABOUT_SETTINGS,
    ]
    for name, trait in sorted(TorchOverlay.class_own_traits(config=True).items()):
        text = " ".join(str(trait.help).split())
        parts.append(
            f"## TorchOverlay.{name}\n\n{text}\n\n"
            f"Values: {_values(trait)}. Default: `{trait.default_value!r}`.\n"
        )
    return "\n".join(parts)


def _values(trait: TraitType[object, object]) -> str:
    if isinstance(trait, Enum):
        return " or ".join(f"`{value!r}`" for value in trait.values or ())
    kinds = {"Unicode": "text", "Bool": "`True` or `False`"}
    return kinds.get(type(trait).__name__, type(trait).__name__)


def main() -> int:
    """Write all pages; 0."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
