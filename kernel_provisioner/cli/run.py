"""``jupyter overlay run``: a notebook from start to end, without a browser."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from traitlets import List, Unicode

from ..errors import InvalidRequest
from ..overlay.sources import sources_of
from ..runs.kernels import Prospect, prospect
from ..runs.output import Output, Written
from .common import KernelApp
from .progress import progress_on


class RunApp(KernelApp):
    """Run all cells of a notebook, in the notebook's own overlay on a shared torch.

    The overlay is created if needed; JupyterLab uses the same one. Cells run in the notebook's directory. The
    notebook file is not changed; --output writes a copy with the outputs, even if a cell fails. If another
    program changes that file while the cells run, as JupyterLab does when it saves, the file is kept, and the
    copy goes to a new file beside it.

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
        target = Output.at(self.output) if self.output else None
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
                    _refuse_own_sources(ahead)
                    progress.note(f"with {', '.join(self.packages)}, for this run only")
                    urls = self.settings().policy.urls
                    with declaring_more(nb, ahead.outlook.declared, self.packages, allow_urls=urls):
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
            written: Written | None = None
            if target:
                written = target.write(nb, ahead.path)
                progress.note(written.notice or f"wrote {written.path}")
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
            "output": str(written.path) if written else None,
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


def _refuse_own_sources(ahead: Prospect) -> None:
    """Raise InvalidRequest where packages come from this machine: an index may have others of their names."""
    own = sources_of(ahead.outlook.directory, ahead.outlook.request.extras)
    if own:
        raise InvalidRequest(
            f"this run cannot have other packages: {'; '.join(source.told for source in own)}",
            field="--with",
            why="an overlay for one run takes packages from indexes alone",
            fix=f"jupyter overlay add {ahead.path.name} PACKAGE  adds what --with names",
        )


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


def _plain(text: str) -> str:
    """Without the escape sequences that colour a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
