"""Find, check and drive uv: the one place, with ``uv_facts``, that knows its command line.

uv always gets a neutral working directory, a requirements file of our own and no shell. Of the user's
and the system's own uv settings a builder's counts what ``configuration`` keeps; a ``uv.toml`` beside a
notebook never counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CommandFailed, InstallFailed, UvUnusable
from ..policy import OPEN, Policy
from ..system import permissions, processes
from ..system.background import Aside
from .configuration import FILE, own_settings
from .discovery import facts_of, sources_in, uv_path
from .messages import SEARCH_LOG, Search, failure, search_of, without_log

_HTTP_TIMEOUT = 30  # seconds; uv's own default for UV_HTTP_TIMEOUT
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})  # as uv reads its variables
_LINKS = ("clone", "copy", "hardlink")  # uv's own choice first, which becomes a hard link where need be
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

    def at(self, index: str, *links: str) -> Uv:
        """This uv, asking ``index``, if any, before all others, and ``links`` (directories, pages) too.

        Said by variables, which this user alone can read, because addresses hold passwords; a command line
        can be read by everybody. What the user has set there still counts, behind these.
        """
        indexes = [*filter(None, [index]), *self.env.get("UV_INDEX", "").split()]
        pages = [*map(_spelt, links), *filter(None, [self.env.get("UV_FIND_LINKS")])]
        said = {"UV_INDEX": " ".join(indexes), **({"UV_FIND_LINKS": ",".join(pages)} if pages else {})}
        return self._replace(env={**self.env, **said})

    def plan(
        self,
        python: Path,
        requirements: Path,
        options: Sequence[str],
        *,
        told: Callable[[Search], None] | None = None,
    ) -> list[Change]:
        """What an install would change in the environment of ``python``; changes nothing.

        ``told`` hears how it was found. Raises ResolutionFailed with uv's own reason where there is no
        solution, InstallFailed where the index could not be asked.
        """
        tool = self._replace(env={**self.env, "RUST_LOG": SEARCH_LOG}) if told else self
        done = tool.run(
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
            raise failure("the extras cannot be resolved", without_log(done.stderr))
        if told:
            told(search_of(done.stderr))
        return _parse_plan(done.stdout)

    def lock(
        self,
        python: Path,
        pins: Path,
        options: Sequence[str],
        *,
        listed: Callable[[], Mapping[str, Listed]] | None = None,
        indexes: bool = True,
    ) -> str:
        """Exact pins as PEP 751 text (files with hashes); with ``indexes`` each package names its index.

        Written to no file: in what uv says here, an index that wants a password may have it in its addresses.
        ``listed`` tells where the pins come from, by default ``list_alone``; asked meanwhile.
        """
        where = Aside(listed or (lambda: self.list_alone(python, pins, options))) if indexes else None
        done = self._compile(python, pins, [*options, "--format", "pylock.toml"])
        if done.returncode != 0:
            raise failure("the plan cannot be locked", done.stderr)
        return done.stdout if where is None else _name_indexes(done.stdout, where.result())

    def list_all(self, python: Path, requirements: Path, options: Sequence[str]) -> dict[str, Listed]:
        """Name → what all that the requirements come to is taken from, in an environment with nothing else.

        Raises ResolutionFailed or InstallFailed.
        """
        quiet = ("-q", "--no-header", "--no-annotate")
        done = self.run("pip", "compile", *quiet, "--python", python, requirements, *options)
        if done.returncode != 0:
            raise failure("the requirements cannot be resolved", done.stderr)
        return _parse_listed(done.stdout)

    def list_alone(self, python: Path, requirements: Path, options: Sequence[str]) -> dict[str, Listed]:
        """Name → what an index has for each requirement by itself, whatever that needs in its turn.

        Nothing is built for that. Raises ResolutionFailed or InstallFailed.
        """
        done = self._compile(python, requirements, [*options, "--no-annotate", "--emit-index-annotation"])
        if done.returncode != 0:
            raise failure("the plan cannot be locked", done.stderr)
        return _parse_listed(done.stdout)

    def needed_by(
        self, python: Path, requirements: Path, options: Sequence[str]
    ) -> dict[str, tuple[str, ...]]:
        """Name → which packages need it, for all that the requirements come to; nothing where that fails."""
        words = ("-q", "--no-header", "--annotation-style", "line", "--python", python, requirements)
        said = self.run("pip", "compile", *words, *options).stdout
        rows = re.findall(r"^([A-Za-z0-9._-]+)==\S+ +# via (.*)$", said, re.MULTILINE)
        return {name: tuple(who.split(", ")) for name, who in rows}

    def _compile(self, python: Path, requirements: Path, options: Sequence[str]) -> processes.Completed:
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
    ) -> processes.Completed:
        """Run uv with these words from the root directory, whatever its exit status.

        Raises InstallFailed where it is killed or does not end in time, NotAllowed where the policy gives
        less time.
        """
        if self.cache and argv[0] == "pip":
            with contextlib.suppress(OSError):  # uv itself will say so
                permissions.make_private(self.cache)
        wanted = self.policy.offline or self.env.get("UV_OFFLINE", "").lower() in _TRUE
        offline = ("--offline",) if wanted and "--offline" not in argv else ()
        installs = "install" in argv and "--dry-run" not in argv
        timeout = float(self.http_timeout * (self.installing if installs else self.planning))
        left = timeout if self.ends is None else self.ends - time.monotonic()
        if left <= 0:
            raise self.policy.late()
        try:
            done = processes.run(
                (self.path, *argv, "--color", "never", "--no-progress", *offline),
                env=self._env_without_network if offline or "--offline" in argv else self.env,
                on_line=on_line,
                timeout=min(timeout, left),
            )
        except processes.Frozen:
            raise
        except CommandFailed as error:
            if self.ends is not None and time.monotonic() >= self.ends:
                raise self.policy.late() from error
            fix = f"try again; over a slow line, set UV_HTTP_TIMEOUT to more than {self.http_timeout}"
            raise InstallFailed(error.what, why=error.why, fix=error.fix or fix) from error
        if done.returncode < 0:
            raise InstallFailed(
                f"{self.path} was ended by signal {-done.returncode}",
                why="it was killed, or the machine ran out of memory",
                fix="try again; if it happens again, provide more memory",
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
    environments. ``memory`` is where the answers are remembered, see ``facts_of``; a builder's uv has it, and
    takes only those settings of the user's that say where to look.
    """
    env = index_variables(processes.inherited_environment(environ), policy)
    env.setdefault("UV_HTTP_RETRIES", "2")
    env["UV_NO_PROGRESS"] = "1"
    if env.get("UV_LINK_MODE") not in _LINKS:  # symbolic links would lead nowhere once the cache is emptied
        env["UV_LINK_MODE"] = _LINKS[0]
    for name in ("NO_PROXY", "no_proxy"):  # our own index answers on the loopback address
        env[name] = ",".join([*filter(None, [env.get(name) or env.get(name.swapcase())]), "127.0.0.1"])
    path = uv_path()
    facts = facts_of(path, env, memory)
    if facts.cache:
        permissions.refuse_strangers(
            facts.cache,
            what="uv's cache cannot be used",
            fix="set UV_CACHE_DIR to a directory that you and root alone can change",
            error=UvUnusable,
        )
        env["UV_CACHE_DIR"] = os.fspath(facts.cache)  # the one that was looked at, and no other
    if memory:
        env.update(own_settings(env, memory.with_name(FILE)))
    return Uv(path, facts.version, env, policy, ends, cache=facts.cache)


# What says to uv where packages are.
_WHERE = frozenset({
    "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX",
    "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_NO_INDEX", "UV_TORCH_BACKEND",
})  # fmt: skip


def sources(environ: Mapping[str, str], policy: Policy) -> str:
    """A digest of the settings that say to uv where packages are, as ``find_uv`` would find them."""
    return sources_in(index_variables(processes.inherited_environment(environ), policy))


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
    import tomli

    try:
        packages = tomli.loads(lock).get("packages")
    except tomli.TOMLDecodeError:
        return []
    return packages if isinstance(packages, list) else []


def _spelt(link: str) -> str:
    """A path or a page as uv takes it from a variable that it splits on commas."""
    return Path(link).as_uri() if link.startswith("/") else link.replace(",", "%2C")


def _parse_plan(stdout: str) -> list[Change]:
    """The changes; the version of what a repository holds is not told before it is locked."""
    changes = json.loads(stdout)["changes"]
    out = {entry["name"]: entry["version"] for entry in changes if entry["action"] == "uninstalled"}
    return [
        Change(entry["name"], entry.get("version", ""), out.get(entry["name"], ""))
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
