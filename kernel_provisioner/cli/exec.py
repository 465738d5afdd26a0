"""``jupyter overlay exec``: a command in a notebook's environment."""

from __future__ import annotations

from ..runs.enter import prepare_inside
from .common import KernelApp
from .progress import progress_on


class ExecApp(KernelApp):
    """Run a command in the environment of a notebook: a shell, a script, an editor, a language server.

    It sees what the notebook's kernel sees: the notebook's packages and the base's torch. The overlay is
    built first where it is not ready. The command runs in the current directory, and its exit status is the
    command's. Write -- before a command with options.
    """

    usage = "jupyter overlay exec NOTEBOOK [--kernel NAME] -- COMMAND…"
    description = __doc__
    examples = """
    jupyter overlay exec notes.ipynb -- python script.py --epochs 3
    jupyter overlay exec notes.ipynb -- python -m pip list
    jupyter overlay exec notes.ipynb bash
    """

    def run(self) -> int | None:
        notebook, *command = self.words(2, None)
        with progress_on(self.messages, passing=True) as progress:
            inside = prepare_inside(
                notebook, command, self.settings(), kernel=self.kernel, tell=progress.step
            )
        inside.become()  # after the progress has ended: it hides the cursor of a terminal
