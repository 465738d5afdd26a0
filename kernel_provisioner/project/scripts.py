"""What lets shells and git know an environment."""

from __future__ import annotations

from pathlib import Path

from ..base.current import needed
from ..base.registry import RegisteredBase
from ..overlay.environment import REMOVED, kernel_environment
from ..overlay.skeleton import receipt_of_torch
from ..settings import Settings
from .activate import Activation, activate_script
from .activate_others import fish_script, powershell_script

SCRIPTS = {
    "bin/activate": activate_script,
    "bin/activate.fish": fish_script,
    "bin/Activate.ps1": powershell_script,
}


def write_scripts(place: Path, base: RegisteredBase, settings: Settings) -> list[str]:
    """Write those that are not as this version writes them; their names.

    After the packages, which may bring such files.
    """
    variables = kernel_environment({}, place, settings.policy)
    for name in ("VIRTUAL_ENV", "PATH"):
        variables.pop(name)
    activation = Activation(place, variables, REMOVED, needed(base), f"{place}/{receipt_of_torch(base)}")
    texts = {name: script(activation) for name, script in SCRIPTS.items()}
    if not (place / ".gitignore").exists():  # its user may track some of it
        texts[".gitignore"] = "*\n"
    written = []
    for name, text in texts.items():
        path, content = place / name, text.encode("utf-8", "surrogateescape")
        if not path.is_file() or path.read_bytes() != content:
            path.unlink(missing_ok=True)  # it may be a hard link into uv's cache
            path.write_bytes(content)
            written.append(name)
    return written
