"""``jupyter overlay run``: a notebook from start to end, without a browser."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from traitlets import Unicode

from ..errors import OverlayError
from ..files import replace_text
from .common import OverlayApp
from .kernels import Prospect, prospect
from .progress import progress_on


class RunApp(OverlayApp):
    """Run a notebook's cells from first to last on a shared torch, in the notebook's own overlay.

    The overlay is made where it is not there yet, and is the one that JupyterLab uses too. Cells
    run in the notebook's directory. The notebook's file is left as it is; --output writes a copy
    with the outputs, also where a cell failed.

    Exit status: 0 all cells ran; 1 a cell failed, and those after it did not run; 2 no cell ran,
    because no base fits or the overlay could not be built: the message says why, and the fix.
    """

    usage = "jupyter overlay run NOTEBOOK [--output FILE] [--kernel NAME]"
    description = __doc__
    examples = """
    jupyter overlay run train.ipynb
    jupyter overlay run train.ipynb --output runs/today.ipynb
    jupyter overlay run train.ipynb --output train.ipynb      with its outputs, in place
    jupyter overlay run train.ipynb --kernel torch-cu126
    """
    aliases = {**OverlayApp.aliases, "output": "RunApp.output", "kernel": "RunApp.kernel"}
    output = Unicode("", help="Write the notebook with its outputs here; default: nowhere.").tag(
        config=True, metavar="FILE"
    )
    kernel = Unicode(
        "", help="A shared torch kernel; default: the notebook's own, or else torch, which chooses."
    ).tag(config=True, metavar="NAME")

    interrupted = "nothing half-made is ever used"

    def run(self) -> int | None:
        """Run the notebook; see the class."""
        (name,) = self.words(1, 1)
        target = _target(self.output)
        ahead = prospect(name, self.kernel, self.settings())

        from .execute import execute, load_notebook

        with progress_on(Console(stderr=True, highlight=False, soft_wrap=True)) as progress:
            while True:
                for line in _introduction(ahead):
                    progress.note(line)
                nb = load_notebook(ahead.path)
                outcome = execute(nb, ahead.path, ahead.kernel.name, progress, self.config)
                if not outcome.refusal:
                    break
                before = ahead.outlook.base.manifest.id
                ahead = prospect(name, self.kernel, self.settings())
                if ahead.outlook.base.manifest.id == before:
                    raise outcome.refusal
                # The builder found another base that holds the extras: what a person would restart for.
            if target:
                _write(target, nb)
                progress.note(f"wrote {target}")
        if outcome.cell:
            traceback = outcome.traceback if sys.stderr.isatty() else _plain(outcome.traceback)
            print(f"{traceback}\njupyter overlay: code cell {outcome.cell} failed", file=sys.stderr)
        status = 1 if outcome.cell else 0
        data = {
            "notebook": str(ahead.path),
            "kernel": ahead.kernel.name,
            "base": ahead.outlook.base.manifest.id,
            "status": "failed" if status else "ok",
            "cell": outcome.cell or None,
            "error": _plain(outcome.error),
            "output": str(target) if target else None,
            "seconds": round(outcome.seconds, 3),
        }
        self.emit(data, [] if status else [f"{ahead.path.name} ran in {outcome.seconds:.1f} s"])
        return status


def _introduction(ahead: Prospect) -> list[str]:
    outlook = ahead.outlook
    extras = ", ".join(outlook.request.extras)
    return [
        f"{ahead.path.name}: {outlook.base.manifest.id} ({outlook.chosen.reason})",
        *([f"with {extras}" + ("" if outlook.state == "ready" else ", to be installed")] if extras else []),
        *ahead.notices,
    ]


def _target(output: str) -> Path | None:
    """Where to write, looked at before anything runs; raises OverlayError."""
    if not output:
        return None
    target = Path(output).absolute()
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OverlayError(
            f"{target} cannot be written",
            why="that is a directory"
            if target.is_dir()
            else f"{target.parent} is no directory that you can write",
            fix="name a file in a directory of yours: --output FILE",
        )
    return target


def _write(target: Path, nb: Any) -> None:
    """Write whole or not at all: it may be the notebook itself."""
    import nbformat

    try:
        replace_text(target, nbformat.writes(nb) + "\n")  # type: ignore[no-untyped-call]
    except OSError as error:
        raise OverlayError(f"{target} cannot be written", why=str(error), fix="name another file") from error


def _plain(text: str) -> str:
    """Without the escape sequences that colour a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
