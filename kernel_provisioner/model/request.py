"""What a notebook asks for: its ``torch_env`` metadata and PEP 723 block, as a checked Request.

The notebook is untrusted. Whatever it holds, the answer is a Request or an InvalidRequest that
names the field and the line to write instead, after bounded work: sizes are looked at before
anything is parsed. A notebook says which packages it needs and on which accelerator; it can
never say where they come from, how they are built, or what runs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ..errors import InvalidRequest
from .accelerators import FAMILIES, parse_tag
from .fields import MAX_LENGTH, Field, kind, show
from .lock import Lock, juv_pins, parse_lock
from .tool_uv import read_tool_uv

KEYS = ("accelerator", "torch", "requires-python", "extras", "exclude-newer", "lock")
"""The keys of ``torch_env``."""

MAX_EXTRAS = 256
"""The most extras. Checked before any is parsed, as is each one's length."""

_MAX_VALUES = 2_000
_MAX_BLOCKS = 16  # one for each time that something was added, and none was taken away
_MAX_BLOCK = 16 * 1024  # a dotted key costs tomli the square of its length: 0.4 s for this much
_MAX_WARNINGS = 5

# What people try to set and only the machine's owner can. Named only to explain, any other
# unknown key is ignored in the same way.
_OWNERS_KEYS = re.compile(
    r"(extra[-_])?index([-_].*)?|find[-_]links|env|environment|argv|python|(LD|PYTHON)_?\w*|PATH|allow[-_]\w+|"
    r"trusted.*|timeout|overlay[-_].*|build.*|no[-_]build.*|policy|pins|sources?|base",
)
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,9})?([Zz]|[+-][0-2]\d:[0-5]\d))?", re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What one notebook asks for; the default values ask for nothing.

    ``accelerator`` is ``auto``, a family or a tag. ``torch`` and ``requires_python`` are PEP 440
    specifiers, empty for any. ``extras`` are PEP 508 requirements with canonical names, in the
    notebook's order, markers unevaluated. ``exclude_newer`` is an RFC 3339 time in UTC.
    ``lock`` is the notebook's lock; its torch and Python are in ``torch`` and ``requires_python``
    already. A ``stale`` one is outdated: ``why_stale``. ``preferred`` are
    versions (``name==version``) to take where they fit, from juv's lock. ``local`` (``name @ file://…``) are
    wheels that extras come from on this machine; no notebook says so.
    """

    accelerator: str = "auto"
    torch: str = ""
    requires_python: str = ""
    extras: tuple[str, ...] = ()
    exclude_newer: str = ""
    lock: Lock | None = None
    stale: bool = False
    preferred: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to install: the base alone will do."""
        return not self.extras

    def digest(self) -> str:
        """SHA-256 (hex) of what is asked for; warnings do not count."""
        data = dataclasses.asdict(self)
        del data["warnings"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_request(
    metadata: object, script_blocks: Sequence[str] = (), *, uv_lock: str = "", allow_urls: bool = False
) -> Request:
    """The request in ``metadata`` (the value of ``torch_env``, None where there is none) and PEP 723 blocks.

    ``script_blocks`` are the TOML texts of the notebook's ``# /// script`` blocks, ``uv_lock`` is
    juv's lock. With ``allow_urls`` (an administrator's choice) ``name @ https://…`` is let through.
    Raises InvalidRequest, whose ``field`` reads like ``torch_env.extras[3]``.
    """
    said = {} if metadata is None else _object(metadata)
    block = _script_block(script_blocks)
    warnings = [*_unknown(said, KEYS, "torch_env"), *_unknown(block, _BLOCK_KEYS, _BLOCK)]
    listed = _requirements(said.get("extras"), Field("torch_env.extras", _EXTRAS_FIX), allow_urls=allow_urls)
    dependencies = Field(f"{_BLOCK} dependencies", _DEPENDENCIES_FIX)
    in_block = _requirements(block.get("dependencies"), dependencies, allow_urls=allow_urls)
    uv = read_tool_uv(block.get("tool"), in_block, _moment, allow_urls=allow_urls)
    torch, extras = _split_torch([*listed, *uv.requirements])
    request = Request(
        accelerator=_accelerator(said.get("accelerator")),
        torch=_joined([_TORCH.specifier(said.get("torch")), *torch]),
        requires_python=_joined(
            [
                _python(said.get("requires-python"), Field("torch_env.requires-python", _PYTHON_FIX)),
                _python(block.get("requires-python"), Field(f"{_BLOCK} requires-python", _BLOCK_PYTHON_FIX)),
            ]
        ),
        extras=tuple(dict.fromkeys(extras)),
        exclude_newer=_moment(said.get("exclude-newer"), _NEWER) or uv.exclude_newer,
        preferred=juv_pins(uv_lock) if uv_lock and said.get("lock") is None else (),
        warnings=(*warnings, *uv.notices),
    )
    return request if said.get("lock") is None else locked(request, parse_lock(said["lock"]))


def locked(request: Request, lock: Lock) -> Request:
    """``request`` held by ``lock``, which fixes torch's public version too unless the request excludes it."""
    torch = SpecifierSet(request.torch).contains(lock.torch, prereleases=True)
    stale = why_stale(request, lock)
    return dataclasses.replace(
        request,
        torch=_joined([SpecifierSet(request.torch), SpecifierSet(f"=={lock.torch}")])
        if torch
        else request.torch,
        requires_python=_joined([SpecifierSet(request.requires_python), SpecifierSet(lock.requires_python)]),
        lock=lock,
        stale=bool(stale),
        warnings=(*request.warnings, *([f"{stale}; {_UPDATE}"] if stale else [])),
    )


def why_stale(request: Request, lock: Lock) -> str:
    """Why ``lock`` is not what would be made for ``request`` today; empty where it may be."""
    torch = SpecifierSet(request.torch).contains(lock.torch, prereleases=True)
    if not torch or lock.extras != request.extras:
        return "the lock is outdated: the extras have changed"
    if request.exclude_newer and not "" < lock.exclude_newer <= request.exclude_newer:
        return "the lock is outdated: it may hold packages that are newer than exclude-newer"
    return ""


_UPDATE = "this updates it: jupyter overlay lock NOTEBOOK"


_BLOCK = "# /// script"
_BLOCK_KEYS = ("dependencies", "requires-python", "tool")
_EXTRAS_FIX = 'write package names with optional versions, as in "extras": ["transformers>=4.44", "einops"]'
_DEPENDENCIES_FIX = (
    'write package names with optional versions, as in # dependencies = ["transformers>=4.44", "einops"]'
)
_PYTHON_FIX = 'write versions as pip does, as in "requires-python": ">=3.11"'
_BLOCK_PYTHON_FIX = 'write versions as pip does, as in # requires-python = ">=3.11"'
_WHOLE = Field("torch_env", 'write an object, as in "torch_env": {"extras": ["transformers>=4.44"]}')
_TORCH = Field("torch_env.torch", 'write versions as pip does, as in "torch": ">=2.6" or "torch": "==2.6.*"')
_ACCELERATOR = Field(
    "torch_env.accelerator", 'write "accelerator": "auto", a family such as "cuda", or a tag'
)
_NEWER = Field(
    "torch_env.exclude-newer", 'write a date or time, as in "exclude-newer": "2026-11-01T00:00:00Z"'
)


def _object(metadata: object) -> Mapping[str, object]:
    if not isinstance(metadata, Mapping):
        raise _WHOLE.refuse(f"is {kind(metadata)}, not an object: {show(metadata)}")
    _check_unread({key: value for key, value in metadata.items() if key not in KEYS})
    return metadata


def _check_unread(values: Mapping[object, object]) -> None:
    """Refuse what has no business in the block even under a key that nothing reads."""
    pending: list[tuple[str, object]] = [("torch_env", values)]
    seen = 0
    while pending:
        where, value = pending.pop()
        seen += len(value) if isinstance(value, Mapping | list | tuple) else 0
        if seen > _MAX_VALUES:
            raise _WHOLE.refuse(f"holds more than {_MAX_VALUES:,} values")
        if isinstance(value, Mapping):
            pending += [(where, str(key)) for key in value]
            pending += [(f"{where}.{str(key)[:40]}", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(f"{where}[{index}]", item) for index, item in enumerate(value)]
        elif isinstance(value, str):
            Field(where, "remove it: no setting has that name").check(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Field(where, "remove it: no setting has that name").refuse(
                f"is {value}", "NaN and Infinity are not JSON"
            )


def _script_block(blocks: Sequence[str]) -> Mapping[str, object]:
    return _parsed_block(block_that_counts(blocks)) if blocks else {}


def block_that_counts(blocks: Sequence[str]) -> str:
    """The text of the block that holds all that the others say; empty where there is none.

    ``%overlay add`` offers such a block to a notebook that has one. Raises InvalidRequest where no block
    does: PEP 723 forbids a second one.
    """
    if len(blocks) < 2:
        return "".join(blocks)
    several = Field(_BLOCK, "keep one of the blocks, with all dependencies in it")
    if len(blocks) > _MAX_BLOCKS:
        raise several.refuse(f"stands in the notebook {len(blocks):,} times; the limit is {_MAX_BLOCKS}")
    parsed = [_parsed_block(block) for block in blocks]
    for text, block in zip(blocks, parsed, strict=True):
        if all(_holds(block, other) for other in parsed):
            return text
    raise several.refuse(
        "stands in the notebook more than once", "it is unclear which one counts (PEP 723 forbids it)"
    )


def _holds(block: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether a block says all that another says."""
    listed, wanted = block.get("dependencies", []), other.get("dependencies", [])
    if not isinstance(listed, list) or not isinstance(wanted, list):
        return block == other
    rest = {key: value for key, value in other.items() if key != "dependencies"}
    return all(item in listed for item in wanted) and all(
        key in block and block[key] == value for key, value in rest.items()
    )


def _parsed_block(text: str) -> Mapping[str, object]:
    field = Field(
        _BLOCK, "write it as PEP 723 says, with one # dependencies = […] list, and close it with # ///"
    )
    if len(text) > _MAX_BLOCK:
        raise field.refuse(f"is {len(text):,} characters long; the limit is {_MAX_BLOCK:,}")
    # Imported here: most notebooks have no block, and a launch should not pay for it.
    import tomli

    try:
        block: dict[str, object] = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise field.refuse("is not valid TOML", str(error)[:200]) from error
    return block


def _unknown(said: Mapping[str, object], known: Sequence[str], where: str) -> list[str]:
    """One sentence for each key that nothing reads, a few at most."""
    keys = [str(key) for key in said if key not in known]
    return [_ignored(key, known, where) for key in keys[:_MAX_WARNINGS]] + (
        [f"{len(keys) - _MAX_WARNINGS:,} more unknown keys in {where} are ignored"]
        if len(keys) > _MAX_WARNINGS
        else []
    )


def _ignored(key: str, known: Sequence[str], where: str) -> str:
    if _OWNERS_KEYS.fullmatch(key[:MAX_LENGTH]):
        return (
            f"{where}: {show(key)} is ignored; only the owner of this machine can set it, a notebook cannot"
        )
    close = difflib.get_close_matches(key[:40], known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
    return f"{where}: unknown key {show(key)} is ignored{hint}"


_MEANT = {
    **dict.fromkeys(("gpu", "nvidia", "cuda:0", "cu", "gpus"), "cuda"),
    **dict.fromkeys(("amd", "hip", "radeon"), "rocm"),
    **dict.fromkeys(("intel", "arc"), "xpu"),
    **dict.fromkeys(("mps", "metal", "none"), "cpu"),
}
"""What people write for an accelerator, and what that is called here."""


def _accelerator(value: object) -> str:
    if value is None:
        return "auto"
    name = value.strip().lower() if isinstance(value, str) and len(value) < MAX_LENGTH else show(value)
    if name == "auto" or name in FAMILIES:
        return name
    try:
        return parse_tag(name).name
    except InvalidRequest as error:
        if meant := _MEANT.get(name):
            raise _ACCELERATOR.refuse(
                f"is {show(value)}, which does not exist; did you mean {meant!r}?"
            ) from error
        families = ", ".join(("auto", *FAMILIES))
        raise _ACCELERATOR.refuse(
            f"is {show(value)}, which does not exist", f"it can be {families}, or one tag: {error.why}"
        ) from error


def _requirements(value: object, field: Field, *, allow_urls: bool) -> list[Requirement]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise field.refuse(f"is {kind(value)}, not a list: {show(value)}")
    if len(value) > MAX_EXTRAS:
        raise field.refuse(f"has {len(value):,} entries; the limit is {MAX_EXTRAS}")
    return [field[index].requirement(item, allow_urls=allow_urls) for index, item in enumerate(value)]


def _python(value: object, field: Field) -> SpecifierSet:
    specifier = field.specifier(value)
    every = (f"3.{minor}.{micro}" for minor in range(10, 30) for micro in range(25))
    if specifier and not any(specifier.contains(version, prereleases=True) for version in every):
        raise field.refuse(f"is {show(value)}, which no Python from 3.10 on satisfies")
    return specifier


def _joined(specifiers: Iterable[SpecifierSet]) -> str:
    parts = {str(part) for specifier in specifiers for part in specifier}
    return ",".join(sorted(parts))


def _split_torch(wanted: Iterable[Requirement]) -> tuple[list[SpecifierSet], list[str]]:
    """What is asked of torch, which chooses the base, and the extras, which are installed on top.

    Torch's own extras stay behind as ``torch[opt-einsum]``. A torch with a marker stays an extra
    as it is: the marker speaks of an environment that is not chosen yet, so the resolver judges it.
    """
    torch: list[SpecifierSet] = []
    extras: list[str] = []
    for requirement in wanted:
        if canonicalize_name(requirement.name) != "torch" or requirement.marker:
            extras.append(_normal(requirement))
            continue
        torch.append(requirement.specifier)
        if requirement.extras:
            requirement.specifier = SpecifierSet()
            extras.append(_normal(requirement))
    return torch, extras


def _normal(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(map(canonicalize_name, requirement.extras)))}]" if requirement.extras else ""
    source = f" @ {requirement.url} " if requirement.url else str(requirement.specifier)
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{extras}{source}{marker}".strip()


def _moment(value: object, field: Field) -> str:
    """An RFC 3339 time in UTC; a date alone means to the end of that day in UTC, on every machine."""
    if value is None:
        return ""
    text = field.line(value)
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise field.refuse(f"is neither a date nor an RFC 3339 time: {show(text)}")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = dt.datetime(int(year), int(month), int(day), tzinfo=dt.timezone.utc)
        if hour is None:
            moment += dt.timedelta(days=1)
        else:
            moment = moment.replace(hour=int(hour), minute=int(minute), second=int(second)) - _offset(offset)
    except (ValueError, OverflowError) as error:
        raise field.refuse(f"is not a valid time: {show(text)}", str(error)) from error
    return moment.replace(tzinfo=None).isoformat() + (fraction or "") + "Z"


def _offset(text: str) -> dt.timedelta:
    if text in "Zz":
        return dt.timedelta()
    size = dt.timedelta(hours=int(text[1:3]), minutes=int(text[4:]))
    return size if text[0] == "+" else -size
