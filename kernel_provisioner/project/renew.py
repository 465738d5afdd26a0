"""Let an environment work at another place, or on another base with the same torch; what it holds stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase
from ..inkernel.shared import layout
from ..inkernel.shared.packages import is_receipt
from ..overlay import store
from ..overlay.guards import CONSTRAINTS, Terms, write_guards
from ..overlay.skeleton import (
    link_again,
    missing_receipts,
    remove_tree,
    shebang_for,
    shebangs_for,
    site_packages,
)
from ..settings import Settings
from ..system.files import replace_text
from ..uv.discovery import uv_path
from . import notes


def renew(place: Path, spec: Mapping[str, Any], base: RegisteredBase, settings: Settings) -> None:
    """Write again all that names the environment's place or its base; whoever is cut short can repeat it."""
    root = store.Store(Path(settings.overlay_root))
    root.prepare()
    notes.note(root.root, place, base)  # first: what it is linked to in the store is then kept
    _lead_scripts(place, Path(spec.get("place", place)))
    link_again(place, base)
    for path in site_packages(place).glob("*.dist-info"):
        if is_receipt(path):
            remove_tree(path)
    lay_guards(place, base, settings)
    missing_receipts(place, base)
    generation = store.Generation(place)
    manifest = base.manifest
    generation.write(layout.OVERLAY, {**generation.read(layout.OVERLAY), "base": manifest.id})
    order = {**spec["order"], "base": manifest.id, "fingerprint": manifest.fingerprint}
    notes.write_spec(
        place, {**spec, "order": order, "base_directory": str(base.directory), "place": str(place)}
    )


def lay_guards(place: Path, base: RegisteredBase, settings: Settings) -> None:
    """Write ``bin/uv`` and what holds installs to the base."""
    for name in ("bin/uv", CONSTRAINTS):
        (place / name).unlink(missing_ok=True)  # a uv that somebody installed may be a hard link into a cache
    terms = Terms(settings.policy, settings.index_template, kernel=False)
    write_guards(place, site_packages(place), base, terms, uv=uv_path())


def _lead_scripts(place: Path, old: Path) -> None:
    """Let the scripts in ``bin`` that start the Python at the place ``old`` start the one that is here."""
    names = [path.name for path in (place / "bin").glob("python*")]
    for script in (place / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        with script.open("rb") as file:
            if file.read(2) != b"#!":
                continue
        text = script.read_bytes().decode("utf-8", "surrogateescape")
        for name in names:
            for form in shebangs_for(old / "bin" / name):
                if text.startswith(f"{form}\n"):
                    first = shebang_for(place / "bin" / name)
                    mode = script.stat().st_mode & 0o777
                    replace_text(script, first + text[len(form) :], mode=mode, durable=False)
