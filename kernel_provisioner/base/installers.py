"""Two ways to get torch into a new base: from PyTorch's index through uv, or as pip is set up.

Both first say exactly what they would install (so that a base can be named after it and a
wrong build is refused before a byte of it is fetched), then install exactly that.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..errors import InstallFailed, OverlayError, ResolutionFailed, without_credentials
from ..index.pytorch import Router, wrong_origin
from ..model.accelerators import index_url, tag_of_build
from ..system import processes
from ..uv.client import Uv, locked_packages
from ..uv.messages import fix_for
from .progress import Progress, counting

_TRIED = 12  # builds of torch that are looked at, newest first, for one that fits a tag
_NO_SOURCES = (
    "where only a source distribution is to be had, put the password of pip's index into ~/.netrc\n"
    "instead of its address: pip shows the address to everybody while it builds, so here it builds nothing"
)
_PIP_WITH_RAW_PROGRESS = (24, 1)
_PIP_WITH_REPORT = (23, 0)  # the first whose `--report` has a stable format


@dataclasses.dataclass(frozen=True)
class BaseSpec:
    """What somebody asks a base to be."""

    tag: str
    torch: str = ""  # a version, or a specifier such as ``>=2.6,<2.8``
    packages: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()

    @property
    def torch_requirement(self) -> str:
        """The requirement on torch: a bare version means exactly that one."""
        return (
            f"torch{self.torch if re.match(r'[<>=!~]', self.torch) else '==' + self.torch}"
            if self.torch
            else "torch"
        )

    @property
    def others(self) -> list[str]:
        """What a base holds besides torch."""
        return ["ipykernel", "pip", "numpy", *self.packages]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Exact versions, and in ``source`` where they come from, as a person would say it."""

    pins: Mapping[str, str]
    lines: tuple[str, ...]
    source: str


class Installer(Protocol):
    """Something that can plan a base and fill an empty environment with the plan."""

    def plan(self, spec: BaseSpec) -> Plan:
        """What would be installed; raises OverlayError, above all where the source has no such build."""

    def install(self, plan: Plan, venv: Path, progress: Progress) -> None:
        """Install exactly the plan; ``progress`` hears a line for each step."""


class UvInstaller:
    """torch from the index of its tag, everything else from uv's own indexes."""

    def __init__(self, uv: Uv, interpreter: Path, scratch: Path, template: str) -> None:
        self._uv = self._source = uv
        self._scratch, self._template = scratch, template
        self._venv = scratch / "plan"
        uv.run("venv", "--python", interpreter, self._venv).check("a virtual environment cannot be made")

    def plan(self, spec: BaseSpec) -> Plan:
        """See Installer; the plan is kept as a lock, with the hashes that the indexes name."""
        upstream = index_url(self._template, spec.tag)
        self._source = self._uv.at(upstream, *spec.find_links)  # the lock holds no credentials
        with Router(upstream, timeout=self._uv.page_timeout) as router:
            uv = self._uv.at(router.url, *spec.find_links)
            try:
                versions = self._versions(spec, uv)
                pins = self._scratch / "pins.txt"
                pins.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
                lock = router.real(uv.lock(self._python, pins, []))
            except OverlayError as error:
                if isinstance(error, ResolutionFailed) and error.fix:  # not uv's
                    raise
                why = "\n".join(router.failures.values()) or router.real(error.why)
                kind = InstallFailed if router.failures else type(error)
                raise kind(
                    f"{spec.torch_requirement} for {spec.tag} is not available from {upstream}",
                    why=why,
                    fix=fix_for(why, "check the tag, the version and the network"),
                ) from error
        for stray in wrong_origin(locked_packages(lock), spec.tag, upstream):
            raise InstallFailed(
                f"{stray['name']} would come from {stray.get('index') or 'elsewhere'}, not from {upstream}",
                why="uv's own settings prefer that index; a build from elsewhere may be for another tag",
                fix="leave UV_INDEX_STRATEGY and index-strategy unset while a base is made",
            )
        self._lock.write_text(lock, encoding="utf-8")
        return Plan(versions, tuple(f"{name}=={version}" for name, version in versions.items()),
                    without_credentials(upstream))  # fmt: skip

    def install(self, plan: Plan, venv: Path, progress: Progress) -> None:
        """See Installer. Copies, not hard links: base and cache must not change each other."""
        self._source.install_lock(
            venv / "bin/python",
            self._lock,
            venv,
            ["--link-mode", "copy", "--compile-bytecode"],
            on_line=counting(progress, len(plan.lines)),
        )

    def _versions(self, spec: BaseSpec, uv: Uv) -> dict[str, str]:
        """What uv would install, with a torch of the tag.

        A directory of wheels may hold builds for several tags, and to a resolver ``+cu126`` is
        newer than ``+cpu``: builds that are labelled otherwise are excluded one by one.
        """
        wanted = self._scratch / "wanted.txt"
        excluded: list[str] = []
        while True:
            wanted.write_text("\n".join([spec.torch_requirement, *spec.others, *excluded]) + "\n")
            changes = uv.plan(self._python, wanted, [])
            versions = {change.name: change.version for change in changes}
            local = Version(versions["torch"]).local
            if local is None or tag_of_build(local, ()) in (None, spec.tag):
                return versions
            if len(excluded) == _TRIED:
                raise ResolutionFailed(
                    f"no {spec.tag} build is among the first of {spec.torch_requirement}",
                    why=f"builds for others come first: {', '.join(line[7:] for line in excluded)} …",
                    fix="name the version of torch, or a directory that holds fewer builds",
                )
            excluded.append(f"torch!={versions['torch']}")

    @property
    def _python(self) -> Path:
        return self._venv / "bin/python"

    @property
    def _lock(self) -> Path:
        return self._scratch / "pylock.toml"


