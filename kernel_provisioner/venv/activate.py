"""The script that a shell sources to work in an environment, and the settings of its pip; pure.

It sets what a kernel in an overlay is given, so that what is installed is held to the base, and
takes all of it back on ``deactivate``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

_JOINED = {"UV_FIND_LINKS": ",", "PIP_FIND_LINKS": " "}  # these add to what the user has there
_PIP = {
    "constraint": "PIP_CONSTRAINT",
    "build-constraint": "PIP_BUILD_CONSTRAINT",
    "find-links": "PIP_FIND_LINKS",
}


def activate_script(directory: Path, variables: Mapping[str, str], removed: Iterable[str]) -> str:
    """``bin/activate`` for sh, bash, zsh and ksh, also under ``set -eu``.

    ``variables`` are those of a kernel's environment but VIRTUAL_ENV and PATH; ``removed`` are
    taken out while the environment is active.
    """
    path, name = shlex.quote(f"{directory}/bin:"), shlex.quote(directory.name)
    given = {
        **{key: _set(key, text) for key, text in variables.items()},
        "VIRTUAL_ENV": _set("VIRTUAL_ENV", str(directory)),
        "VIRTUAL_ENV_PROMPT": _set("VIRTUAL_ENV_PROMPT", directory.name),
        "PATH": [f'export PATH={path}"${{PATH-}}"'],
    }
    taken = sorted(set(removed) - given.keys())
    lines = [
        "# Source this file: . bin/activate   (and: deactivate)",
        'if [ -n "${VIRTUAL_ENV-}" ] && command -v deactivate >/dev/null 2>&1; then deactivate; fi',
        "deactivate () {",
        *(f"    {_back(key)}" for key in (*given, *taken)),
        '    if [ -n "${_OVERLAY_PS1+x}" ]; then PS1="$_OVERLAY_PS1"; unset _OVERLAY_PS1; fi',
        "    unset -f deactivate",
        "    hash -r 2>/dev/null || true",
        "}",
        *(line for key, lines in given.items() for line in (_keep(key), *lines)),
        *(line for key in taken for line in (_keep(key), f"unset {key}")),
        'if [ -z "${VIRTUAL_ENV_DISABLE_PROMPT-}" ] && [ -n "${PS1-}" ]; then',
        f'    _OVERLAY_PS1="$PS1"; PS1="("{name}") $PS1"',
        "fi",
        "hash -r 2>/dev/null || true",
    ]
    return "\n".join(lines) + "\n"


def pip_config(variables: Mapping[str, str]) -> str:
    """``pip.conf`` at the environment's top, which pip reads also where nothing was activated.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    return "[global]\n" + "".join(f"{option} = {variables[name]}\n" for option, name in _PIP.items())


def _set(key: str, text: str) -> list[str]:
    """Lines that give a variable its value, the user's own ``find-links`` behind ours."""
    if key not in _JOINED:
        return [f"export {key}={shlex.quote(text)}"]
    joint = _JOINED[key]
    first, _, others = text.partition(joint)
    # What pip's files say (others) counts only where no variable takes its place.
    return [
        f"_OVERLAY_OTHERS={shlex.quote(others)}",
        f'_OVERLAY_OTHERS="${{{key}-$_OVERLAY_OTHERS}}"',
        f'export {key}={shlex.quote(first)}"${{_OVERLAY_OTHERS:+{joint}$_OVERLAY_OTHERS}}"',
        "unset _OVERLAY_OTHERS",
    ]


def _keep(key: str) -> str:
    return f'if [ -n "${{{key}+x}}" ]; then _OVERLAY_{key}="${key}"; fi'


def _back(key: str) -> str:
    return (
        f'if [ -n "${{_OVERLAY_{key}+x}}" ]; then export {key}="$_OVERLAY_{key}"; unset _OVERLAY_{key}; '
        f"else unset {key}; fi"
    )
