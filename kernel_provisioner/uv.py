"""Find, check and drive uv: the one place that knows its command line.

uv always gets a neutral working directory, a requirements file of our own and no shell; the
user's and the system's own uv settings count, a ``uv.toml`` beside a notebook never does.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import process
from .errors import CommandFailed, InstallFailed, ResolutionFailed, UvUnusable

MINIMUM = (0, 12, 18)  # the first with `uv pip install --dry-run --output-format json`
_HTTP_TIMEOUT = 30  # seconds; uv's own default for UV_HTTP_TIMEOUT
_FIX = "pip install -U uv  (in the environment that runs Jupyter)"


@dataclasses.dataclass(frozen=True)
class Change:
    """One line of uv's plan: the version of ``name`` that goes in, and the one that goes out."""

    name: str
    version: str
    replaces: str = ""


@dataclasses.dataclass(frozen=True)
class Uv:
    """A usable uv: its path, its version, and the environment it runs with."""

    path: str
    version: tuple[int, ...]
    env: Mapping[str, str]
    offline: bool = False
    planning: int = 20  # deadlines in multiples of UV_HTTP_TIMEOUT, by default 10 and 30 minutes:
    installing: int = 60  # an index that sends a byte now and then keeps uv waiting for ever

    @property
    def page_timeout(self) -> float:
        """Seconds for a page of PyTorch's index: less than uv waits for the page of any index."""
        return 0.7 * self.http_timeout

    @property
    def http_timeout(self) -> int:
        """Seconds that uv waits for the next byte of an answer, as the user has set it."""
        said = self.env.get("UV_HTTP_TIMEOUT", "")
        return int(said) if said.isdecimal() else _HTTP_TIMEOUT

    def index_options(self, first: str) -> list[str]:
        """Options that put the index ``first`` before all others.

        An ``--index`` on the command line makes uv forget those of UV_INDEX, which count here.
        """
        indexes = (first, *self.env.get("UV_INDEX", "").split())
        return [word for index in indexes for word in ("--index", index)]

    def plan(self, python: Path, requirements: Path, options: Sequence[str]) -> list[Change]:
        """What an install would change in the environment of ``python``; changes nothing.

        Raises ResolutionFailed with uv's own reason where there is no solution, InstallFailed
        where the index could not be asked.
        """
        done = self.run(
            "pip",
            "install",
            "--python",
            python,
            "--dry-run",
            "--output-format",
            "json",
            "-r",
            requirements,
            *options,
        )
        if done.returncode != 0:
            raise failure("the extras cannot be resolved", done.stderr)
        return _parse_plan(done.stdout)

    def lock(
        self, python: Path, pins: Path, output: Path, options: Sequence[str], *, indexes: bool = True
    ) -> str:
        """Exact pins as PEP 751 text (files with hashes); with ``indexes`` each package names its index."""
        common: list[str | Path] = ["pip", "compile", "-q", "--no-deps", "--python", python, pins, *options]
        common.append("--no-header")  # which would name this machine's directories
        done = self.run(*common, "--format", "pylock.toml", "-o", output)
        if done.returncode != 0:
            raise failure("the plan cannot be locked", done.stderr)
        if not indexes:
            return output.read_text(encoding="utf-8")
        where = self.run(*common, "--emit-index-annotation")
        if where.returncode != 0:
            raise failure("the plan cannot be locked", where.stderr)
        text = _name_indexes(output.read_text(encoding="utf-8"), _parse_indexes(where.stdout))
        output.write_text(text, encoding="utf-8")
        return text

    def install_lock(
        self,
        python: Path,
        lock: Path,
        prefix: Path,
        options: Sequence[str],
        *,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Install exactly a lock's packages under ``prefix``; nothing else is looked at."""
        done = self.run(
            "pip",
            "install",
            "--python",
            python,
            "--no-deps",
            "--prefix",
            prefix,
            "-r",
            lock,
            "--preview-features",
            "pylock",
            *options,
            on_line=on_line,
        )
        if done.returncode != 0:
            raise failure("a package could not be installed", done.stderr)

    def run(
        self,
        *argv: str | os.PathLike[str],
        on_line: Callable[[str], None] | None = None,
    ) -> process.Completed:
        """Run uv with these words from the root directory, whatever its exit status.

        Raises InstallFailed where it does not end in time.
        """
        offline = ("--offline",) if self.offline and "--offline" not in argv else ()
        installs = "install" in argv and "--dry-run" not in argv
        try:
            return process.run(
                (self.path, *argv, "--color", "never", "--no-progress", *offline),
                env=self.env,
                on_line=on_line,
                timeout=self.http_timeout * (self.installing if installs else self.planning),
            )
        except CommandFailed as error:
            fix = f"try again; over a slow line, set UV_HTTP_TIMEOUT to more than {self.http_timeout}"
            raise InstallFailed(error.what, why=error.why, fix=fix) from error


def find_uv(environ: Mapping[str, str] = os.environ, *, offline: bool = False) -> Uv:
    """The uv that came with this package; raises UvUnusable where it is missing or too old."""
    env = process.inherited_environment(environ)
    env.setdefault("UV_HTTP_RETRIES", "2")
    env["UV_NO_PROGRESS"] = "1"
    for name in ("NO_PROXY", "no_proxy"):  # our own index answers on the loopback address
        env[name] = ",".join([*filter(None, [env.get(name) or env.get(name.swapcase())]), "127.0.0.1"])
    path = uv_path()
    return Uv(path, checked_version(path), env, offline)


@functools.cache
def uv_path() -> str:
    """Where uv's executable is; raises UvUnusable where there is none."""
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise UvUnusable("uv is not installed", why=str(error), fix=_FIX) from error


@functools.cache
def checked_version(path: str) -> tuple[int, ...]:
    """The version of the uv at ``path``; raises UvUnusable where it is too old or does not answer."""
    try:
        said = process.run((path, "--version"), env={}, timeout=20).check("uv does not run").stdout
    except CommandFailed as error:
        raise UvUnusable(f"uv at {path} does not answer", why=error.why or error.what, fix=_FIX) from error
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    version = tuple(map(int, numbers.groups())) if numbers else ()
    if version < MINIMUM:
        least = ".".join(map(str, MINIMUM))
        raise UvUnusable(f"{said.strip()} at {path} is too old", why=f"{least} or newer is needed", fix=_FIX)
    return version


def locked_packages(lock: str) -> list[dict[str, Any]]:
    """The ``packages`` of a PEP 751 lock; none where the text is damaged."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        packages = tomllib.loads(lock).get("packages")
    except tomllib.TOMLDecodeError:
        return []
    return packages if isinstance(packages, list) else []


_CREDENTIALS = "mend the credentials of that index: in its URL, in ~/.netrc, or UV_INDEX_<NAME>_PASSWORD"
_UNREACHABLE = re.compile(
    r"error sending request|dns error|Connect|timed out|Request failed after|network was disabled"
    r"|Network connectivity is disabled|HTTP status (?:client|server) error|Failed to fetch",
    re.IGNORECASE,
)


def failure(what: str, stderr: str) -> ResolutionFailed | InstallFailed:
    """uv's failure as ours: ResolutionFailed for "no solution", InstallFailed for the rest."""
    why = said_by_uv(stderr)
    if re.search(r"401 Unauthorized|403 Forbidden", stderr):
        return InstallFailed(what, why=why, fix=_CREDENTIALS)
    if "No solution found" in stderr or "unsatisfiable" in stderr:
        if re.search(r"network was disabled|offline", stderr, re.IGNORECASE):
            return InstallFailed(what, why=why, fix="go online once, so that the packages are in uv's cache")
        return ResolutionFailed(what, why=why)
    if "No space left on device" in stderr:
        return InstallFailed(what, why=why, fix="free space on the disk that the path above is on")
    if _UNREACHABLE.search(stderr):
        return InstallFailed(what, why=why, fix="check the network and the index settings, then try again")
    return InstallFailed(
        what, why=why, fix="try again; where it comes again, the index or the package is at fault"
    )


def may_pass(error: InstallFailed) -> bool:
    """Whether the network or the disk is at fault, and not what was to be fetched."""
    gone = re.search(r"\b(404 Not Found|410 Gone)\b", error.why)
    return "No space left on device" in error.why or (bool(_UNREACHABLE.search(error.why)) and not gone)


def said_by_uv(stderr: str) -> str:
    """uv's own words on an error, without its progress lines."""
    lines = stderr.strip().splitlines()
    start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(("error:", "\u00d7"))), 0)
    text = "\n".join(line.strip() for line in lines[start:])
    return text.replace("error: ", "", 1).replace("cause: ", "")


def _parse_plan(stdout: str) -> list[Change]:
    changes = json.loads(stdout)["changes"]
    out = {entry["name"]: entry["version"] for entry in changes if entry["action"] == "uninstalled"}
    return [
        Change(entry["name"], entry["version"], out.get(entry["name"], ""))
        for entry in changes
        if entry["action"] in ("installed", "reinstalled")
    ]


def _parse_indexes(requirements: str) -> dict[str, str]:
    """Package name → index, from ``uv pip compile --emit-index-annotation``."""
    found, name = {}, ""
    for line in requirements.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==", line):
            name = match.group(1)
        elif match := re.match(r"\s+# from (\S+)", line):
            found[name] = match.group(1)
    return found


def _name_indexes(lock: str, indexes: Mapping[str, str]) -> str:
    """The lock with ``index`` keys (PEP 751), by which uv finds the files in its ordinary cache."""

    def add(match: re.Match[str]) -> str:
        index = indexes.get(match.group(1))
        return match.group(0) + (f"index = {json.dumps(index)}\n" if index else "")

    return re.sub(r'^name = "([^"]+)"\nversion = "[^"]+"\n', add, lock, flags=re.MULTILINE)
