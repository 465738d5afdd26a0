"""``jupyter overlay completion``: a script by which a shell completes commands and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from traitlets.utils.importstring import import_item

from .common import OverlayApp

_TAGS = "cpu cu118 cu124 cu126 cu128 cu130 rocm6.3 rocm6.4 xpu"


class CompletionApp(OverlayApp):
    """Print a script that lets bash, zsh or fish complete the words after jupyter overlay.

    Commands, their options and accelerator tags are completed, and file names where a notebook or a file
    belongs. The script is made once; print it again after an upgrade.
    """

    usage = "jupyter overlay completion bash|zsh|fish"
    description = __doc__
    examples = """
    eval "$(jupyter overlay completion bash)"        in ~/.bashrc
    eval "$(jupyter overlay completion zsh)"         in ~/.zshrc, after compinit
    jupyter overlay completion fish > ~/.config/fish/completions/jupyter-overlay.fish
    """

    def run(self) -> int | None:
        (shell,) = self.words(1, 1)
        if shell not in ("bash", "zsh", "fish"):
            self.words(0, 0)
        known = dict(_commands())
        text = _fish(known) if shell == "fish" else _bash(known)
        head = "autoload -Uz bashcompinit && bashcompinit\n" if shell == "zsh" else ""
        self.emit({"shell": shell, "script": head + text}, (head + text).splitlines())
        return None


def _commands(
    app: Any = None, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """The words of each command, and what may follow it: subcommands or options, each with what it is for."""
    app = app or import_item(f"{__package__}.app.OverlayCommand")
    if not isinstance(app.subcommands, dict):
        yield words, dict(app().options_alone())
        return
    yield words, {str(name): text for name, (_, text) in app.subcommands.items()}
    for name, (target, _) in app.subcommands.items():
        yield from _commands(import_item(target) if isinstance(target, str) else target, (*words, str(name)))


def _bash(known: dict[tuple[str, ...], dict[str, str]]) -> str:
    """For bash, and for zsh with ``bashcompinit``."""
    cases = [f'    "{" ".join(words)}") offer="{" ".join(after)}" ;;' for words, after in known.items()]
    return "\n".join([
        "_jupyter_overlay() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" at=1 command="" offer=""',
        '  if [ "${COMP_WORDS[0]##*/}" = jupyter ]; then',
        '    if [ "${COMP_WORDS[1]}" != overlay ] || [ "$COMP_CWORD" -lt 2 ]; then',
        '      [ "$COMP_CWORD" -ne 1 ] || COMPREPLY=($(compgen -W "overlay lab notebook" -- "$current"))',
        "      return",
        "    fi",
        "    at=2",
        "  fi",
        '  if [ "$COMP_CWORD" -gt "$at" ]; then command="${COMP_WORDS[at]}"; fi',
        '  if [ "$command" = base ] && [ "$COMP_CWORD" -gt "$((at + 1))" ]; then',
        '    command="base ${COMP_WORDS[at+1]}"',
        "  fi",
        '  case "$command" in',
        *cases,
        "  esac",
        '  if [ "$command" = "base create" ] && [ "${current#-}" = "$current" ]; then',
        f'    offer="{_TAGS}"',
        "  fi",
        '  COMPREPLY=($(compgen -W "$offer" -- "$current"))',
        "}",
        "complete -o default -F _jupyter_overlay jupyter-overlay",
        "complete -o default -F _jupyter_overlay jupyter",
    ])  # fmt: skip


def _fish(known: dict[tuple[str, ...], dict[str, str]]) -> str:
    """For fish: one line for each word that may follow."""
    lines = []
    for words, after in known.items():
        seen = [f"__fish_seen_subcommand_from {word}" for word in words]
        others = [] if words and words != ("base",) else [
            f"not __fish_seen_subcommand_from {' '.join(after)}"
        ]  # fmt: skip
        for name, text in after.items():
            for program, first in (
                ("jupyter-overlay", []),
                ("jupyter", ["__fish_seen_subcommand_from overlay"]),
            ):
                when = "; and ".join([*first, *seen, *others]) or "true"
                what = f"-l {name[2:]}" if name.startswith("--") else f"-f -a {name}"
                if name.startswith("-") and not name.startswith("--"):
                    what = f"-s {name[1:]}"
                lines.append(f"complete -c {program} -n {_quoted(when)} {what} -d {_quoted(text)}")
    create = "__fish_seen_subcommand_from base; and __fish_seen_subcommand_from create"
    lines += [
        f"complete -c {program} -n {_quoted(create)} -f -a {_quoted(_TAGS)}"
        for program in ("jupyter-overlay", "jupyter")
    ]
    lines.append("complete -c jupyter -n __fish_use_subcommand -f -a overlay")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A word for fish."""
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
