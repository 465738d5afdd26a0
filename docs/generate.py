"""Write the pages of the reference that the program itself knows best: commands and settings.

And the table of faults that the tests know best, and the rooms that the imports tell.

    python docs/generate.py

tests/test_docs.py fails where a page is not what this writes.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from traitlets import Enum, TraitType, Union
from traitlets.config import Application, Configurable
from traitlets.utils.importstring import import_item

from kernel_provisioner.cli.app import OverlayCommand
from kernel_provisioner.policy.traits import TorchPolicy
from kernel_provisioner.provisioner import TorchOverlayProvisioner
from kernel_provisioner.settings import TorchOverlay

REFERENCE = Path(__file__).parent / "reference"
_MADE = "<!-- Made by docs/generate.py; change the program, then run it. -->\n"
_ABOUT_COMMANDS = """\
This is the output of `jupyter overlay COMMAND --help`. With `--json`, a command prints JSON to stdout and
nothing else. Exit status, unless a command says otherwise: 0 done; 2 not done, with the cause and the fix
on stderr.
"""
_ABOUT_SETTINGS = """\
Set them as `c.TorchOverlay.NAME = VALUE` in `jupyter_overlay_config.py`, or in
`jupyter_overlay_config.json`, in any of Jupyter's configuration directories (`jupyter --paths` lists them).
The user's file overrides the system's. The configuration of a Jupyter server overrides both, and the
environment variables below override everything. Commands accept `--TorchOverlay.NAME=VALUE` too. A notebook
can set none of these.
"""
_ABOUT_RULES = """\
Rules for what can be installed: `c.TorchPolicy.NAME = VALUE` in the same files. By default there are none.
If several files set a rule, all of them apply: a user's file can forbid more, and cannot allow what the
system's file forbids. See [how to set a policy](../how-to/set-a-policy.md).
"""
_ABOUT_SERVERS = """\
How a Jupyter server starts kernels: `c.TorchOverlayProvisioner.NAME = VALUE` in the same files or in the
server's own configuration. See [how to start kernels warm](../how-to/warm-start.md).
"""
_SERVERS = """\
How a Jupyter server starts kernels, as `c.TorchOverlayProvisioner.NAME = VALUE` in the same files or in
the server's own configuration. [How to start kernels warm](../how-to/warm-start.md) says more.
"""
_SERVERS = ("warm", "warm_idle")


def pages() -> dict[Path, str]:
    """Each generated page and its text."""
    reliability = runpy.run_path(str(Path(__file__).with_name("reliability.py")))
    architecture = runpy.run_path(str(Path(__file__).with_name("architecture.py")))
    rest = runpy.run_path(str(Path(__file__).with_name("rest.py")))
    return {
        REFERENCE / "commands.md": commands_page(),
        REFERENCE / "settings.md": settings_page(),
        rest["PAGE"]: rest["page"](),
        reliability["PAGE"]: reliability["page"](),
        architecture["PAGE"]: architecture["page"](),
    }


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
    """Every trait of ``TorchOverlay``, ``TorchPolicy`` and servers: its values, its default, what it does."""
    parts = [
        "# Settings\n",
        _MADE,
        _ABOUT_SETTINGS,
    ]
    for name, trait in _traits(TorchOverlay):
        parts.append(_entry(TorchOverlay, name, trait, f" Default: `{trait.default_value!r}`."))
    parts += ["# Policy\n", _ABOUT_RULES]
    for name, trait in _traits(TorchPolicy):
        parts.append(_entry(TorchPolicy, name, trait, ""))
    parts += ["# Servers\n", _ABOUT_SERVERS]
    for name, trait in _traits(TorchOverlayProvisioner):
        if name in _SERVERS:
            default = f" Default: `{trait.default_value!r}`."
            parts.append(_entry(TorchOverlayProvisioner, name, trait, default))
    return "\n".join(parts)


def _traits(settings: type[Configurable]) -> list[tuple[str, TraitType[object, object]]]:
    return sorted(settings.class_own_traits(config=True).items())


def _entry(settings: type[Configurable], name: str, trait: TraitType[object, object], default: str) -> str:
    text = " ".join(str(trait.help).split())
    return f"## {settings.__name__}.{name}\n\n{text}\n\nValues: {_values(trait)}.{default}\n"


def _values(trait: TraitType[object, object]) -> str:
    if isinstance(trait, Union):
        return " or ".join(map(_values, trait.trait_types))
    if isinstance(trait, Enum):
        return " or ".join(f"`{value!r}`" for value in trait.values or ())
    kinds = {
        "Unicode": "text",
        "Bool": "`True` or `False`",
        "List": "a list of texts",
        "Int": "a whole number",
        "Float": "a number",
    }
    return kinds.get(type(trait).__name__, type(trait).__name__)


def main() -> int:
    """Write all pages; 0."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
