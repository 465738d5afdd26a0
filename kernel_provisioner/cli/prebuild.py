"""``jupyter overlay prebuild``: the overlays of many notebooks, before anybody opens one."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from traitlets import Bool, Int, Unicode

from ..collector.wheels import wheels_in
from ..inkernel.shared.disk import human
from ..runs.fill_store import Filled, StoreFiller, sources_in
from ..runs.kernels import kernel_for
from ..runs.prebuild import Ahead, Outcome
from ..runs.trees import notebooks_under
from .common import OverlayApp


class PrebuildApp(OverlayApp):
    """Build the overlays of notebooks ahead of time, so that they start without network and without waiting.

    PATH is a notebook or a directory. In a directory, every notebook counts that uses a shared torch
    kernel or declares packages. No cell is run. Run this as the user who will open the notebooks. On a
    cluster, run it before the job: a compute node without network can then start the kernels.

    With --store, no overlay is built. The packages are put into a wheel store that all users of a machine
    can share: their overlays are linked to it, and fetch nothing that it has. PATH can be a requirements
    file (.txt) then, too. In share/jupyter/torch-store of the installation, DIR is found without a setting;
    the setting shared_stores names other places.

    Exit status: 0 all are ready; 1 some are not (each is listed with cause and fix); 2 nothing was done.
    """

    usage = "jupyter overlay prebuild PATH… [--store DIR] [--kernel NAME] [--jobs N] [--json]"
    description = __doc__
    examples = """
    jupyter overlay prebuild course/
    jupyter overlay prebuild train.ipynb eval.ipynb --kernel torch-cu126
    jupyter overlay prebuild /srv/notebooks --jobs 8 --json
    jupyter overlay prebuild --store /opt/jupyterhub/share/jupyter/torch-store requirements.txt
    """
    aliases = {
        **OverlayApp.aliases,
        "jobs": "PrebuildApp.jobs",
        "kernel": "PrebuildApp.kernel",
        "store": "PrebuildApp.store",
    }
    flags = {
        **OverlayApp.flags,
        "source-builds": (
            {"PrebuildApp": {"source_builds": True}},
            "Build packages that have no wheel; that runs their code.",
        ),
    }
    jobs = Int(0, min=0, help="Build this many at once; default: the number of processors.").tag(
        config=True, metavar="N"
    )
    kernel = Unicode("", help="Build for this kernel; default: each notebook's own, or torch.").tag(
        config=True, metavar="NAME"
    )
    source_builds = Bool(False, help="Build packages that have no wheel. This runs their code.").tag(
        config=True
    )

    store = Unicode("", help="Fill this wheel store for all users, instead of building overlays.").tag(
        config=True, metavar="DIR"
    )

    interrupted = "what is ready stays, and nothing unfinished is ever used"

    def run(self) -> int | None:
        """Find them, build them, say what became of each; see the class."""
        words = self.words(1, None)
        if self.kernel:
            kernel_for("", self.kernel)  # refuses once what would fail for each notebook
        if self.store:
            return self._fill_store(sources_in(words))
        notebooks = notebooks_under(words)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        outcomes = self._build(notebooks, console)
        counts = Counter(outcome.state for outcome in outcomes)
        named = {"ready": "ready already", "built": "built", "skipped": "skipped", "failed": "failed"}
        said = ", ".join(f"{counts[state]} {words}" for state, words in named.items() if counts[state])
        count = f"{len(outcomes)} notebook{'s' * (len(outcomes) != 1)}"
        self.emit([outcome.as_dict() for outcome in outcomes], [f"{count}: {said}"])
        return 1 if counts["failed"] else 0

    def _fill_store(self, paths: Sequence[Path]) -> int:
        """Fill a shared store, and say what became of each; the exit status."""
        place = Path(self.store).absolute()
        filler = StoreFiller(place, self.settings(), self.kernel, source_builds=self.source_builds)
        outcomes = []
        for path in paths:
            with self.working(f"Filling {place} with the packages of {path.name}"):
                outcomes.append(outcome := filler.fill(path))
            self.messages.print(f"{path.name}: {_filled(outcome)}")
        there = list(wheels_in(place))
        size = human(sum(wheel.bytes for wheel in there))
        count = f"{len(there)} package{'s' * (len(there) != 1)}"
        lines = [f"{count} in {place}, {size}"]
        if spare := len(filler.unneeded):
            lines.append(
                f"{spare} of them needed no more: jupyter overlay prune --store {place}  removes them"
            )
        self.emit([outcome.as_dict() for outcome in outcomes], [*lines, *filler.notices])
        return 1 if any(outcome.error for outcome in outcomes) else 0

    def _build(self, notebooks: Sequence[Path], console: Console) -> list[Outcome]:
        """The outcome for each notebook, in their order; a line is told as each one ends."""
        ahead = Ahead(self.settings(), self.kernel, source_builds=self.source_builds)
        common = Path(os.path.commonpath([path.parent for path in notebooks]))
        outcomes: dict[Path, Outcome] = {}
        with (
            _bars(console, len(notebooks)) as bars,
            _workers(self.jobs or os.cpu_count() or 1, ahead) as pool,
        ):
            waiting = [
                pool.submit(ahead.build, path, functools.partial(bars.tell, str(path.relative_to(common))))
                for path in notebooks
            ]
            for done in as_completed(waiting):
                outcome = done.result()
                outcomes[outcome.notebook] = outcome
                bars.end(str(outcome.notebook.relative_to(common)), _told(outcome))
        return [outcomes[path] for path in notebooks]


def _filled(outcome: Filled) -> str:
    if outcome.error or outcome.why:
        return f"failed: {outcome.error}" if outcome.error else f"skipped: {outcome.why}"
    count = f"{outcome.packages} package{'s' * (outcome.packages != 1)}"
    return f"{count} for {outcome.base}, {outcome.new} of them new, in {outcome.seconds:.1f} s"


def _told(outcome: Outcome) -> str:
    extras = ", ".join(outcome.extras) or "no extras"
    words = {
        "ready": f"ready already on {outcome.base}",
        "built": f"{extras} on {outcome.base} in {outcome.seconds:.1f} s",
        "skipped": f"skipped: {outcome.why}",
    }
    return "\n  ".join([words.get(outcome.state, f"failed: {outcome.error}"), *outcome.notices])


@contextlib.contextmanager
def _workers(count: int, ahead: Ahead) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for builders; interrupted, these end and nothing more is started."""
    with ThreadPoolExecutor(count) as pool:
        try:
            yield pool
        except BaseException:
            ahead.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Bars:
    """One bar for all, and what each build is at; without a terminal, a line for each that ended."""

    def __init__(self, console: Console, total: int) -> None:
        self.progress = Progress(
            BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self.progress.add_task("", total=total)
        self._console = console

    def tell(self, name: str, step: str) -> None:
        self.progress.update(self._task, description=escape(f"{name}: {step}"))

    def end(self, name: str, outcome: str) -> None:
        self._console.print(f"{name}: {outcome}", markup=False)
        self.progress.advance(self._task)


@contextlib.contextmanager
def _bars(console: Console, total: int) -> Iterator[_Bars]:
    bars = _Bars(console, total)
    with bars.progress:
        yield bars
