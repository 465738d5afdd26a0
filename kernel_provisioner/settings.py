"""What an admin or a user may set, once, for every way a notebook is launched.

The values come from ``jupyter_overlay_config.py`` or ``.json`` in Jupyter's configuration
directories, the same files that the command ``jupyter overlay`` reads: ``jupyter execute`` and
papermill hand no configuration to provisioners, so the files are read here. A Jupyter server's
own configuration, where there is one, comes on top. Environment variables come last, for one
shell or one container. A notebook can set none of these.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, TraitError, Unicode
from traitlets.config import Config, Configurable

from .accelerators import DEFAULT_INDEX_TEMPLATE
from .errors import CorruptState

CONFIG_NAME = "jupyter_overlay_config"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings in force, as plain values that can be handed to another process."""

    overlay_root: str
    index_template: str
    preference: str
    pins: str
    source_builds: str
    offline: bool

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return dataclasses.asdict(self)


class TorchOverlay(Configurable):
    """Settings of shared torch notebooks, as ``c.TorchOverlay.<name>`` in a configuration file."""

    overlay_root = Unicode(
        "",
        help="""Where overlays live: private, best on the file system of uv's cache, so that
        packages are hard links. Default: torch-overlays in the user's cache directory.
        Environment: TORCH_OVERLAY_ROOT.""",
    ).tag(config=True)
    index_template = Unicode(
        DEFAULT_INDEX_TEMPLATE,
        help="""The index of the PyTorch packages, {tag} standing for cpu, cu124 and so on. Set it
        to a mirror of the same shape. Environment: TORCH_OVERLAY_INDEX.""",
    ).tag(config=True)
    preference = Unicode(
        "",
        help="""What auto and cuda mean on this machine: a tag such as cu126, or cpu. Empty: the
        newest build that the hardware runs. Environment: TORCH_OVERLAY_ACCELERATOR.""",
    ).tag(config=True)
    pins = Enum(
        ["stack", "all"],
        "stack",
        help="""Which base packages an overlay may never replace: "stack", torch's own stack and what
        ipykernel needs; "all", every one.""",
    ).tag(config=True)
    source_builds = Enum(
        ["after-first-cell", "never"],
        "after-first-cell",
        help="""When extras without a wheel are built from source, which runs their code: once the
        user has run a cell, or never.""",
    ).tag(config=True)
    offline = Bool(
        False,
        help="Use only uv's cache, never the network. Environment: UV_OFFLINE.",
    ).tag(config=True)

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """The values in force, with those of ``environ`` on top."""
        return Settings(
            overlay_root=environ.get("TORCH_OVERLAY_ROOT") or self.overlay_root or _default_root(),
            index_template=environ.get("TORCH_OVERLAY_INDEX") or self.index_template,
            preference=environ.get("TORCH_OVERLAY_ACCELERATOR") or self.preference,
            pins=self.pins,
            source_builds=self.source_builds,
            offline=self.offline or environ.get("UV_OFFLINE", "").lower() in ("1", "true"),
        )


def load_settings(environ: Mapping[str, str] = os.environ, config: Config | None = None) -> Settings:
    """The settings in force here: files, then ``config`` (a server's own), then ``environ``.

    Raises CorruptState where a file cannot be read or holds a value that does not exist: going on
    without it could mean to go on without a policy.
    """
    try:
        merged = _files_config()
        if config is not None:
            merged.merge(config)
        return TorchOverlay(config=merged).settings(environ)
    except TraitError as error:
        raise CorruptState(
            f"a setting of TorchOverlay cannot be used: {error}",
            fix=f"correct it in {CONFIG_NAME}.py or .json; jupyter --paths  lists where these lie",
        ) from error


_loaded: tuple[tuple[tuple[str, int], ...], Config] | None = None


def _files_config() -> Config:
    """The configuration files' content, read again only when one of them changed."""
    global _loaded  # noqa: PLW0603 - one cache for the process, keyed by the files' own times
    found = []
    for directory in reversed(_config_path()):  # the last one read wins: the user's own
        for suffix in (".json", ".py"):
            path = directory / (CONFIG_NAME + suffix)
            try:
                found.append((str(path), path.stat().st_mtime_ns))
            except OSError:
                continue
    key = tuple(found)
    if _loaded is None or _loaded[0] != key:
        _loaded = (key, _read_config([Path(name) for name, _ in found]))
    return copy.deepcopy(_loaded[1])  # what is merged into it must not stay


def _read_config(paths: list[Path]) -> Config:
    from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

    merged = Config()
    for path in paths:
        loader = PyFileConfigLoader if path.suffix == ".py" else JSONFileConfigLoader
        try:
            merged.merge(loader(path.name, str(path.parent)).load_config())
        except Exception as error:  # a Python file can fail in any way
            why = f"{type(error).__name__}: {error}"
            raise CorruptState(
                f"{path} cannot be read", why=why, fix="correct or remove that file"
            ) from error
    return merged


def _config_path() -> list[Path]:
    from jupyter_core.paths import jupyter_config_path

    return [Path(entry) for entry in jupyter_config_path()]


def _default_root() -> str:
    from platformdirs import user_cache_dir  # a dependency of jupyter_core

    return user_cache_dir("torch-overlays", appauthor=False)
