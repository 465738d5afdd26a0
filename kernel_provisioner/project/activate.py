"""The script that a shell sources to work in an environment; pure.

It sets what a kernel in an overlay is given, and takes all of it back on ``deactivate``. First it looks
whether the environment still works: at files alone, which starts no process.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Activation:
    """What the scripts of all shells are made of.

    ``variables`` are those of a kernel's environment but VIRTUAL_ENV and PATH; ``removed`` are taken out
    while the environment is active. ``base`` are paths without which the base is gone, ``receipt`` the one by
    which uv and pip know torch.
    """

    directory: Path
    variables: Mapping[str, str]
    removed: Collection[str]
    base: tuple[str, ...] = ()
    receipt: str = ""

    @property
    def given(self) -> dict[str, str]:
        """What is set; PATH and PIP_CONFIG_FILE depend on what they are, and are no part of it."""
        place = self.directory
        own = {"VIRTUAL_ENV": str(place), "VIRTUAL_ENV_PROMPT": place.name}
        return {**self.variables, **own}

    @property
    def taken(self) -> list[str]:
        """What is taken out."""
        return sorted(set(self.removed) - {*self.given, "PATH", "PIP_CONFIG_FILE"})

    @property
    def kept(self) -> list[str]:
        """All that ``deactivate`` puts back."""
        return [*self.given, "PIP_CONFIG_FILE", "PATH", *self.taken]

    @property
    def moved(self) -> tuple[str, str]:
        """What is said, after the script's own path, where it lies at another place than it was made for."""
        return (f"was created for the environment {self.directory}",
                "and works at no other path. fix: jupyter overlay sync DIR")  # fmt: skip

    @property
    def no_python(self) -> tuple[str, str]:
        """What is said where no Python runs."""
        return (f"no Python runs in the environment {self.directory}",
                "it was moved, or its Python is gone. fix: jupyter overlay sync DIR")  # fmt: skip

    @property
    def no_base(self) -> tuple[str, str]:
        """What is said where the base is gone."""
        return (f"the base with torch is gone, on which the environment {self.directory} stands",
                f"fix: jupyter overlay sync {shlex.quote(str(self.directory))}")  # fmt: skip

    @property
    def lost(self) -> tuple[str, str]:
        """What is said where torch's receipt is gone; the environment can be used, but not installed into."""
        name = shlex.quote(str(self.directory))
        return (f"uv and pip no longer find the base's torch in the environment {self.directory}",
                f"another uv removed or replaced it. fix: jupyter overlay sync {name}")  # fmt: skip


def activate_script(of: Activation) -> str:
    """``bin/activate`` for sh, bash, zsh and ksh, also under ``set -eu``."""
    name = shlex.quote(of.directory.name)
    path = shlex.quote(f"{of.directory}/bin:")
    given = {key: f"export {key}={shlex.quote(text)}" for key, text in of.given.items()}
    # With /dev/null pip would not read the environment's pip.conf either.
    given["PIP_CONFIG_FILE"] = 'if [ "${PIP_CONFIG_FILE-}" = /dev/null ]; then unset PIP_CONFIG_FILE; fi'
    given["PATH"] = f'export PATH={path}"${{PATH-}}"'
    lines = [
        "# Source this file: . bin/activate   (and: deactivate)",
        *_checks(of),
        'if [ -n "${VIRTUAL_ENV-}" ] && command -v deactivate >/dev/null 2>&1; then deactivate; fi',
        "deactivate () {",
        *(f"    {_back(key)}" for key in of.kept),
        '    if [ -n "${_OVERLAY_PS1+x}" ]; then PS1="$_OVERLAY_PS1"; unset _OVERLAY_PS1; fi',
        "    unset -f deactivate",
        "    hash -r 2>/dev/null || true",
        "}",
        *(line for key, line_of in given.items() for line in (_keep(key), line_of)),
        *(line for key in of.taken for line in (_keep(key), f"unset {key}")),
        'if [ -z "${VIRTUAL_ENV_DISABLE_PROMPT-}" ] && [ -n "${PS1-}" ]; then',
        f'    _OVERLAY_PS1="$PS1"; PS1="("{name}") $PS1"',
        "fi",
        "hash -r 2>/dev/null || true",
    ]
    return "\n".join(lines) + "\n"


def _checks(of: Activation) -> list[str]:
    """Lines that end the script where the environment does not work, and say where uv and pip lost torch.

    A POSIX shell does not say which file it sources: there it is the place alone that is looked at.
    """
    home = shlex.quote(str(of.directory))
    base = " ".join(map(shlex.quote, of.base))
    return [
        "_OVERLAY_FILE=${BASH_SOURCE-}",
        """if [ -n "${ZSH_VERSION-}" ]; then eval '_OVERLAY_FILE="${(%):-%x}"'; fi""",
        f'if [ -n "$_OVERLAY_FILE" ] && [ ! "$_OVERLAY_FILE" -ef {home}/bin/activate ]; then',
        f'    echo "$_OVERLAY_FILE" {shlex.quote(of.moved[0])} >&2',
        *_say(of.moved[1:]),
        "    unset _OVERLAY_FILE; return 1",
        "fi",
        f"if [ ! -x {home}/bin/python ]; then",
        *_say(of.no_python),
        "    unset _OVERLAY_FILE; return 1",
        "fi",
        f"for _OVERLAY_FILE in {base}; do",
        '    if [ -e "$_OVERLAY_FILE" ]; then continue; fi',
        *_say(of.no_base),
        "    unset _OVERLAY_FILE; return 1",
        "done",
        f"if [ ! -e {shlex.quote(of.receipt)} ]; then",
        *_say(of.lost),
        "fi",
        "unset _OVERLAY_FILE",
    ]


def _say(lines: tuple[str, ...]) -> list[str]:
    return [f"    printf '%s\\n' {shlex.quote(line)} >&2" for line in lines]


def _keep(key: str) -> str:
    return f'if [ -n "${{{key}+x}}" ]; then _OVERLAY_{key}="${key}"; fi'


def _back(key: str) -> str:
    return (
        f'if [ -n "${{_OVERLAY_{key}+x}}" ]; then export {key}="$_OVERLAY_{key}"; unset _OVERLAY_{key}; '
        f"else unset {key}; fi"
    )
