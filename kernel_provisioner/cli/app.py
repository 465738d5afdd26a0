"""``jupyter overlay``: the way in."""

from __future__ import annotations

from jupyter_core.application import JupyterApp

from .. import __version__
from .base import BaseApp


class OverlayCommand(JupyterApp):
    """Notebooks on one shared torch, each with its own light overlay of extras."""

    name = "jupyter-overlay"
    version = __version__
    description = __doc__
    examples = """
    jupyter overlay base create cpu
    """
    subcommands = {
        "base": (BaseApp, "Manage the shared torch environments."),
    }

    def start(self) -> None:
        """Run the subcommand, or say which there are."""
        super().start()
        self.print_help()
        self.exit(2)


main = OverlayCommand.launch_instance

if __name__ == "__main__":
    main()
