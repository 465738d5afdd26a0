"""Find, check and drive uv: the one place, with ``uv_facts``, that knows its command line.

uv always gets a neutral working directory, a requirements file of our own and no shell; the
user's and the system's own uv settings count, a ``uv.toml`` beside a notebook never does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import ownership, process
from .aside import Aside
from .errors import CommandFailed, InstallFailed, UvUnusable
from .policy import OPEN, Policy
from .uv_facts import facts_of, uv_path
from .uv_failures import failure

_HTTP_TIMEOUT = 30  # seconds; uv's own default for UV_HTTP_TIMEOUT
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})  # as uv reads its variables
_CERTIFICATES = frozenset({"SSL_CERT_DIR", "SSL_CERT_FILE", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"})


class Change(NamedTuple):
    """One line of uv's plan: the version of ``name`` that goes in, and the one that goes out."""

    name: str
    version: str
    replaces: str = ""


class Listed(NamedTuple):
    """A version that an index has, and where that is; empty where uv does not say which."""

    version: str
    source: str = ""


class Uv(NamedTuple):
    """A usable uv: its path, its version, and the environment it runs with.

    ``ends`` is the moment (of ``time.monotonic``) by which the policy wants all to be done.
    """

    path: str
    version: tuple[int, ...]
    env: Mapping[str, str]
    policy: Policy = OPEN
    ends: float | None = None
    planning: int = 20  # deadlines in multiples of UV_HTTP_TIMEOUT, by default 10 and 30 minutes:
    installing: int = 60  # an index that sends a byte now and then keeps uv waiting for ever
    cache: Path | None = None  # made private where it is not there yet

    @property
    def page_timeout(self) -> float:
        """Seconds for a page of PyTorch's index: less than uv waits for the page of any index."""
        return 0.7 * self.http_timeout

    @property
    def whole_timeout(self) -> float:
        """Seconds for all look-ups and downloads of one build together."""
        return float(self.http_timeout * (self.planning + self.installing))

    @property
    def http_timeout(self) -> int:
        """Seconds that uv waits for the next byte of an answer, as the user has set it."""
        said = self.env.get("UV_HTTP_TIMEOUT", "")
        return int(said) if said.isdecimal() else _HTTP_TIMEOUT

    @property
    def _env_without_network(self) -> dict[str, str]:
        """Without what names certificates, a hundred files that uv would read at every start."""
        return {name: value for name, value in self.env.items() if name not in _CERTIFICATES}

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
        self,
        python: Path,
        pins: Path,
        output: Path,
        options: Sequence[str],
        *,
        listed: Callable[[], Mapping[str, Listed]] | None = None,
        indexes: bool = True,
    ) -> str:
        """Exact pins as PEP 751 text (files with hashes); with ``indexes`` each package names its index.

        ``listed`` tells where the pins come from, by default ``list_alone``; asked meanwhile.
        """
        where = Aside(listed or (lambda: self.list_alone(python, pins, options))) if indexes else None
        done = self._compile(python, pins, [*options, "--format", "pylock.toml", "-o", os.fspath(output)])
        if done.returncode != 0:
            raise failure("the plan cannot be locked", done.stderr)
        text = output.read_text(encoding="utf-8")
        if where is not None:
            text = _name_indexes(text, where.result())
            output.write_text(text, encoding="utf-8")
        return text

    def list_alone(self, python: Path, requirements: Path, options: Sequence[str]) -> dict[str, Listed]:
        """Name → what an index has for each requirement by itself, whatever that needs in its turn.

        Nothing is built for that. Raises ResolutionFailed or InstallFailed.
        """
        done = self._compile(python, requirements, [*options, "--no-annotate", "--emit-index-annotation"])
        if done.returncode != 0:
            raise failure("the plan cannot be locked", done.stderr)
        return _parse_listed(done.stdout)

    def _compile(self, python: Path, requirements: Path, options: Sequence[str]) -> process.Completed:
        quiet = ("-q", "--no-header")  # which would name this machine's directories
        return self.run("pip", "compile", *quiet, "--no-deps", "--python", python, requirements, *options)

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

        Raises InstallFailed where it is killed or does not end in time, NotAllowed where the policy gives
        less time.
        """
        if self.cache and argv[0] == "pip":
            with contextlib.suppress(OSError):  # uv itself will say so
                ownership.make_private(self.cache)
        wanted = self.policy.offline or self.env.get("UV_OFFLINE", "").lower() in _TRUE
        offline = ("--offline",) if wanted and "--offline" not in argv else ()
        installs = "install" in argv and "--dry-run" not in argv
        timeout = float(self.http_timeout * (self.installing if installs else self.planning))
        left = timeout if self.ends is None else self.ends - time.monotonic()
        if left <= 0:
            raise self.policy.late()
        try:
            done = process.run(
                (self.path, *argv, "--color", "never", "--no-progress", *offline),
                env=self._env_without_network if offline or "--offline" in argv else self.env,
                on_line=on_line,
                timeout=min(timeout, left),
            )
        except CommandFailed as error:
            if self.ends is not None and time.monotonic() >= self.ends:
                raise self.policy.late() from error
            fix = f"try again; over a slow line, set UV_HTTP_TIMEOUT to more than {self.http_timeout}"
            raise InstallFailed(error.what, why=error.why, fix=error.fix or fix) from error
        if done.returncode < 0:
            raise InstallFailed(
                f"{self.path} was ended by signal {-done.returncode}",
                why="somebody killed it, or the machine ran out of memory",
                fix="try again; where it comes again, give it more memory",
            )
        return done


def find_uv(
    environ: Mapping[str, str] = os.environ,
    *,
    policy: Policy = OPEN,
    ends: float | None = None,
    memory: Path | None = None,
) -> Uv:
    """The uv that came with this package; raises UvUnusable.

    That is where it is missing or too old, or where its cache is open to others: uv installs what it once
    unpacked there without looking at it again, and by hard links, so who can write there writes into
    environments. ``memory`` is where the answers are remembered, see ``facts_of``.
    """
    env = index_variables(process.inherited_environment(environ), policy)
    env.setdefault("UV_HTTP_RETRIES", "2")
    env["UV_NO_PROGRESS"] = "1"
    for name in ("NO_PROXY", "no_proxy"):  # our own index answers on the loopback address
        env[name] = ",".join([*filter(None, [env.get(name) or env.get(name.swapcase())]), "127.0.0.1"])
    path = uv_path()
    facts = facts_of(path, env, memory)
    if facts.cache:
        ownership.refuse_strangers(
            facts.cache,
            what="uv's cache cannot be used",
            fix="set UV_CACHE_DIR to a directory that you and root alone can change",
            error=UvUnusable,
        )
        env["UV_CACHE_DIR"] = os.fspath(facts.cache)  # the one that was looked at, and no other
    return Uv(path, facts.version, env, policy, ends, cache=facts.cache)


# What says to uv where packages are.
_WHERE = frozenset({
    "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX",
    "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_NO_INDEX", "UV_TORCH_BACKEND",
})  # fmt: skip


def index_variables(environ: Mapping[str, str], policy: Policy) -> dict[str, str]:
    """``environ`` with the policy's indexes, where it names any, in the place of all others for uv."""
    if not policy.indexes:
        return dict(environ)
    env = {name: value for name, value in environ.items() if name not in _WHERE}
    first, *others = policy.indexes
    if others:
        env["UV_INDEX"] = " ".join(others)
    return {**env, "UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": first}


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


def _parse_plan(stdout: str) -> list[Change]:
    changes = json.loads(stdout)["changes"]
    out = {entry["name"]: entry["version"] for entry in changes if entry["action"] == "uninstalled"}
    return [
        Change(entry["name"], entry["version"], out.get(entry["name"], ""))
        for entry in changes
        if entry["action"] in ("installed", "reinstalled")
    ]


def _parse_listed(requirements: str) -> dict[str, Listed]:
    """Package name → version and index, from ``uv pip compile --emit-index-annotation``."""
    found, name = {}, ""
    for line in requirements.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            name = match[1]
            found[name] = Listed(match[2])
        elif match := re.match(r"\s+# from (\S+)", line):
            found[name] = Listed(found[name].version, match[1])
    return found


def _name_indexes(lock: str, listed: Mapping[str, Listed]) -> str:
    """The lock with ``index`` keys (PEP 751), by which uv finds the files in its ordinary cache."""

    def add(match: re.Match[str]) -> str:
        known = listed.get(match[1])
        return match[0] + (f"index = {json.dumps(known.source)}\n" if known and known.source else "")

    return re.sub(r'^name = "([^"]+)"\nversion = "[^"]+"\n', add, lock, flags=re.MULTILINE)
