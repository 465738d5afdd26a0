"""A notebook's lock: what is right comes back as it was, the rest is refused by the name of its field."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.lock import MAX_FILES, Lock, juv_pins, parse_lock
from kernel_provisioner.model.request import parse_request

A, B = "a" * 64, "b" * 64
GOOD: dict[str, Any] = {
    "lock-version": "1.0",
    "created-by": "kernel-provisioner",
    "requires-python": ">=3.11",
    "packages": [
        {
            "name": "einops",
            "version": "0.8.1",
            "sdist": {"name": "einops-0.8.1.tar.gz", "hashes": {"sha256": B}},
            "wheels": [{"name": "einops-0.8.1-py3-none-any.whl", "hashes": {"sha256": A}}],
        },
        {"name": "torchvision", "version": "0.28.0"},
    ],
    "tool": {
        "torch-overlay": {
            "extras": ["einops", "torchvision"],
            "exclude-newer": "",
            "torch": "2.13.0",
            "base-provided": ["numpy"],
        }
    },
}
EXTRAS = {"extras": ["einops", "torchvision"]}
WHEEL = ("packages", 0, "wheels", 0)


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The good lock with another value at ``path``."""
    lock = copy.deepcopy(GOOD)
    place: Any = lock
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return lock


def test_a_lock_is_read_and_written_back_as_it_was() -> None:
    """Nothing is lost, and the same lock has the same digest."""
    lock = parse_lock(json.loads(json.dumps(GOOD)))
    assert lock.as_dict() == GOOD
    assert lock.pins == {"einops": "0.8.1", "torchvision": "0.28.0"}
    assert lock.digest() == parse_lock(lock.as_dict()).digest()


# What is wrong, the value, and the field that is named, below torch_env.lock.
BAD: dict[str, tuple[object, str]] = {
    "no object": ("pylock", ""),
    "a list": ([], ""),
    "an index": ({**GOOD, "index": "https://evil.example"}, ""),
    "no version": (changed(("lock-version",), None), ".lock-version"),
    "a later version": (changed(("lock-version",), "2.0"), ".lock-version"),
    "no tool": (changed(("tool",), {}), ".tool.torch-overlay"),
    "no extras": (changed(("tool", "torch-overlay", "extras"), None), ".tool.torch-overlay.extras"),
    "torch's build": (changed(("tool", "torch-overlay", "torch"), "2.13.0+cpu"), ".tool.torch-overlay.torch"),
    "a wrong Python": (changed(("requires-python",), "three"), ".requires-python"),
    "packages as an object": (changed(("packages",), {}), ".packages"),
    "too many packages": (changed(("packages",), [{}] * 513), ".packages"),
    "too many files": (changed(("packages", 0, "wheels"), [{}] * (MAX_FILES + 1)), ".packages[0].wheels"),
    "a package twice": (changed(("packages", 1), GOOD["packages"][0]), ".packages[1]"),
    "a name with a path": (changed(("packages", 0, "name"), "../einops"), ".packages[0].name"),
    "a name in capitals": (changed(("packages", 0, "name"), "Einops"), ".packages[0].name"),
    "an option": (changed(("packages", 0, "name"), "-r"), ".packages[0].name"),
    "a range": (changed(("packages", 0, "version"), ">=1"), ".packages[0].version"),
    "a line break": (changed(("packages", 0, "version"), "1.0\n--index-url x"), ".packages[0].version"),
    "a variable": (changed(("packages", 0, "version"), "${HOME}"), ".packages[0].version"),
    "a URL": (changed((*WHEEL, "url"), "https://evil.example/x.whl"), ".packages[0].wheels[0]"),
    "a package's path": (changed(("packages", 0, "directory"), {"path": "/"}), ".packages[0]"),
    "a file with a path": (
        changed((*WHEEL, "name"), "../einops-1-py3-none-any.whl"),
        ".packages[0].wheels[0]",
    ),
    "another's file": (changed((*WHEEL, "name"), "torch-1-py3-none-any.whl"), ".packages[0].wheels[0]"),
    "no file": (changed(("packages", 0), {"name": "einops", "version": "1"}), ".packages[0]"),
    "no hash": (changed((*WHEEL, "hashes"), {}), ".packages[0].wheels[0].hashes.sha256"),
    "a weak hash": (changed((*WHEEL, "hashes"), {"md5": "0" * 32}), ".packages[0].wheels[0].hashes"),
    "a short hash": (changed((*WHEEL, "hashes", "sha256"), A[:63]), ".packages[0].wheels[0].hashes.sha256"),
    "a number as hash": (changed((*WHEEL, "hashes", "sha256"), 1), ".packages[0].wheels[0].hashes.sha256"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_lock_is_refused_by_the_name_of_the_field(case: str) -> None:
    """And with the command that fixes it."""
    value, field = BAD[case][0], f"torch_env.lock{BAD[case][1]}"
    with pytest.raises(InvalidRequest) as caught:
        parse_request({**EXTRAS, "lock": value})
    assert caught.value.field == field
    assert caught.value.what.startswith(field)
    assert "jupyter overlay lock NOTEBOOK" in caught.value.fix


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["1.0", "einops", A]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "version", "wheels", "hashes", "packages", "tool"]), inner)
    ),
    max_leaves=12,
)


