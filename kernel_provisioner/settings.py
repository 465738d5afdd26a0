"""What an admin or a user may set, once, for every way a notebook is launched.

The values come from ``jupyter_overlay_config.py`` or ``.json`` in Jupyter's configuration
directories, the same files that the command ``jupyter overlay`` reads: ``jupyter execute`` and
papermill hand no configuration to provisioners, so the files are read here. A Jupyter server's
own configuration, where there is one, comes on top. Environment variables come last, for one
shell or one container. A notebook can set none of these.

Settings (``TorchOverlay``) of a more personal file take the place of a more official one's. Rules
(``TorchPolicy``) do not: all of them hold. Those of the system's directories and of this Python
environment's are read whatever the environment variables say.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from traitlets import List, TraitError, Unicode
from traitlets.config import Config, Configurable

from .errors import CorruptState, without_credentials
from .inkernel.shared.environment import INDEX_VARIABLE
from .model.accelerators import DEFAULT_INDEX_TEMPLATE
from .policy import OPEN, Layer, Policy
from .policy.traits import layer_of, refuse_unknown
from .system.jupyter_paths import config_path, data_path

CONFIG_NAME = "jupyter_overlay_config"
SHARED_STORE = "torch-store"
"""The name of a shared wheel store in a Jupyter data directory, where it is found without a setting."""

_SERVERS = "the configuration of this server or command"
# Jupyter's own for the whole system, which JUPYTER_PLATFORM_DIRS and XDG_CONFIG_DIRS would lead elsewhere.
_OF_THE_SYSTEM = ("/etc/jupyter", "/usr/local/etc/jupyter")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings in force, as plain values that can be handed to another process."""

    overlay_root: str
    index_template: str
    preference: str
    policy: Policy = OPEN
    shared_stores: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values, for files too: credentials are left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        address = without_credentials(self.index_template)
        return {**values, "index_template": address, "policy": self.policy.as_list()}


class TorchOverlay(Configurable):
    """Settings of shared torch notebooks, as ``c.TorchOverlay.<name>`` in a configuration file."""

    overlay_root = Unicode(
        "",
        help="""The directory for overlays: a whole path, or one that starts with ~. It must be private to
        the user. Each package lies there once, in the wheel store that overlays are linked to. Default:
        torch-overlays in the user's cache directory. Environment: TORCH_OVERLAY_ROOT.""",
    ).tag(config=True)
    index_template = Unicode(
        DEFAULT_INDEX_TEMPLATE,
        help="""The index of the PyTorch packages. {tag} stands for cpu, cu124 and so on. Set it to
        use a mirror with the same layout. Environment: TORCH_OVERLAY_INDEX.""",
    ).tag(config=True)
    preference = Unicode(
        "",
        help="""The build that auto and cuda select on this machine: a tag such as cu126, or cpu.
        Empty: the newest build that the hardware can run. Environment: TORCH_OVERLAY_ACCELERATOR.""",
    ).tag(config=True)
    shared_stores = List(
        Unicode(),
        None,
        allow_none=True,
        help="""Wheel stores that jupyter overlay prebuild --store has filled, the first to count first.
        Overlays are linked to what these have, and nothing is fetched for it. One counts only if nobody but
        root, the user and the owner of this installation can change it. Default: torch-store in each of
        Jupyter's data directories, such as share/jupyter/torch-store in this Python environment.
        Environment: TORCH_OVERLAY_STORES, with : between two of them.""",
    ).tag(config=True)

    def settings(self, environ: Mapping[str, str], policy: Policy = OPEN) -> Settings:
        """The values in force, with those of ``environ`` on top, within what ``policy`` allows.

        Raises ValueError where the policy leaves no index, or where no overlay can live in the root.
        """
        if environ.get("UV_OFFLINE", "").lower() in ("1", "true"):
            policy = policy.joined(Policy((Layer("the environment (UV_OFFLINE)", {"offline": True}),)))
        return Settings(
            overlay_root=_root(environ.get("TORCH_OVERLAY_ROOT", ""), self.overlay_root),
            index_template=policy.template(environ.get(INDEX_VARIABLE) or self.index_template),
            preference=environ.get("TORCH_OVERLAY_ACCELERATOR") or self.preference,
            policy=policy,
            shared_stores=_stores(environ.get("TORCH_OVERLAY_STORES", ""), self.shared_stores),
        )


