"""Notebooks that are damaged at random, starting from every value that is known to be awkward."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from . import bad_notebooks as bad

_SCRIPTS = (
    '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["einops>=0.8", "torch"]\n# ///\n',
    "# /// script\n# dependencies = [0xff, 1979-05-27T07:32:00Z, nan]\n# [tool.uv]\n# a.b.c = 1\n# ///\n",
    '# /// script\n# dependencies = [\n#   \'a; python_version < "3.12"\',\n#   """b""",\n# ]\n# ///\n',
)
_LOCK = {
    "lock-version": "1.0",
    "created-by": "kernel-provisioner",
    "requires-python": ">=3.10",
    "packages": [
        {
            "name": "einops",
            "version": "0.8.0",
            "wheels": [{"name": "einops-0.8.0-py3-none-any.whl", "hashes": {"sha256": "ab" * 32}}],
        }
    ],
    "tool": {
        "torch-overlay": {
            "extras": ["einops"],
            "exclude-newer": "",
            "torch": "2.6.0",
            "base-provided": ["pip"],
        }
    },
}
_JUV = '[[package]]\nname = "einops"\nversion = "0.8"\nsource = { registry = "https://index.example" }\n'


def _seeds() -> tuple[bytes, ...]:
    tables = (bad.REFUSED, bad.HELD, bad.ACCEPTED, bad.IGNORED, bad.TOLD)
    known = [*bad.SILENT.values(), *(row[0] for table in tables for row in table.values())]
    block = {
        "accelerator": "auto", "torch": ">=2.6", "requires-python": ">=3.11", "extras": ["einops>=0.7; x"],
        "exclude-newer": "2026-11-01T00:00:00Z", "lock": _LOCK,
    }  # fmt: skip
    metadata = {"torch_env": block, "uv.lock": _JUV}
    whole = {**json.loads(bad.scripts(_SCRIPTS[0])), "metadata": metadata}
    own = [bad.scripts(script) for script in _SCRIPTS]
    own += [bad.notebook({**block, "extras": ["einops"]}), json.dumps(whole, indent=1).encode()]
    # Megabytes are for the tests of memory and time; here they would drown what is found in them.
    return tuple(content[:20_000] for content in (*known, *own) if isinstance(content, bytes))


SEEDS = _seeds()
_TOKENS = (
    b'"', b"\\", b'\\"', b"\\\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5000,
    b"0x" + b"f" * 5000, b"\\ud800", b"\\udc00", b"\\u0000", b"\\n", "\u202e".encode(), "\u0456".encode(),
    "\U0001f600".encode(), b"${HOME}", b"://", b"git+ssh://x", b"-e .", b"--index-url", b"../", b"~", b";",
    b"===", b"@", b"#", b"# ///", b"# /// script", b"'''", b'"""', b'"torch_env":', b'"metadata":',
    b'"cells":', b'"source":', b'"cell_type":"code",', b'"uv.lock":', b'"lock":', b'"extras":',
    b"[" * 2000, b'{"a":' * 500, b"a." * 500, b"(" * 300,
)  # fmt: skip


_KEYS = (
    "torch_env", "metadata", "cells", "source", "extras", "lock", "accelerator", "packages", "wheels",
    "hashes", "name", "version", "tool", "requires-python", "exclude-newer", "torch", "uv.lock", "", "index",
    "${A}",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1e308, float("nan"), "", " ", "\ud800", "a" * 600, [], {}, [[]], [None],
    {"": {}}, "torch", "torch==1", "einops", "cu999", "../../x", "2026-13-45", "1.0+local", "${HOME}",
    ["einops"] * 300,
)  # fmt: skip


def _documents() -> tuple[bytes, ...]:
    found = []
    for seed in SEEDS:
        try:
            value = json.loads(seed)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            found.append(seed)
    return tuple(found)


_DOCUMENTS = _documents()


def mutated(random: Random) -> bytes:
    """A seed that was changed a few times: in its text, or, so that it is JSON still, in its values."""
    return _changed_text(random) if random.random() < 0.4 else _changed_values(random)


def _changed_values(random: Random) -> bytes:
    """Values put in the place of others, keys renamed, strings damaged."""
    document = json.loads(random.choice(_DOCUMENTS))
    for _ in range(random.randint(1, 4)):
        place: Any = document
        while True:
            inside = [key for key, value in _items(place) if isinstance(value, dict | list) and value]
            if not inside or random.random() < 0.2:
                break
            place = place[random.choice(inside)]
        if not place:
            continue
        key = random.choice([key for key, _ in _items(place)])
        how = random.randint(0, 4)
        if how == 0:
            place[key] = copy.deepcopy(random.choice(_VALUES))
        elif how == 1 and isinstance(place, dict):
            place[random.choice(_KEYS)] = place.pop(key)
        elif how == 2 and isinstance(place, list):
            place.extend([copy.deepcopy(place[key])] * random.choice((1, 300)))
        elif isinstance(place[key], str):
            token = random.choice(_TOKENS).decode("utf-8", "replace")
            at = random.randint(0, len(place[key]))
            place[key] = place[key][:at] + token + place[key][at:]
        else:
            place[key] = [place[key]]
    return json.dumps(document).encode()


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def _changed_text(random: Random) -> bytes:
    """Up to six changes: bytes cut, doubled, repeated, flipped, put in, or taken from another seed."""
    data = random.choice(SEEDS)
    for _ in range(random.randint(0, 6)):
        start = random.randint(0, len(data))
        end = min(len(data), start + random.choice((1, 2, 8, 64, 1024)))
        part = data[start:end]
        how = random.randint(0, 6)
        if how == 0:
            part = b""
        elif how == 1:
            part *= random.choice((2, 3, 50))
        elif how == 2:
            part = bytes(byte ^ 1 << random.randint(0, 7) for byte in part[:1]) + part[1:]
        elif how == 3:
            other = random.choice(SEEDS)
            at = random.randint(0, len(other))
            part = other[at : at + random.choice((8, 64, 1024))]
        elif how == 4:
            end = len(data) if random.random() < 0.2 else end
            part = b""
        else:
            part = random.choice(_TOKENS) + (part if how == 5 else b"")
        data = (data[:start] + part + data[end:])[:60_000]
    return data
