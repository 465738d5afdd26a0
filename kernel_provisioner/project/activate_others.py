"""What ``activate.py`` does, for fish and PowerShell; pure."""

from __future__ import annotations

from collections.abc import Iterable

from .activate import Activation


def fish_script(of: Activation) -> str:
    """``bin/activate.fish``, for fish 3.4 or newer, where ``return`` ends a script that is sourced."""
    home = of.directory
    given = [f"set -gx {key} {_fish(text)}" for key, text in of.given.items()]
    lines = [
        "# Source this file: source bin/activate.fish   (and: deactivate)",
        f"set -l place (builtin realpath {_fish(f'{home}/bin/activate.fish')} 2>/dev/null)",
        'if test (builtin realpath (status filename)) != "$place"',
        f"    echo (status filename) {_fish(of.moved[0])} >&2",
        *_fish_say(of.moved[1:]),
        "    return 1",
        "end",
        f"if not test -x {_fish(f'{home}/bin/python')}",
        *_fish_say(of.no_python),
        "    return 1",
        "end",
        f"for file in {_fish_list(of.base)}",
        "    test -e $file; and continue",
        *_fish_say(of.no_base),
        "    return 1",
        "end",
        f"if not test -e {_fish(of.receipt)}",
        *_fish_say(of.lost),
        "end",
        "if set -q VIRTUAL_ENV; and functions -q deactivate",
        "    deactivate",
        "end",
        "function deactivate",
        f"    for key in {' '.join(of.kept)}",
        "        set -l saved _OVERLAY_$key",
        "        if set -q $saved",
        "            set -gx $key $$saved",
        "            set -e $saved",
        "        else",
        "            set -e $key",
        "        end",
        "    end",
        "    if functions -q _overlay_fish_prompt",
        "        functions -e fish_prompt",
        "        functions -c _overlay_fish_prompt fish_prompt",
        "        functions -e _overlay_fish_prompt",
        "    end",
        "    functions -e deactivate",
        "end",
        f"for key in {' '.join(of.kept)}",
        "    if set -q $key",
        "        set -g _OVERLAY_$key $$key",
        "    end",
        "end",
        *given,
        # With /dev/null pip would not read the environment's pip.conf either.
        'if test "$PIP_CONFIG_FILE" = /dev/null',
        "    set -e PIP_CONFIG_FILE",
        "end",
        f"set -gx PATH {_fish(f'{home}/bin')} $PATH",
        f"for key in {' '.join(of.taken)}",
        "    set -e $key",
        "end",
        'if test -z "$VIRTUAL_ENV_DISABLE_PROMPT"; and functions -q fish_prompt',
        "    functions -c fish_prompt _overlay_fish_prompt",
        "    function fish_prompt",
        f"        printf '(%s) ' {_fish(home.name)}",
        "        _overlay_fish_prompt",
        "    end",
        "end",
    ]
    return "\n".join(lines) + "\n"


def powershell_script(of: Activation) -> str:
    """``bin/Activate.ps1``, for PowerShell on Linux and macOS."""
    home = of.directory
    lines = [
        "# Source this file: . bin/Activate.ps1   (and: deactivate)",
        f"$place = {_ps(f'{home}/bin')}",
        # The paths differ where a link leads to the environment, too.
        "if ($PSScriptRoot -ne $place -and (& realpath $PSScriptRoot) -ne (& realpath -q $place)) {",
        f'    [Console]::Error.WriteLine("$PSCommandPath " + {_ps(of.moved[0])})',
        *_ps_say(of.moved[1:]),
        "    return",
        "}",
        f"if (-not (Test-Path -LiteralPath {_ps(f'{home}/bin/python')})) {{",
        *_ps_say(of.no_python),
        "    return",
        "}",
        f"foreach ($file in @({_ps_list(of.base)})) {{",
        "    if (Test-Path -LiteralPath $file) { continue }",
        *_ps_say(of.no_base),
        "    return",
        "}",
        f"if (-not (Test-Path -LiteralPath {_ps(of.receipt)})) {{",
        *_ps_say(of.lost),
        "}",
        "if ($env:VIRTUAL_ENV -and (Test-Path function:deactivate)) { deactivate }",
        "$global:_OVERLAY_SAVED = @{}",
        f"foreach ($key in {_ps_list(of.kept)}) {{",
        "    $global:_OVERLAY_SAVED[$key] = [Environment]::GetEnvironmentVariable($key)",
        "}",
        "function global:deactivate {",
        "    foreach ($key in $global:_OVERLAY_SAVED.Keys) {",
        "        [Environment]::SetEnvironmentVariable($key, $global:_OVERLAY_SAVED[$key])",
        "    }",
        "    Remove-Variable -Name _OVERLAY_SAVED -Scope global",
        "    if (Test-Path function:_overlay_prompt) {",
        "        Copy-Item function:_overlay_prompt function:global:prompt",
        "        Remove-Item function:_overlay_prompt",
        "    }",
        "    Remove-Item function:deactivate",
        "}",
        *(f"$env:{key} = {_ps(text)}" for key, text in of.given.items()),
        # With /dev/null pip would not read the environment's pip.conf either.
        "if ($env:PIP_CONFIG_FILE -eq '/dev/null') { $env:PIP_CONFIG_FILE = $null }",
        f"$env:PATH = {_ps(f'{home}/bin:')} + $env:PATH",
        f"foreach ($key in {_ps_list(of.taken)}) {{",
        "    [Environment]::SetEnvironmentVariable($key, $null)",
        "}",
        "if (-not $env:VIRTUAL_ENV_DISABLE_PROMPT) {",
        "    Copy-Item function:prompt function:global:_overlay_prompt",
        f"    function global:prompt {{ {_ps(f'({home.name}) ')} + (_overlay_prompt) }}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _fish_list(texts: Iterable[str]) -> str:
    return " ".join(map(_fish, texts))


def _fish_say(lines: Iterable[str]) -> list[str]:
    return [f"    printf '%s\\n' {_fish(line)} >&2" for line in lines]


def _ps(text: str) -> str:
    # Typographic quotes end a string in quotes as ' does.
    return "'" + "".join(char * 2 if char in "'‘’‚‛" else char for char in text) + "'"  # noqa: RUF001


def _ps_list(texts: Iterable[str]) -> str:
    return ", ".join(map(_ps, texts))


def _ps_say(lines: Iterable[str]) -> list[str]:
    return [f"    [Console]::Error.WriteLine({_ps(line)})" for line in lines]