def load_settings(
    environ: Mapping[str, str] = os.environ, config: Config | None = None, *, files: Files | None = None
) -> Settings:
    """The settings in force here: files, then ``config`` (a server's own), then ``environ``.

    ``files`` is what they said a moment ago, where that is known. Raises CorruptState where a file
    cannot be read or holds a value or a name that does not exist: going on without it could mean to
    go on without a policy.
    """
    files = files or read_files()
    merged = copy.deepcopy(files.merged)  # what is merged into it must not stay
    try:
        policy = files.policy
        if config is not None:
            refuse_unknown(dict.get(config, "TorchOverlay") or Config(), TorchOverlay)
            policy = policy.joined(_rest(layer_of(config, _SERVERS), policy))
            merged.merge(config)
        return TorchOverlay(config=merged).settings(environ, policy)
    except (TraitError, ValueError) as error:
        raise CorruptState(
            f"a setting of TorchOverlay or TorchPolicy cannot be used: {error}",
            fix=f"correct it in the environment, or in {CONFIG_NAME}.py or .json;"
            " jupyter --paths  lists these directories",
        ) from error


def load_policy(environ: Mapping[str, str] = os.environ) -> Policy:
    """The policy alone, as the files have it now; raises CorruptState."""
    return load_settings(environ).policy


@dataclasses.dataclass(frozen=True)
class Files:
    """What the configuration files say: settings merged, the user's own last, and the rules apart."""

    merged: Config
    policy: Policy

    def section(self, name: str) -> Config:
        """What they say of another class of ours, as ``c.<name>``."""
        return copy.deepcopy(dict.get(self.merged, name) or Config())


_Key = tuple[tuple[str, int, int, int], ...]
_loaded: tuple[_Key, Files] | None = None


def read_files() -> Files:
    """What the configuration files say now; read again only when one of them changed.

    Raises CorruptState.
    """
    global _loaded  # noqa: PLW0603 - one cache for the process, keyed by the files' own times
    found: list[tuple[str, int, int, int]] = []
    official = _official_path()
    personal = config_path()
    for directory in dict.fromkeys([*official, *reversed(personal)]):
        for suffix in (".json", ".py"):
            path = f"{directory}/{CONFIG_NAME}{suffix}"
            if info := _looked_at(path, official=directory in official):
                found.append((path, info.st_mtime_ns, info.st_size, info.st_ino))
    key = tuple(found)
    if _loaded is None or _loaded[0] != key:
        _loaded = (key, _read([Path(name) for name, *_ in found], list(reversed(personal))))
    return _loaded[1]


def _looked_at(name: str, *, official: bool) -> os.stat_result | None:
    """What the disk says of a file; None where there is none. Raises CorruptState where it cannot say."""
    try:
        info = os.stat(name)  # noqa: PTH116 - a dozen at each launch, of which hardly one is there
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        path = Path(name)
        raise CorruptState(
            f"cannot check whether {path} exists",
            why=f"{error.strerror or error}; it may hold this system's policy",
            fix=f"make it readable for all who run notebooks: {path.parent}",
        ) from error
    path = Path(name)
    for place, mode in ((path, info.st_mode), (path.parent, path.parent.stat().st_mode)) if official else ():
        if mode & stat.S_IWOTH:
            raise CorruptState(
                f"{place} can be changed by any user",
                why=(
                    "whoever changes it changes the policy, and its Python code runs as the user"
                    " who starts Jupyter"
                ),
                fix=f"chmod o-w {place}",
            )
    return info


def _read(paths: Sequence[Path], directories: Sequence[Path]) -> Files:
    """Read the files, the most official first; settings count in the order of ``directories``."""
    merged, layers, contents = Config(), [], {}
    for path in paths:
        content = contents[path] = _content(path)
        try:
            _refuse_lookalikes(content)
            refuse_unknown(dict.get(content, "TorchOverlay") or Config(), TorchOverlay)
            layer = layer_of(content, str(path))
        except TraitError as error:
            raise CorruptState(f"{path} cannot be used", why=str(error), fix="correct that file") from error
        if layer:
            layers.append(layer)
    for directory in directories:
        for path in paths:
            if path.parent == directory:
                merged.merge(contents[path])
    return Files(merged, Policy(tuple(layers)))


