"""What an installation of kernel-provisioner lends to each overlay: its uv.

The base holds no uv (50 MB). The one that is lent counts as installed, so that ``pip install uv`` and
packages that need it do not put another in its place, which would hold nothing to the base.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from pathlib import Path

from ..base.registry import RegisteredBase
from ..inkernel.shared import layout
from ..inkernel.shared.packages import LENT, RECEIPT, is_receipt
from ..model.accelerators import TAGS
from ..model.manifest import BaseManifest
from ..system.files import make_directory, replace_text, write_new
from ..uv.discovery import uv_path, uv_version

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
    add|build|check|remove|run|sync|version)
        [ ! -e {project} ] || exec {python} -IS -c {project_uv} {prefix} "$uv" {backend} "$@" ;;
    esac
done
exec "$uv" "$@"
"""
_HEAD = _BIN_UV[: _BIN_UV.index("uv={uv}")]
_SHAPE = re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(_BIN_UV)))
_LONGEST = 64 * 1024  # bytes of it, at most; a uv that somebody has installed has millions
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
    write_new(bin_uv, _script(prefix, uv, manifest.tag if backend else ""), 0o755)
    if "uv" in manifest.distributions:
        return []
    make_directory(site / LENT)
    write_new(site / LENT / "__init__.py", _UV_INIT.format(bin_uv=str(bin_uv)))
    write_new(site / LENT / "__main__.py", _UV_MAIN)
    version = uv_version()
    _write_receipt(site, "uv", version)
    return [f"uv=={version}"]


def lent_script(prefix: Path) -> str:
    """``bin/uv`` of an overlay, where it is what was lent; empty where somebody has put a uv in its place."""
    with contextlib.suppress(OSError), open(f"{prefix}/bin/uv", "rb") as file:  # noqa: PTH123 - at each launch
        text = file.read(_LONGEST).decode("utf-8", "surrogateescape")
        return text if text.startswith(_HEAD) else ""
    return ""


def is_served_by_us(script: str) -> bool:
    """Whether a ``bin/uv`` is as this version writes it, and leads to this installation and to a uv."""
    return (
        _SHAPE.fullmatch(script) is not None
        and f" {shlex.quote(str(_LENT_UV))} " in script
        and os.access(_program(script), os.X_OK)
    )


def renew_uv(prefix: Path, script: str, base: BaseManifest) -> None:
    """Let ``bin/uv``, which is ``script``, lead to this installation; a uv of the base's it runs as before.

    Raises OSError, and UvUnusable where this installation has none.
    """
    program = _program(script)
    if not ("uv" in base.distributions and os.access(program, os.X_OK)):
        program = uv_path()
    backend = re.search(r'"\$uv" ([\w.]+) "\$@"', script)
    text = _script(prefix, program, backend[1] if backend else "")
    replace_text(prefix / "bin" / "uv", text, mode=0o755, durable=False)


def renew_receipt(site: Path) -> str:
    """Let the version that is lent now count as installed; empty where another uv does.

    Raises OSError, and UvUnusable where there is none to lend.
    """
    uv_path()
    version = uv_version()
    ours = [info for info in site.glob("uv-*.dist-info") if is_receipt(info)]
    for info in ours:
        if info.name != f"uv-{version}.dist-info":
            _write_receipt(site, "uv", version)
            shutil.rmtree(info)
    return version if ours else ""


def _script(prefix: Path, uv: str, backend: str) -> str:
    """The text of ``bin/uv``."""
    words = {
        "uv": uv,
        "own": prefix / "bin" / OWN_UV,
        "python": prefix / "bin" / "python",
        "lent_uv": _LENT_UV,
        "project": prefix / layout.PROJECT,
        "project_uv": _PROJECT_UV.format(repr(str(_LENT_UV.parents[2]))),
        "prefix": prefix,
        "backend": backend,
    }
    return _BIN_UV.format(**{name: shlex.quote(str(word)) for name, word in words.items()})


def _program(script: str) -> str:
    """The uv that a ``bin/uv`` runs where no other is the overlay's own; empty where it does not say."""
    with contextlib.suppress(ValueError):  # a quotation that does not end
        if found := re.search(r"^uv=(.+)$", script, re.MULTILINE):
            return "".join(shlex.split(found[1])[:1])
    return ""


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
