"""``jupyter overlay demo``: all of it on a real notebook, with what it took."""

from __future__ import annotations

import importlib.resources
import importlib.util
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from rich.console import Console
from rich.text import Text

from ..base.registry import RegisteredBase, read_register
from ..collector import forget
from ..errors import CorruptState
from ..inkernel.shared import layout
from ..inkernel.shared.disk import human, usage
from ..inkernel.shared.links import linked_bytes
from ..overlay import store
from ..runs.bases import create
from ..runs.execute import Outcome, execute, load_notebook
from ..runs.kernels import Prospect, prospect
from .common import OverlayApp
from .progress import progress_on

_INDENT = "   "


class DemoApp(OverlayApp):
    """Run a small notebook with two packages of its own on a shared torch, and print how long it took.

    If there is no CPU base yet, one is created first in your Jupyter data directory; this downloads
    torch, a few hundred MB. The notebook runs twice in a temporary directory: the first time its packages
    are installed while its kernel starts, the second time they are already there. The base stays;
    everything else is removed.
    """

    usage = "jupyter overlay demo [--json]"
    description = __doc__
    examples = "jupyter overlay demo"

    def run(self) -> int | None:
        """Show; see the class."""
        self.words(0, 0)
        self._heading("1  One torch for all notebooks")
        base, made = self._base()
        manifest = base.manifest
        self._row("base", f"{manifest.id}, " + (f"made in {made:.0f} s" if made else "which exists already"))
        self._row("holds", f"torch {manifest.torch} for Python {manifest.python}, {human(manifest.bytes)}")
        with tempfile.TemporaryDirectory(prefix="torch-overlay-demo-") as folder:
            path = Path(folder).resolve() / "demo.ipynb"
            shipped = importlib.resources.files("kernel_provisioner") / "demo" / "demo.ipynb"
            path.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
            try:
                return self._play(path, base, made)
            finally:
                root = Path(self.settings().overlay_root)
                forget(root, store.Store(root).notebook_dir(path))

    def _play(self, path: Path, base: RegisteredBase, made: float) -> int:
        """Run the notebook twice, and tell."""
        self._heading("2  A notebook with packages of its own, for the first time")
        ahead, first, nb = self._once(path)
        if first.cell:
            self._say(first.traceback)
            return 1
        ready = prospect(path, "", self.settings())
        state = _state(ready)
        installed = [f"{entry['name']} {entry['version']}" for entry in state.get("installed", ())]
        self._row("declares", ", ".join(ahead.outlook.request.extras))
        self._row("runs on", ahead.outlook.base.manifest.id)
        self._row("because", ahead.outlook.chosen.reason)
        self._row(
            "installed",
            f"{', '.join(installed)} in {state.get('seconds', 0):.1f} s, while the kernel started",
        )
        self._row("torch", "not installed again: lion-pytorch asks for it, and found the base's")
        self._row("timing", _timing(first))
        self._row("it printed", "")
        for line in _printed(nb).splitlines():
            self._say(f"{_INDENT}  | {line}")

        self._heading("3  The same notebook again")
        _, second, _ = self._once(path)
        self._row("overlay", "ready: nothing to install, no package index asked")
        self._row("timing", _timing(second))

        used = usage([ready.outlook.generation.path] if ready.outlook.generation else [])
        shared = base.manifest.bytes
        self._heading("On disk")
        self._row("its own", f"{human(used.own_bytes)} in {used.own_files} files")
        if generation := ready.outlook.generation:
            linked = human(used.linked_bytes + linked_bytes(generation.path))
            self._row("linked", f"{linked} of links to the wheel store, where each package is once")
        self._row("shared", f"{human(shared)} in the base, once for all notebooks")
        self._heading("Next")
        for command, text in _next_steps():
            self._say(f"{_INDENT}{command:42}  # {text}")
        if self.json_output:
            data = {
                "base": base.manifest.identity,
                "base_made_in": round(made, 1),
                "reason": ahead.outlook.chosen.reason,
                "extras": list(ahead.outlook.request.extras),
                "installed": installed,
                "installed_in": state.get("seconds", 0),
                "runs": [
                    {"first_cell": round(run.first_cell, 3), "seconds": round(run.seconds, 3)}
                    for run in (first, second)
                ],
                "disk": {
                    "own_bytes": used.own_bytes,
                    "own_files": used.own_files,
                    "linked_bytes": used.linked_bytes,
                    "shared_bytes": shared,
                },
                "printed": _printed(nb),
            }
            self.emit(data, [])
        return 1 if second.cell else 0

    def _base(self) -> tuple[RegisteredBase, float]:
        """A base for the CPU, and the seconds that making it took, 0 where there was one."""
        register = read_register()
        found = [base for base in register.bases if base.manifest.tag == "cpu"]
        if found:
            preferred = [base for base in found if register.aliases.get("cpu") == base.manifest.id]
            return (preferred or found)[0], 0.0
        settings = self.settings()
        started = time.monotonic()
        self._say(f"{_INDENT}there is no CPU base yet: creating one takes a few minutes")
        with progress_on(self._progress, indent=_INDENT) as progress:
            created = create("cpu", settings, progress=progress.step)
        return created.base, time.monotonic() - started

    def _once(self, path: Path) -> tuple[Prospect, Outcome, NotebookNode]:
        """Run the notebook as ``jupyter overlay run`` does."""
        ahead = prospect(path, "", self.settings())
        nb = load_notebook(path)
        with progress_on(self._progress, passing=True) as progress:
            outcome = execute(nb, path, ahead.kernel.name, progress, self.config)
        if outcome.refusal:
            raise outcome.refusal
        return ahead, outcome, nb

    @property
    def _progress(self) -> Console:
        return Console(stderr=True, highlight=False, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def _row(self, label: str, text: str) -> None:
        self.console.print(Text.assemble(_INDENT, (f"{label:10}", "cyan"), f" {text}"))

    def _say(self, text: str) -> None:
        self.console.print(Text(text))


def _state(ahead: Prospect) -> dict[str, Any]:
    """What the overlay's record says was installed."""
    try:
        return ahead.outlook.generation.read(layout.OVERLAY) if ahead.outlook.generation else {}
    except CorruptState:
        return {}


def _timing(outcome: Outcome) -> str:
    return (
        f"first cell done {outcome.first_cell:.1f} s after the start of the kernel, import torch included; "
        f"all cells after {outcome.seconds:.1f} s"
    )


def _printed(nb: NotebookNode) -> str:
    """What the cells printed."""
    return "".join(
        output.text
        for cell in nb.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


def _next_steps() -> list[tuple[str, str]]:
    """Commands that work as they are printed, where this installation is not on PATH too."""
    ours = Path(sys.prefix) / "bin"
    typed = Path(shutil.which("jupyter") or "/").parent
    jupyter = "jupyter" if typed.resolve() == ours.resolve() else f"{ours}/jupyter"
    lab = f"{jupyter} lab notes.ipynb"
    if not importlib.util.find_spec("jupyterlab"):
        lab = f"{ours}/python -m pip install jupyterlab && {lab}"
    return [
        (f"{jupyter} overlay init notes einops", "a notebook of your own, with a package"),
        (lab, "open it"),
        (f"{jupyter} overlay base create cu126", "a base for a GPU (any tag of PyTorch)"),
        (f"{jupyter} overlay doctor", "check this machine"),
    ]
