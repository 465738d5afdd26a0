"""Make a wheel of a directory or a repository that somebody has named on the command line.

Naming it is consent to build it: its code runs now, as the user, and at no launch. A directory becomes an
editable wheel (PEP 660), as ``pip install -e`` has it: what is changed there counts at the next import.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urldefrag, urlsplit, urlunsplit
from urllib.request import url2pathname

from ..base.registry import RegisteredBase
from ..errors import BuildFailed, InvalidRequest
from ..inkernel.shared.packages import canonical
from ..model.request import Request
from ..overlay import store
from ..overlay.sources import GIT, Source, facts_of, place_of
from ..settings import Settings
from ..system import processes
from ..system.files import make_directory
from .spec import BuildSpec
from .trial import trial

_SCHEMES = ("https", "http", "ssh", "file")
_FETCHED_WITHIN = 900.0  # seconds for one command of git
_GIT_NEEDS = ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSH")
_INSTALLERS = frozenset({
    "INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_build.json", "uv_cache.json",
})  # fmt: skip
_SHOWN = 20  # lines of a failed build


def make_source(
    origin: str, directory: Path, base: RegisteredBase, root: store.Store, settings: Settings
) -> Source:
    """The source that ``origin`` (``-e DIRECTORY`` or ``git+…``) is, for the overlays in ``directory``.

    Its wheel is made for ``base``. Raises InvalidRequest, NotAllowed and BuildFailed.
    """
    settings.policy.refuse_own_sources()
    with trial(Request(), base, root, settings) as (spec, scratch):
        commit, seen = "", {}
        if origin.startswith(GIT):
            checkout, commit = _fetched(origin, scratch, spec)
            wheel = _built(checkout, origin, scratch, spec)
        else:
            project = _project(origin.removeprefix("-e "))
            origin, seen = f"-e {project}", facts_of(project)
            wheel = _editable(project, origin, scratch, spec)
        name = canonical(wheel.name.partition("-")[0])
        if name in spec.fixed:
            raise InvalidRequest(
                f"{name} is the base's, and no source can replace it",
                fix="give your package a name of its own",
            )
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
        place = place_of(directory) / digest
        make_directory(place)
        kept = place / wheel.name
        kept.write_bytes(wheel.read_bytes())
        return Source(name, origin, str(kept), commit, seen)


def imported_from(wheels: Iterable[str]) -> frozenset[str]:
    """The lines of ``.pth`` files in wheels, named by their ``file:`` addresses; of those that are there."""
    found: set[str] = set()
    for url in wheels:
        path = url2pathname(urlsplit(url).path)
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as wheel:
            for name in (name for name in wheel.namelist() if name.endswith(".pth")):
                text = wheel.read(name).decode("utf-8", "replace")
                found.update(line.strip() for line in text.splitlines())
    return frozenset(found)


def _project(path: str) -> Path:
    """The directory of a project that can be built; raises InvalidRequest."""
    project = Path(os.path.realpath(Path(path).expanduser()))
    if any((project / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return project
    why = "it holds no pyproject.toml and no setup.py" if project.is_dir() else "there is no such directory"
    raise InvalidRequest(
        f"{path} is no project that can be installed", why=why, fix="name the directory of one after -e"
    )


def _fetched(origin: str, scratch: Path, spec: BuildSpec) -> tuple[Path, str]:
    """A checkout of what an address names, and its commit; raises BuildFailed and InvalidRequest."""
    parts = urlsplit(urldefrag(origin.removeprefix(GIT)).url)
    path, _, rev = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
    fragment = dict(item.partition("=")[::2] for item in urldefrag(origin).fragment.split("&"))
    url = urlunsplit(parts._replace(path=path))
    if parts.scheme not in _SCHEMES or rev.startswith("-") or ".." in fragment.get("subdirectory", ""):
        raise InvalidRequest(
            f"{origin} is no address of a repository",
            fix="write it as in git+https://host/owner/name.git@tag-or-commit",
        )
    spec.policy.refuse_repository(origin)
    checkout = scratch / "checkout"
    _git(origin, "clone", "--quiet", "--", url, str(checkout))
    at = ("-C", str(checkout))
    if rev:
        _git(origin, *at, "fetch", "--quiet", "origin", rev, needed=False)  # a commit that is on no branch
        asked = ("rev-parse", "--verify", "--quiet")
        names = (f"origin/{rev}^{{commit}}", f"{rev}^{{commit}}")
        found = next(filter(None, (_git(origin, *at, *asked, name, needed=False) for name in names)), "")
        if not found:
            raise BuildFailed(f"{url} has no {rev}", fix="name a tag, a branch or a commit after @")
        _git(origin, *at, "checkout", "--quiet", "--detach", found)
    _git(origin, *at, "submodule", "--quiet", "update", "--init", "--recursive")
    return checkout / fragment.get("subdirectory", ""), _git(origin, *at, "rev-parse", "HEAD")


def _git(origin: str, *words: str, needed: bool = True) -> str:
    """What git prints; raises BuildFailed where it fails, if it is ``needed``."""
    env = {
        **processes.inherited_environment(os.environ),
        **{name: os.environ[name] for name in _GIT_NEEDS if name in os.environ},
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = processes.run(("git", *words), env=env, timeout=_FETCHED_WITHIN)
    if done.returncode and needed:
        raise BuildFailed(
            f"{origin} could not be fetched",
            why=_end_of(done.stderr),
            fix="check the address and your access to it: git clone must work in this terminal",
        )
    return "" if done.returncode else done.stdout.strip()


def _built(project: Path, origin: str, scratch: Path, spec: BuildSpec) -> Path:
    """The wheel of a project as it is."""
    _refuse_build(project, spec)
    out = scratch / "wheel"
    words = ("build", "--wheel", "--out-dir", str(out), "--python", str(spec.python), str(project))
    _uv(spec, origin, scratch, *words)
    return next(out.glob("*.whl"))


def _editable(project: Path, origin: str, scratch: Path, spec: BuildSpec) -> Path:
    """An editable wheel of a project: uv installs it somewhere, and what is there is packed again."""
    _refuse_build(project, spec)
    prefix = scratch / "editable"
    words = ("pip", "install", "--python", str(spec.python), "--no-deps", "--prefix", str(prefix))
    _uv(spec, origin, scratch, *words, "-e", str(project))
    return _packed(next(prefix.glob("lib/python*/site-packages")), scratch)


def _uv(spec: BuildSpec, origin: str, scratch: Path, *words: str) -> None:
    stack = scratch / "stack.txt"
    base = spec.manifest
    pins = [f"{name}=={base.distributions[name]}\n" for name in sorted(base.fixed)]
    stack.write_text("".join(pins), encoding="utf-8")
    done = spec.uv_at(spec.upstream).run(*words, "--build-constraints", stack)
    if done.returncode:
        what = f"{origin.removeprefix('-e ')} could not be built"
        raise BuildFailed(what, why=_end_of(done.stderr), fix="correct what the reason names there")


def _packed(site: Path, scratch: Path) -> Path:
    """The one distribution that is installed in ``site``, as a wheel; commands come from its entry points."""
    info = next(site.glob("*.dist-info"))
    said = re.findall(r"(?m)^Tag: (\S+)", (info / "WHEEL").read_text(encoding="utf-8"))
    tags = [tag.split("-") for tag in said or ["py3-none-any"]]
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    wheel = scratch / f"{info.name.removesuffix('.dist-info')}-{tag}.whl"
    files = [path for path in sorted(site.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    rows = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            if path.parent == info and path.name in _INSTALLERS:
                continue
            content, name = path.read_bytes(), path.relative_to(site).as_posix()
            packed.writestr(zipfile.ZipInfo(name), content)  # without its time: the same is the same wheel
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(content)}\n")
        record = f"{info.name}/RECORD"
        packed.writestr(zipfile.ZipInfo(record), "".join([*rows, f"{record},,\n"]))
    return wheel


def _refuse_build(project: Path, spec: BuildSpec) -> None:
    """Raise NotAllowed where the policy lets nobody build this, or what it is cannot be known before."""
    names = spec.policy.buildable
    if names is None:
        return
    try:
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"""(?m)^name\s*=\s*["']([A-Za-z0-9._-]+)["']""", text)
    if named is None or canonical(named[1]) not in names:
        raise spec.policy.no_build(str(project))


def _end_of(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_SHOWN:])
