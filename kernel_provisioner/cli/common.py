"""What all subcommands share: the application class, output for people and for machines, errors."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp
from jupyter_core.paths import ENV_JUPYTER_PATH, SYSTEM_JUPYTER_PATH, jupyter_data_dir
from rich.console import Console
from traitlets import Bool, Unicode

from .. import __version__
from ..errors import OverlayError, refuse_windows
from ..settings import Settings, TorchOverlay, load_settings

JSON_FLAG = {
    "json": ({"OverlayApp": {"json_output": True}}, "Print one JSON value to stdout and nothing else.")
}
PLACE_FLAGS = {
    "user": ({"PlacedApp": {"place": "user"}}, "Under the user's Jupyter data directory (the default)."),
    "sys-prefix": ({"PlacedApp": {"place": "sys-prefix"}}, "Under this Python environment, for its users."),
    "system": ({"PlacedApp": {"place": "system"}}, "System-wide, for every user; needs root."),
}
PLACE_ALIASES = {"prefix": "PlacedApp.prefix"}


class OverlayApp(JupyterApp):
    """One subcommand. ``run`` does the work; what it raises is told on stderr, exit status 2."""

    name = "jupyter-overlay"
    version = __version__
    classes = [TorchOverlay]
    aliases: dict[str, Any] = {"config": "JupyterApp.config_file"}
    flags: dict[str, Any] = dict(JSON_FLAG)
    json_output = Bool(False, help="Print one JSON value to stdout and nothing else.").tag(config=True)

    def start(self) -> None:
        """Run, and turn a failure into its message and an exit status."""
        super().start()
        self.exit(self._run())

    def _run(self) -> int:
        try:
            refuse_windows()
            return self.run() or 0
        except OverlayError as error:
            if self.json_output:
                print(json.dumps(error.as_dict(), indent=1))
            else:
                print(f"jupyter overlay: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("jupyter overlay: interrupted; nothing half-made was left behind", file=sys.stderr)
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    def run(self) -> int | None:
        """Do what the subcommand is for and return the exit status; None is success."""
        raise NotImplementedError

    def words(self, least: int, most: int | None, usage: str) -> list[str]:
        """The positional arguments; wrong in number, the usage is told and the exit status is 2."""
        words: list[str] = list(self.extra_args)
        if len(words) < least or (most is not None and len(words) > most):
            print(
                f"usage: {usage}\n       --help says more",
                file=sys.stderr,
            )
            self.exit(2)
        return words

    def settings(self) -> Settings:
        """The settings in force, this command line's own options included."""
        return load_settings(os.environ, self.config)

    def emit(self, data: Any, lines: Sequence[str]) -> None:
        """Print ``data`` as JSON where a machine asked, else ``lines`` for people."""
        if self.json_output:
            print(json.dumps(data, indent=1))
        else:
            for line in lines:
                print(line)

    @property
    def console(self) -> Console:
        """For progress and tables; on stderr where stdout is for a machine."""
        return Console(stderr=self.json_output, highlight=False, soft_wrap=True)


class PlacedApp(OverlayApp):
    """A subcommand that writes into one of Jupyter's data directories."""

    flags = {**JSON_FLAG, **PLACE_FLAGS}
    aliases = {**OverlayApp.aliases, **PLACE_ALIASES}
    place = Unicode("user", help="user, sys-prefix or system.").tag(config=True)
    prefix = Unicode("", help="Under PREFIX/share/jupyter instead.").tag(config=True)

    @property
    def jupyter_data(self) -> Path:
        """The Jupyter data directory that was named."""
        if self.prefix:
            return Path(self.prefix).absolute() / "share" / "jupyter"
        if self.place == "sys-prefix":
            return Path(ENV_JUPYTER_PATH[0])
        if self.place == "system":
            return Path(SYSTEM_JUPYTER_PATH[0])
        return Path(jupyter_data_dir())