class PipInstaller:
    """torch from wherever the user's pip looks (find-links, mirrors), if that build fits the tag."""

    def __init__(self, interpreter: Path, scratch: Path, environ: Mapping[str, str]) -> None:
        self._env = {**processes.inherited_environment(environ), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self._python = scratch / "pip/bin/python"
        self._front: tuple[str | Path, ...] = (interpreter, "-I", "-m", "pip")
        self._links: list[str] = []
        own = self._version() >= _PIP_WITH_REPORT  # the interpreter's pip will do, which saves seconds
        processes.run(
            (interpreter, "-I", "-m", "venv", *(["--without-pip"] if own else []), scratch / "pip"),
            env=self._env,
        ).check(
            "a virtual environment with pip cannot be made", fix="install Python's venv module (python3-venv)"
        )
        if not own:
            self._front = (self._python, "-m", "pip")
            if self._version() < _PIP_WITH_REPORT:
                self._pip("install", "--upgrade", "pip").check("pip cannot be brought up to date")
        # To build, pip starts itself with its indexes as arguments, which everybody can read:
        # https://github.com/pypa/pip/blob/main/src/pip/_internal/build_env.py
        configured = self._pip("config", "list").stdout
        self._secret = without_credentials(configured) != configured

    def plan(self, spec: BaseSpec) -> Plan:
        """See Installer."""
        self._links = [word for place in spec.find_links for word in ("--find-links", place)]
        torch = self._fitting_torch(spec)
        report = self._report([f"torch=={torch}", *spec.others])
        pins: dict[str, str] = {
            canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"] for item in report
        }
        urls = {item["metadata"]["name"]: _origin(item["download_info"]["url"]) for item in report}
        return Plan(
            pins, tuple(f"{name}=={version}" for name, version in pins.items()), f"pip: {urls['torch']}"
        )

    def install(self, plan: Plan, venv: Path, progress: Progress) -> None:
        """See Installer."""
        pins = self._python.parents[2] / "pip-pins.txt"
        pins.write_text("\n".join(plan.lines) + "\n")
        progress(f"Installing {len(plan.lines)} packages with pip")
        bar = "raw" if self._version() >= _PIP_WITH_RAW_PROGRESS else "off"
        self._pip(
            "install", "--no-deps", "--progress-bar", bar, *self._wheels, *self._links, "-r", pins,
            python=venv / "bin/python", on_line=counting(progress, len(plan.lines)),
        ).check("pip could not install the base")  # fmt: skip

    def _fitting_torch(self, spec: BaseSpec) -> str:
        done = self._pip("index", "versions", "torch", "--pre", *self._links)
        listed = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
        if done.returncode != 0 or not listed:
            raise InstallFailed(
                "pip finds no torch",
                why=done.stderr.strip()[-1500:],
                fix="set pip's index-url or find-links to a place that has torch",
            )
        found = [Version(text) for text in listed[1].split(", ")]
        for version in fitting_order(found, spec):
            metadata = self._report([f"torch=={version}"], "--no-deps")[0]["metadata"]
            if tag_of_build(version.local, metadata.get("requires_dist", ())) == spec.tag:
                return str(version)
        raise ResolutionFailed(
            f"pip finds no torch that is a {spec.tag} build and satisfies {spec.torch_requirement}",
            why=f"pip knows {', '.join(map(str, found[:8]))}; a build for another accelerator is never taken",
            fix="point pip's find-links or index-url at such a build, or name another tag or version",
        )

    def _report(self, requirements: Iterable[str], *options: str) -> list[dict[str, Any]]:
        done = self._pip(
            "install", "--dry-run", "--quiet", "--ignore-installed", *self._wheels,
            "--report", "-", *self._links, *options, *requirements,
        )  # fmt: skip
        if done.returncode != 0:
            why = done.stderr.strip()[-1500:]
            fix = _NO_SOURCES if self._secret else ""
            raise ResolutionFailed("pip cannot resolve the base", why=why, fix=fix)
        return list(json.loads(done.stdout)["install"])

    @property
    def _wheels(self) -> tuple[str, ...]:
        """What pip may take as wheels only."""
        return ("--only-binary", ":all:" if self._secret else "torch")

    def _version(self) -> tuple[int, ...]:
        said = processes.run((*self._front, "--version"), env=self._env).stdout
        return tuple(map(int, re.findall(r"\d+", said)[:2]))  # nothing where there is no pip

    def _pip(
        self, *words: str | Path, python: Path | None = None, on_line: Callable[[str], None] | None = None
    ) -> processes.Completed:
        command = (*self._front, "--python", python or self._python, *words)
        return processes.run(command, env=self._env, timeout=3600, on_line=on_line)


def fitting_order(versions: Iterable[Version], spec: BaseSpec) -> list[Version]:
    """The torch releases worth a look: exact local tag first, then unlabelled ones, newest first.

    A label of another tag is never worth one. An unlabelled build may be for any tag; what it
    requires will tell.
    """
    allowed = SpecifierSet(spec.torch_requirement.removeprefix("torch"))
    previews = bool(allowed.prereleases)  # only where one is named
    fits = [version for version in versions if allowed.contains(version, prereleases=previews)]
    labelled = sorted((version for version in fits if version.local == spec.tag), reverse=True)
    plain = sorted((version for version in fits if version.local is None), reverse=True)
    return [*labelled, *plain][:_TRIED]


def _origin(url: str) -> str:
    """Where a file comes from, without its name."""
    return without_credentials(url.rsplit("/", 1)[0].removeprefix("file://"))


def first_that_plans(
    makers: Sequence[tuple[str, Callable[[], Installer]]], spec: BaseSpec, progress: Progress
) -> tuple[str, Installer, Plan]:
    """The first installer whose source has such a build, with its plan; its name comes first.

    Raises the last one's error, with the reasons of all, where none has.
    """
    reasons: list[str] = []
    last = OverlayError("no installer is left")
    for name, make in makers:
        progress(f"Asking {name} for {spec.torch_requirement} ({spec.tag})")
        try:
            installer = make()
            plan = installer.plan(spec)
            because = f"; {reasons[-1].splitlines()[-1]}" if reasons else ""
            return name, installer, dataclasses.replace(plan, source=plan.source + because)
        except OverlayError as error:
            last = error
            reasons.append(f"{name}: {error.what}" + (f"\n{error.why}" if error.why else ""))
            if len(makers) > 1:
                progress(f"{name}: {error.what}" + (f" ({error.why.splitlines()[0]})" if error.why else ""))
    raise type(last)(
        f"no {spec.tag} build of {spec.torch_requirement} is available", why="\n".join(reasons), fix=last.fix
    ) from last
