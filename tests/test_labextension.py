"""The extension of JupyterLab and Notebook 7, shipped as it was built; ``make check-lab`` rebuilds it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kernel_provisioner import __version__

REPOSITORY = Path(__file__).parents[1]
BUNDLE = REPOSITORY / "share/jupyter/labextensions/kernel-provisioner"
SOURCES = REPOSITORY / "labextension"

LARGEST = 150_000
"""Bytes that a page loads of it, at most."""


def test_what_is_shipped_is_the_build_of_these_sources() -> None:
    """Its description is that of the sources, and names the file that JupyterLab loads first."""
    shipped = json.loads((BUNDLE / "package.json").read_text(encoding="utf-8"))
    built = shipped["jupyterlab"].pop("_build")
    assert shipped == json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
    assert shipped["version"] == __version__
    assert (BUNDLE / built["load"]).is_file()


def test_the_bundle_is_small() -> None:
    """A page that opens no notebook of ours has little to load."""
    assert sum(file.stat().st_size for file in BUNDLE.rglob("*.js")) < LARGEST


def test_the_bundle_names_no_place_of_the_machine_that_built_it() -> None:
    """Nor does the lock of its build name a registry: each machine has its own."""
    for file in (*BUNDLE.rglob("*.js*"), SOURCES / "package-lock.json"):
        text = file.read_text(encoding="utf-8")
        assert str(REPOSITORY) not in text, file
        assert not re.search(r'"resolved": "http', text), file
