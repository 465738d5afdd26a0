"""What all subcommands share: the application class, output for people and for machines, errors."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.application import JupyterApp
from jupyter_core.paths import ENV_JUPYTER_PATH, SYSTEM_JUPYTER_PATH, jupyter_data_dir
from traitlets import Bool, Unicode

from .. import __version__
from ..errors import InvalidRequest, OverlayError, clean, refuse_windows, without_credentials
from ..policy.traits import TorchPolicy
from ..settings import Settings, TorchOverlay, load_settings
from .cell import Cell, tell
from .help import PlainHelp

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs.open_in import Change, Made

JSON_FLAG = {"json": ({"OverlayApp": {"json_output": True}}, "Print JSON to stdout, and nothing else.")}
PLACE_FLAGS = {
    "user": (
        {"PlacedApp": {"place": "user"}},
        "Install into the user's Jupyter data directory (the default).",
    ),
    "sys-prefix": (
        {"PlacedApp": {"place": "sys-prefix"}},
        "Install into this Python environment, for its users.",
    ),
    "system": ({"PlacedApp": {"place": "system"}}, "Install system-wide, for all users; needs root."),
}
PLACE_ALIASES = {"prefix": "PlacedApp.prefix"}


class CommandGroup(PlainHelp, JupyterApp):
    """A command that only has subcommands. Called with none of them, it lists them; exit status 2."""

    version = __version__
    flags: dict[str, Any] = {}
    aliases: dict[str, Any] = {}

    def start(self) -> None:
        """Run the subcommand, or say which there are."""
        super().start()
        words: list[str] = list(self.extra_args)
        if not words:
            self.print_help()
            self.exit(2)
        close = difflib.get_close_matches(words[0], map(str, self.subcommands), 1)
        print(f"{self.command}: there is no command {clean(words[0])!r}", file=sys.stderr)
        names = f"did you mean {close[0]}?" if close else f"there are {', '.join(map(str, self.subcommands))}"
        print(f"  {names}", file=sys.stderr)
        self.exit(2)


class OverlayApp(PlainHelp, JupyterApp):
    """One subcommand. ``run`` does the work; what it raises is told on stderr, exit status 2."""

    name = "jupyter-overlay"
    version = __version__
    classes = [TorchOverlay, TorchPolicy]
    aliases: dict[str, Any] = {"config": "JupyterApp.config_file"}
    flags: dict[str, Any] = dict(JSON_FLAG)
    json_output = Bool(False, help="Print JSON to stdout, and nothing else.").tag(config=True)

    interrupted = "nothing unfinished was left behind"
    """What is said of the state of things after Ctrl-C."""

    _unreadable: BaseException | None = None

    def load_config_file(  # type: ignore[override] # as in jupyter_core
        self,
        suppress_errors: bool = True,  # noqa: FBT001, FBT002 - likewise
    ) -> None:
        """Load the configuration files; what is wrong with one is kept for ``settings`` to tell."""
        self.raise_config_file_errors = True
        stem = os.path.splitext(self.config_file)[0]  # noqa: PTH122 - as traitlets finds the file
        if self.config_file and not any(Path(stem + end).is_file() for end in (".py", ".json")):
            self._unreadable = OverlayError(  # Jupyter goes on without it; it may hold a policy
                f"there is no configuration file {clean(self.config_file)}",
                fix="name a .py or .json file after --config",
            )
        try:
            super().load_config_file(suppress_errors=suppress_errors)
        except (Exception, SystemExit) as error:  # they are Python, and may raise anything
            self._unreadable = error

    def _log_level_default(self) -> int:
        return logging.WARNING  # what goes well is told by the command itself

    def start(self) -> None:
        """Run, and turn a failure into its message and an exit status."""
        super().start()
        self.exit(self._run())

    def _run(self) -> int:
        # What ends a service, or a job that ran out of time, leaves things as clean as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            refuse_windows()
            _refuse_secrets(sys.argv)
            return self.run() or 0
        except OverlayError as error:
            return self._refuse(error)
        except KeyboardInterrupt:
            print(f"jupyter overlay: interrupted; {self.interrupted}", file=sys.stderr)
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            what = f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
            return self._refuse(
                OverlayError(what, fix="free space there and make it writable, then try again")
            )

    def _refuse(self, error: OverlayError) -> int:
        if Cell.listens:
            tell(**error.as_dict())
        elif self.json_output:
            print(json.dumps(error.as_dict(), indent=1))
        else:
            print(f"jupyter overlay: {error}", file=sys.stderr)
        return 2

    def run(self) -> int | None:
        """Do what the subcommand is for and return the exit status; None is success."""
        raise NotImplementedError

    def words(self, least: int, most: int | None, usage: str = "") -> list[str]:
        """The positional arguments; wrong in number, the usage is told and the exit status is 2."""
        words: list[str] = list(self.extra_args)
        if len(words) < least or (most is not None and len(words) > most):
            print(
                f"usage: {usage or self.usage}\n       --help shows all options",
                file=sys.stderr,
            )
            self.exit(2)
        return words

    def settings(self) -> Settings:
        """The settings in force, this command line's own options included."""
        try:
            settings = load_settings(os.environ, self.config)
            if self._unreadable:  # a file that was named by --config
                raise self._unreadable
        except OverlayError:
            raise
        except Exception as error:  # a value that no setting takes, too
            raise OverlayError(
                "a jupyter_overlay_config file cannot be used",
                why=f"{type(error).__name__}: {error}",
                fix="correct it; jupyter --paths  lists the directories that it can be in",
            ) from error
        return settings

    def emit(self, data: Any, lines: Sequence[str]) -> None:
        """Print ``data`` as JSON where a machine asked, else ``lines`` for people."""
        if self.json_output and isinstance(data, list):  # an entry a line: there may be thousands
            print("[" + ",\n ".join(map(json.dumps, data)) + "]")
        elif self.json_output:
            print(json.dumps(data, indent=1))
        else:
            for line in lines:
                print(clean(line))  # names of files and packages are somebody else's

    @property
    def console(self) -> Console:
        """For progress and tables; on stderr where stdout is for a machine."""
        from rich.console import Console  # most commands show neither, and need not wait for it

        return Console(stderr=self.json_output, highlight=False, markup=False, soft_wrap=True)

    def make(
        self,
        notebook: Path,
        change: Change,
        write: Callable[[], object],
        keep: Callable[[], object] | None = None,
    ) -> Made:
        """Change a notebook where it is open, else in its file; see ``runs.open_in``."""
        from ..runs.open_in import make
        from ..runs.servers import servers_of

        servers = list(servers_of(notebook))
        with self.working(f"Changing {notebook.name}") if servers else contextlib.nullcontext():
            return make(notebook, change, write, servers=servers, keep=keep, cell=Cell.listens)

    def working(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Show on a terminal, or in a cell, that ``what`` is being done, and nothing of it after."""
        from .progress import working_on

        return working_on(self.messages, what)

    @property
    def messages(self) -> Console:
        """For the progress of work whose outcome goes to stdout: on stderr."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def _refuse_secrets(argv: Sequence[str]) -> None:
    """Raise InvalidRequest for an address with a password: every user can read a command line."""
    for word in _ours(argv):
        if _SECRET.search(word) and "ssh://" not in word:
            raise InvalidRequest(
                f"{without_credentials(word)} was given with a password, which everybody on this machine "
                "can read now",
                why="command lines are no secret: ps shows them to every user",
                fix="change that password, and keep it in ~/.netrc, which pip and uv read; or keep the\n"
                "address of the PyTorch packages, with it, in the variable TORCH_OVERLAY_INDEX",
            )


_SECRET = re.compile(
    r"://[^/?#\s'\"]*:[^/?#\s'\"]+@"  # user:password@
    r"|https?://(?=[A-Za-z_-]*[0-9])[\w-]{20,}@",  # a token alone; a user's name is shorter
    re.ASCII,
)


def _ours(argv: Sequence[str]) -> Iterator[str]:
    """The words that mean something to us: no values of ``run -p``, no command that ``exec`` is to run."""
    words = iter(argv)
    command = "".join(argv[1:2])
    for word in words:
        if command == "exec" and word == "--":
            return
        if command == "run" and word == "-p":
            for _ in ("NAME", "VALUE"):
                next(words, None)
        else:
            yield word


class PlacedApp(OverlayApp):
    """A subcommand that writes into one of Jupyter's data directories."""

    flags = {**JSON_FLAG, **PLACE_FLAGS}
    aliases = {**OverlayApp.aliases, **PLACE_ALIASES}
    place = Unicode("user", help="user, sys-prefix or system.").tag(config=True)
    prefix = Unicode("", help="Install into PREFIX/share/jupyter.").tag(config=True)

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


class KernelApp(OverlayApp):
    """A subcommand for a notebook on one of its kernels."""

    aliases: dict[str, Any] = {**OverlayApp.aliases, "kernel": "KernelApp.kernel"}
    kernel = Unicode("", help="The shared torch kernel to use; default: the notebook's own, or torch.").tag(
        config=True, metavar="NAME"
    )
