"""What an environment keeps of its project: the choice of extras and groups, and what its base has.

``project.json`` lies in the environment, so that version control never sees it. ``bin/uv`` reads it at each
command (``inkernel/project_uv.py``), and changes the choice at ``uv sync``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..base.receipts import for_builds
from ..base.registry import RegisteredBase
from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.packages import canonical
from ..model.accelerators import ECOSYSTEM
from ..overlay.skeleton import remove_tree
from ..system.files import replace_text


def write_kept(directory: Path, base: RegisteredBase, choices: dict[str, list[str]]) -> None:
    """Write down which words of uv's choose what each member of the project gets (``.``: the root)."""
    manifest = base.manifest
    content = {
        "choices": choices,
        "held": {name: manifest.distributions[name] for name in sorted(manifest.fixed)},
        "distributions": dict(sorted(manifest.distributions.items())),
        "ecosystem": sorted(ECOSYSTEM),
        "receipts": str(base.receipts),
    }
    _write_index(directory / layout.BUILD_INDEX, base)
    replace_text(directory / layout.PROJECT, json.dumps(content, indent=1), mode=0o600)


def _write_index(index: Path, base: RegisteredBase) -> None:
    """Write an index (PEP 503) of the receipts of torch's stack, for builds that need torch."""
    remove_tree(index)
    for wheel in sorted(base.receipts.glob("*.whl")):
        if (name := canonical(wheel.name.partition("-")[0])) in base.manifest.fixed:
            page = index / name
            page.mkdir(parents=True)
            links = ""
            for file, content in for_builds(wheel.name, wheel.read_bytes(), base.manifest.fixed).items():
                (page / file).write_bytes(content)
                links += f'<a href="{quote(file)}">{file}</a>\n'
            (page / "index.html").write_text(f"<!DOCTYPE html>\n{links}")


def read_kept(directory: Path) -> dict[str, Any] | None:
    """What ``write_kept`` and uv's wrapper wrote; None in an environment of no uv project."""
    path = directory / layout.PROJECT
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorruptState(
            f"{path} cannot be read", why=str(error), fix=f"remove {path}, and choose again"
        ) from error


def choice_of(extras: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Extras and groups as uv's own words."""
    return [word for option, names in (("--extra", extras), ("--group", groups))
            for name in names for word in (option, name)]  # fmt: skip
