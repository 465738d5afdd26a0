"""A notebook's environment for other tools: requirements, a PEP 751 lock, a PEP 723 script, a Dockerfile."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from ..builder.lock import located
from ..errors import without_credentials
from ..model.accelerators import ECOSYSTEM, index_url
from ..model.lock import Lock
from ..model.manifest import BaseManifest
from ..notebook.script import block_of
from ..overlay import store
from ..overlay.sources import sources_of
from ..settings import Settings
from .export_cells import scripted
from .kernels import Prospect, prospect
from .locking import LockSubject


class Exported(NamedTuple):
    """The text that was made, and what to tell of it."""

    text: str
    base: str
    notices: tuple[str, ...] = ()


class _Subject(NamedTuple):
    """What is exported: the notebook, the base that it runs on, and all versions with their hashes."""

    ahead: Prospect
    lock: Lock
    settings: Settings
    notices: list[str]
    """What a form tells of its text is added here."""

    @property
    def base(self) -> BaseManifest:
        """The base of the notebook."""
        return self.ahead.outlook.base.manifest

    @property
    def hashed(self) -> list[str]:
        """Requirements with the hashes of all their files, of the packages that have some."""
        return [
            " \\\n".join(
                [f"{package.name}=={package.version}", *(f"    --hash=sha256:{h}" for _, h in package.files)]
            )
            for package in self.lock.packages
            if package.name not in ECOSYSTEM
        ]

    @property
    def stack(self) -> list[str]:
        """Packages of PyTorch's index, of which each accelerator has its own build."""
        return [f"{one.name}=={one.version}" for one in self.lock.packages if one.name in ECOSYSTEM]


def export(notebook: str, form: str, settings: Settings, *, kernel: str) -> Exported:
    """The environment of a notebook in a form of FORMS; raises OverlayError.

    The versions are those of the notebook's lock, or of the one that ``jupyter overlay lock`` would write.
    """
    ahead = prospect(notebook, kernel, settings)
    subject = LockSubject.read(ahead.path, allow_urls=settings.policy.urls)
    notices: list[str] = []
    if subject.old is None or subject.fault:
        lock, _, notices = subject.lock(settings, kernel=kernel, upgrade=False, exclude_newer="")
    else:
        lock = subject.old
    what = _Subject(ahead, lock, settings, [*notices])
    own = sources_of(ahead.outlook.directory, ahead.outlook.request.extras)
    left_out = [without_credentials(f"{source.told}, and is not in this file") for source in own]
    text = FORMS[form](what) + "".join(f"# {line}\n" for line in left_out)
    return Exported(text, what.base.id, (*what.notices, *left_out))


def _requirements(what: _Subject) -> str:
    torch = f"torch {what.base.torch} and what belongs to it are the base's, {what.base.id}"
    lines = [_made(what, "requirements"), f"# {torch}", "# To install beside that torch:"]
    lines += ["#   pip install --no-deps --require-hashes -r FILE"]
    lines += [f"# {one}  is PyTorch's own build for {what.base.tag}, without a hash" for one in what.stack]
    return "\n".join([*lines, *what.hashed]) + "\n"


def _pylock(what: _Subject) -> str:
    root = store.Store(Path(what.settings.overlay_root))
    request = what.ahead.outlook.request
    return (
        _made(what, "pylock")
        + "\n"
        + located(what.lock, request, what.ahead.outlook.base, root, what.settings)
    )


def _script(what: _Subject) -> str:
    from .execute import load_notebook

    public = Version(what.base.torch).public
    pins = [f"torch=={public}", *(f"{one.name}=={one.version}" for one in what.lock.packages)]
    tag, address = what.base.tag, index_url(what.settings.index_template, what.base.tag)
    index = without_credentials(address)
    secret = (
        ["# It wants a password, which is not in this file: keep it in ~/.netrc"] if index != address else []
    )
    toml = [f'requires-python = "=={what.base.python_xy}.*"', "dependencies = ["]
    toml += [f"    {json.dumps(pin)}," for pin in pins]
    toml += [
        "]",
        "",
        "[[tool.uv.index]]",
        *secret,
        f'name = "pytorch-{tag}"',
        f"url = {json.dumps(index)}",
        "explicit = true",
    ]
    sources = ["torch", *(pin.partition("==")[0] for pin in what.stack)]
    toml += ["", "[tool.uv.sources]", *(f'{name} = {{ index = "pytorch-{tag}" }}' for name in sources)]
    newer = sys.version_info[:2] < Version(what.base.python_xy).release
    lines, told = scripted(load_notebook(what.ahead.path).cells, newer=newer)
    what.notices.extend(told)
    return "\n".join([*block_of("\n".join(toml)), "", *lines]) + "\n"


def _dockerfile(what: _Subject) -> str:
    base = what.base
    kernel = what.ahead.kernel.name
    lines = [
        "# syntax=docker/dockerfile:1",
        _made(what, "dockerfile"),
        f"# The same packages as in the base {base.id}, and the notebook's on top.",
        f"FROM python:{base.python_xy}-slim",
        "COPY --from=ghcr.io/astral-sh/uv:latest /uv /usr/local/bin/uv",
        'COPY <<"END" /opt/base.txt',
        *base.constraints,
        *what.stack,
        "END",
        f"RUN uv pip install --system --no-cache --no-deps --torch-backend {base.tag} -r /opt/base.txt",
    ]
    if what.hashed:
        lines += ['COPY <<"END" /opt/notebook.txt', *what.hashed, "END"]
        lines += ["RUN uv pip install --system --no-cache --no-deps --require-hashes -r /opt/notebook.txt"]
    lines += [
        "RUN uv pip install --system --no-cache jupyterlab \\",
        f" && python -m ipykernel install --sys-prefix --name {kernel} --display-name '{kernel} (shared)'",
        "WORKDIR /work",
        f"COPY {json.dumps([what.ahead.path.name, './'])}",
        'CMD ["jupyter", "lab", "--ip=0.0.0.0", "--allow-root", "--no-browser"]',
    ]
    return "\n".join(lines) + "\n"


FORMS: dict[str, Callable[[_Subject], str]] = {
    "requirements": _requirements,
    "pylock": _pylock,
    "script": _script,
    "dockerfile": _dockerfile,
}
"""What ``export`` makes."""


def _made(what: _Subject, form: str) -> str:
    return f"# Made by: jupyter overlay export {what.ahead.path.name} --format {form}"