def _content(path: Path) -> Config:
    from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

    loader = PyFileConfigLoader if path.suffix == ".py" else JSONFileConfigLoader
    try:
        content: Config = loader(path.name, str(path.parent)).load_config()
    except (Exception, SystemExit) as error:  # a Python file can fail in any way, or end who reads it
        why = f"{type(error).__name__}: {error}"
        raise CorruptState(f"{path} cannot be read", why=why, fix="correct or remove that file") from error
    return content


def _rest(layer: Layer | None, known: Policy) -> Policy:
    """What ``layer`` says that no file does: a command's configuration holds the files' rules once more."""
    if layer is None:
        return OPEN
    said = [dict(other.rules) for other in known.layers]
    rules = {name: value for name, value in layer.rules.items()
             if not any(name in other and other[name] == value for other in said)}  # fmt: skip
    return Policy((Layer(layer.source, rules),)) if rules else OPEN


def _refuse_lookalikes(config: Config) -> None:
    """Raise TraitError for a section that is no section, or is called nearly like one of ours."""
    known = {name.lower(): name for name in ("TorchPolicy", "TorchOverlay", "TorchOverlayProvisioner")}
    for section in set(config).intersection(known.values()):
        if not isinstance(dict.get(config, section), Config):
            raise TraitError(f"c.{section} is a value; it has to be an object, with its settings by name")
    for section in set(config) - set(known.values()):
        name = str(section).lower()
        close = difflib.get_close_matches(name, known, 1, cutoff=0.0 if name.startswith("torch") else 0.75)
        if close:
            raise TraitError(f"c.{section} is nothing; did you mean c.{known[close[0]]}?")


@functools.cache
def _official_path() -> tuple[Path, ...]:
    """Directories that count for the policy whatever a user's environment variables say."""
    from jupyter_core.paths import ENV_CONFIG_PATH, SYSTEM_CONFIG_PATH

    places = (*_OF_THE_SYSTEM, *reversed(SYSTEM_CONFIG_PATH), *ENV_CONFIG_PATH)
    return tuple(Path(entry) for entry in dict.fromkeys(places))


def _stores(of_environment: str, of_files: Sequence[str] | None) -> tuple[str, ...]:
    """The shared wheel stores, as whole paths; raises ValueError."""
    if not of_environment and of_files is None:
        found = (f"{directory}/{SHARED_STORE}" for directory in data_path())
        return tuple(path for path in found if os.path.isdir(path))  # noqa: PTH112 - at each launch
    name = "TORCH_OVERLAY_STORES" if of_environment else "TorchOverlay.shared_stores"
    named = of_environment.split(os.pathsep) if of_environment else of_files or ()
    stores = tuple(os.path.expanduser(path) for path in named if path)  # noqa: PTH111 - as _root
    for path in stores:
        if not os.path.isabs(path):  # noqa: PTH117 - text
            raise ValueError(f"{name} names {path!r}, which each process would look for somewhere else")
    return stores


def _root(of_environment: str, of_files: str) -> str:
    """The directory of overlays, as a whole path; raises ValueError."""
    name = "TORCH_OVERLAY_ROOT" if of_environment else "TorchOverlay.overlay_root"
    root = os.path.expanduser(of_environment or of_files)  # noqa: PTH111 - which raises for "~nobody"
    if not root:
        from platformdirs import user_cache_dir  # a dependency of jupyter_core

        name, root = "the user's cache directory", user_cache_dir("torch-overlays", appauthor=False)
    if not os.path.isabs(root):  # noqa: PTH117 - text
        raise ValueError(f"{name} is {root!r}, which each process would look for in another directory")
    if os.pathsep in root:  # venv refuses it, too
        raise ValueError(f"{name} is {root!r}, and PATH takes no directory with {os.pathsep!r} in its name")
    return root