@given(key=st.sampled_from(sorted(GOOD)), value=JSON)
def test_any_value_at_all_gives_a_lock_or_a_refusal(key: str, value: object) -> None:
    """Never another exception."""
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse_lock({**GOOD, key: value}), Lock)


def test_a_lock_fixes_torch_and_python_for_the_choice_of_the_base() -> None:
    """They join what the notebook asks for itself."""
    request = parse_request({**EXTRAS, "torch": ">=2.6", "lock": GOOD})
    assert (request.torch, request.requires_python) == ("==2.13.0,>=2.6", ">=3.11")
    assert not request.stale
    assert request.warnings == ()


@pytest.mark.parametrize(
    ("said", "torch"), [({"extras": ["einops"]}, "==2.13.0"), ({**EXTRAS, "torch": "<2"}, "<2")]
)
def test_a_lock_for_something_else_is_stale_and_said_so_in_a_line(said: dict[str, Any], torch: str) -> None:
    """Torch is fixed only where the notebook does not exclude that version."""
    request = parse_request({**said, "lock": GOOD})
    assert request.stale
    assert request.torch == torch
    (line,) = request.warnings
    assert re.match("the lock is outdated: the extras have changed.*jupyter overlay lock NOTEBOOK", line)


def test_another_lock_is_another_request() -> None:
    """So that a changed lock builds again."""
    other = changed((*WHEEL, "hashes", "sha256"), B)
    requests = [parse_request({**EXTRAS, "lock": lock}) for lock in (GOOD, other, None)]
    assert len({request.digest() for request in requests}) == 3


JUV = """version = 1

[[package]]
name = "einops"
version = "0.8.1"
source = { registry = "https://index.example/simple" }

[[package]]
name = "forked"
version = "1.0"
source = { registry = "https://index.example/simple" }

[[package]]
name = "forked"
version = "2.0"
source = { registry = "https://index.example/simple" }

[[package]]
name = "here"
version = "1.0"
source = { directory = "." }

[[package]]
name = "torch"
version = "2.5.1"
source = { registry = "https://index.example/simple" }

[[package]]
name = "torchvision"
version = "0.21.0+cu124"
source = { registry = "https://download.pytorch.org/whl/cu124" }
"""


def test_of_juvs_lock_the_versions_from_indexes_are_read() -> None:
    """Torch is the base's; what has two versions, or comes from a directory, says nothing here."""
    request = parse_request(EXTRAS, uv_lock=JUV)
    assert request.preferred == ("einops==0.8.1", "torchvision==0.21.0")
    assert parse_request({**EXTRAS, "lock": GOOD}, uv_lock=JUV).preferred == ()


@given(st.text() | st.text(alphabet='[]package\n= "name').map(lambda text: JUV + text))
def test_any_text_at_all_may_stand_for_juvs_lock(text: str) -> None:
    """What comes out are pins, whatever went in."""
    assert all(re.fullmatch(r"[a-z0-9._-]+==\S+", pin) for pin in juv_pins(text))
