"""``jupyter overlay run``: a notebook from start to end, without a browser."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from traitlets import List, Unicode

from ..errors import OverlayError
from ..notebook.text import is_text
from ..runs.kernels import Prospect, prospect
from ..system.files import replace_text
from .common import KernelApp
from .progress import progress_on


class RunApp(KernelApp):
    """Run all cells of a notebook, in the notebook's own overlay on a shared torch.

    The overlay is created if needed; JupyterLab uses the same one. Cells run in the notebook's directory. The
    notebook file is not changed; --output writes a copy with the outputs, even if a cell fails.

    Exit status: 0 all cells ran; 1 a cell failed, and the cells after it did not run; 2 no cell ran, because
    no base fits or the overlay could not be built (the message names the cause and the fix).
    """

    usage = "jupyter overlay run NOTEBOOK [--output FILE] [--with PACKAGE]… [-p NAME VALUE]… [OPTION…]"
    description = __doc__
    examples = """
    jupyter overlay run train.ipynb
    jupyter overlay run train.ipynb --output runs/today.ipynb
    jupyter overlay run train.ipynb --output train.ipynb      with its outputs, in place
    jupyter overlay run train.ipynb --kernel torch-cu126
    jupyter overlay run train.ipynb -p epochs 3 -p name trial --output runs/trial.ipynb
    jupyter overlay run train.ipynb --with rich
    """
    aliases: dict[Any, Any] = {
        **KernelApp.aliases,
        "output": "RunApp.output",
        "with": "RunApp.packages",
        "p": "RunApp.parameters",
    }
    packages = List(
        Unicode(), help="A package for this run only, which the notebook does not declare; can be repeated."
    ).tag(config=True, metavar="PACKAGE")
    parameters = List(
        Unicode(), help="Set a variable after the cell tagged parameters, as papermill does; can be repeated."
    ).tag(config=True, metavar="NAME VALUE")
    output = Unicode("", help="Write the notebook with its outputs to this file.").tag(
        config=True, metavar="FILE"
    )

    interrupted = "nothing unfinished is ever used"

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Read the options; ``-p NAME VALUE`` has two words, which traitlets does not know."""
        super().parse_command_line(_joined(sys.argv[1:] if argv is None else argv))

    def run(self) -> int | None:
        """Run the notebook; see the class."""
        (name,) = self.words(1, 1)
        target = _target(self.output)
        ahead = prospect(name, self.kernel, self.settings())

        from ..runs.execute import execute, load_notebook
        from ..runs.variation import declaring_more, inject, parameters_in

        values = parameters_in(self.parameters)

        with progress_on(Console(stderr=True, highlight=False, soft_wrap=True)) as progress:
            while True:
                for line in _introduction(ahead):
                    progress.note(line)
                nb = load_notebook(ahead.path)
                inject(nb, values)
                if self.packages:
                    progress.note(f"with {', '.join(self.packages)}, for this run only")
                    with declaring_more(nb, self.packages, allow_urls=self.settings().policy.urls):
                        outcome = execute(
                            nb, ahead.path, ahead.kernel.name, progress, self.config, passing=True
                        )
                else:
                    outcome = execute(nb, ahead.path, ahead.kernel.name, progress, self.config)
                if not outcome.refusal:
                    break
                before = ahead.outlook.base.manifest.id
                ahead = prospect(name, self.kernel, self.settings())
                if ahead.outlook.base.manifest.id == before:
                    raise outcome.refusal
                # The builder found another base that holds the extras: what a person would restart for.
            if target:
                _write(target, nb, ahead.path)
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


def _joined(argv: Sequence[str]) -> list[str]:
    """The words of the command line, those after ``-p`` as one: ``name=value``."""
    words, joined = list(argv), []
    while words:
        joined.append(word := words.pop(0))
        if word == "--":
            return joined + words
        if word == "-p" and len(words) > 1:
            joined.append(f"{words.pop(0)}={words.pop(0)}")
    return joined


def _target(output: str) -> Path | None:
    """Where to write, looked at before anything runs; raises OverlayError."""
    if not output:
        return None
    target = Path(output).absolute()
    try:
        target = Path(os.path.realpath(target))  # a link stays a link
        kind = target.stat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except (OSError, ValueError) as error:  # a name that is too long, or links in a circle
        raise OverlayError(
            f"{output!r} cannot be written", why=str(error), fix="name another file: --output FILE"
        ) from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        why = "that is a device or a pipe"
        raise OverlayError(f"{target} cannot be written", why=why, fix="name a file: --output FILE")
    if is_text(target):
        raise OverlayError(
            f"{target.name} cannot hold outputs",
            why="a text notebook has the code and the text of a notebook only",
            fix=f"--output {target.stem}.ipynb",
        )
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OverlayError(
            f"{target} cannot be written",
            why="that is a directory"
            if target.is_dir()
            else f"{target.parent} is no directory that you can write",
            fix="name a file in a directory of yours: --output FILE",
        )
    return target


def _write(target: Path, nb: Any, source: Path) -> None:
    """Write whole or not at all: it may be the notebook itself. Nobody may read it who can not read that."""
    import nbformat

    try:
        like = target if target.exists() else source
        text = nbformat.writes(nb) + "\n"  # type: ignore[no-untyped-call]
        replace_text(target, text, mode=like.stat().st_mode & 0o777)
    except OSError as error:
        raise OverlayError(f"{target} cannot be written", why=str(error), fix="name another file") from error


def _plain(text: str) -> str:
    """Without the escape sequences that colour a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
