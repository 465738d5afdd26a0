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

from .ahead import Ahead, Outcome
from .common import OverlayApp
from .kernels import kernel_for
from .trees import notebooks_under


class PrebuildApp(OverlayApp):
    """Build the overlays of notebooks ahead of time, so that a start needs no network and no wait.

    PATH is a notebook, or a directory in whose tree every notebook counts that is for a shared torch
    kernel or declares packages. No cell is run. Overlays lie where they always lie, so this is run
    by whoever will open the notebooks, and on a cluster before the job: a compute node without
    network then only launches. What one notebook's build fetches, the next one takes from uv's cache.

    Exit status: 0 all are ready; 1 some are not, and each is told with its cause and fix; 2 nothing
    was done.
    """

    usage = "jupyter overlay prebuild PATH… [--jobs N] [--kernel NAME] [--source-builds] [--json]"
    description = __doc__
    examples = """
    jupyter overlay prebuild course/
    jupyter overlay prebuild train.ipynb eval.ipynb --kernel torch-cu126
    jupyter overlay prebuild /srv/notebooks --jobs 8 --json
    """
    aliases = {**OverlayApp.aliases, "jobs": "PrebuildApp.jobs", "kernel": "PrebuildApp.kernel"}
    flags = {
        **OverlayApp.flags,
        "source-builds": (
            {"PrebuildApp": {"source_builds": True}},
            "Build packages that have no wheel; that runs their code.",
        ),
    }
    jobs = Int(0, min=0, help="Build so many at once; default: as many as there are processors.").tag(
        config=True, metavar="N"
    )
    kernel = Unicode("", help="For this kernel; default: each notebook's own, or else torch.").tag(
        config=True, metavar="NAME"
    )
    source_builds = Bool(False, help="Build packages that have no wheel; that runs their code.").tag(
        config=True
    )

    interrupted = "what is ready stays, and nothing half-made is ever used"

    def run(self) -> int | None:
        """Find them, build them, say what became of each; see the class."""
        notebooks = notebooks_under(self.words(1, None))
        if self.kernel:
            kernel_for({}, self.kernel)  # refuses once what would fail for each notebook
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        outcomes = self._build(notebooks, console)
        counts = Counter(outcome.state for outcome in outcomes)
        named = {"ready": "ready already", "built": "built", "skipped": "skipped", "failed": "failed"}
        said = ", ".join(f"{counts[state]} {words}" for state, words in named.items() if counts[state])
        count = f"{len(outcomes)} notebook{'s' * (len(outcomes) != 1)}"
        self.emit([outcome.as_dict() for outcome in outcomes], [f"{count}: {said}"])
        return 1 if counts["failed"] else 0

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
