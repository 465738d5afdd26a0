"""What is known of single packages: which are placed as files, and why, and what one writes beside itself."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path

_WRITERS = {
    "chromedriver-autoinstaller": "it downloads programs into its own directory",
    "edgedriver-autoinstaller": "it downloads programs into its own directory",
    "geckodriver-autoinstaller": "it downloads programs into its own directory",
}


PYTEST, PLUGIN = "pytest", "pytest finds the modules of a plugin, whose asserts it explains, by RECORD"
"""A program, and why its plugins are placed as files where it is: in few overlays."""


def reason_for_files(name: str, info: Path) -> str:
    """Why the package ``name`` with this dist-info needs files; empty where links serve it."""
    with contextlib.suppress(OSError):
        if "[pytest11]" in (info / "entry_points.txt").read_text(encoding="utf-8", errors="replace"):
            # https://docs.pytest.org/en/stable/how-to/writing_plugins.html#assertion-rewriting
            return PLUGIN
    return _WRITERS.get(name, "")


def written_at_first_use(name: str) -> Mapping[str, str]:
    """Path below site-packages → content of what the package ``name`` writes there when it is first used.

    Where root imports it, that would change the store, and each build would take the entry for damaged.
    """
    if name == "gradio":  # its utils.get_hash_seed
        return {"gradio/hash_seed.txt": secrets.token_hex(16)}
    return {}
