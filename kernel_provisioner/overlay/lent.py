"""What an installation of kernel-provisioner lends to each overlay: its uv.

The base holds no uv (50 MB). The one that is lent counts as installed, so that ``pip install uv`` and
packages that need it do not put another in its place, which would hold nothing to the base.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ..base.registry import RegisteredBase
from ..inkernel.shared import layout
from ..inkernel.shared.packages import LENT, RECEIPT
from ..model.accelerators import TAGS
from ..system.files import make_directory, write_new
from ..uv.discovery import uv_version

OWN_UV = "uv.own"
"""The name in ``bin`` of a uv that is the overlay's own; ``bin/uv`` runs it."""

_LENT_UV = Path(__file__).parents[1] / "inkernel" / "lent_uv.py"
# By its package, for it consists of several files; at the end of the path, where it hides no other module.
_PROJECT_UV = (
    "import sys; sys.path.append({}); "
    "from kernel_provisioner.inkernel.project_uv import main; main(*sys.argv[1:])"
)
_BIN_UV = """\
#!/bin/sh
# uv. What it installs into this environment is held to its base; nothing else is changed.
uv={uv}
if [ -x {own} ]; then uv={own}; fi
for word; do
    case $word in
    pip) exec {python} -IS {lent_uv} {prefix} "$uv" {backend} "$@" ;;
    add|build|remove|run|sync)
        [ ! -e {project} ] || exec {python} -IS -c {project_uv} {prefix} "$uv" {backend} "$@" ;;
    esac
done
exec "$uv" "$@"
"""
_UV_INIT = '''"""The uv that came with kernel-provisioner, lent to this environment."""


def find_uv_bin():
    return {bin_uv!r}
'''
# `%uv` runs `python -m uv`, which acts on the environment of that Python, as uv's own module has it.
_UV_MAIN = '''"""Run it."""

import os
import sys

from . import find_uv_bin

os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
os.execv(find_uv_bin(), ["uv", *sys.argv[1:]])
'''


def lend_uv(prefix: Path, site: Path, base: RegisteredBase, *, uv: str, from_pytorch: bool) -> list[str]:
    """Put the program ``uv`` into the overlay ``prefix`` with site-packages ``site``.

    ``from_pytorch``: where PyTorch's own host may be asked for its packages. Returns what is to be held
    for its sake: nothing where the base has a uv of its own. Raises OSError.
    """
    bin_uv = prefix / "bin" / "uv"
    if bin_uv.is_symlink():  # the base's
        uv = str(bin_uv.readlink())
        bin_uv.unlink()
    manifest = base.manifest
    # uv then asks PyTorch's own host for torch even where the installed one will do, and fails where
    # it cannot be reached: not on a base whose torch had to come from elsewhere.
    backend = from_pytorch and manifest.tag in TAGS and manifest.from_pytorch and manifest.installer != "pip"
    words = {
        "uv": uv,
        "own": bin_uv.with_name(OWN_UV),
        "python": bin_uv.with_name("python"),
        "lent_uv": _LENT_UV,
        "project": prefix / layout.PROJECT,
        "project_uv": _PROJECT_UV.format(repr(str(_LENT_UV.parents[2]))),
        "prefix": prefix,
        "backend": manifest.tag if backend else "",
    }
    write_new(bin_uv, _BIN_UV.format(**{name: shlex.quote(str(word)) for name, word in words.items()}), 0o755)
    if "uv" in manifest.distributions:
        return []
    make_directory(site / LENT)
    write_new(site / LENT / "__init__.py", _UV_INIT.format(bin_uv=str(bin_uv)))
    write_new(site / LENT / "__main__.py", _UV_MAIN)
    version = uv_version()
    _write_receipt(site, "uv", version)
    return [f"uv=={version}"]


def _write_receipt(site: Path, name: str, version: str) -> None:
    """A ``dist-info`` that says that a distribution is there, and owns nothing but itself."""
    folder = f"{name}-{version}.dist-info"
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: {RECEIPT}\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts["RECORD"] = "".join(f"{folder}/{file},,\n" for file in sorted([*texts, "RECORD"]))
    make_directory(site / folder)
    for file, text in texts.items():
        write_new(site / folder / file, text)
