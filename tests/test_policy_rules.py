"""The rules: what each allows, how layers hold together, and what a refusal says; pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError
from traitlets.config import Config

from kernel_provisioner.errors import NotAllowed, ResolutionFailed
from kernel_provisioner.policy import OPEN, Layer, Policy
from kernel_provisioner.policy.traits import TorchPolicy, layer_of
from kernel_provisioner.policy.values import seconds_of

ADMIN, USER = "/etc/jupyter/jupyter_overlay_config.py", "/home/ada/.jupyter/jupyter_overlay_config.py"

NAMES = st.lists(st.sampled_from(["einops", "requests", "req*", "*", "acme-*", "acme-core"]), max_size=3)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "allowed": NAMES,
        "denied": NAMES,
        "allow_urls": st.lists(st.sampled_from(["https://a.example/", "https://a.example/w"]), max_size=2),
        "source_builds": st.sampled_from(["never", "after-first-cell"]) | NAMES,
        "pins": st.sampled_from(["stack", "all"]),
        "cooldown": st.sampled_from(["", "3 days", "P7D"]),
        "locked_only": st.booleans(),
        "max_packages": st.integers(0, 5),
        "max_bytes": st.integers(0, 5000),
        "max_seconds": st.floats(0, 100),
        "offline": st.booleans(),
    },
)
EXTRAS = st.lists(
    st.sampled_from(["einops>=0.8", "requests", "acme-core", "whl @ https://a.example/w/x.whl",
                     "whl @ https://a.example/x.whl", "whl @ https://b.example/x.whl"]), max_size=4,
)  # fmt: skip


def policy_of(*layers: dict[str, Any]) -> Policy:
    """A policy of these layers; the first is the administrator's, the next the user's."""
    return Policy(
        tuple(Layer(source, rules) for source, rules in zip((ADMIN, USER, "more"), layers, strict=False))
    )


def forbids(policy: Policy, extras: list[str], size: int) -> bool:
    """Whether anything of this request and its plan is refused."""
    try:
        policy.refuse_extras(extras)
        policy.refuse_plan([extra.split()[0].split(">")[0] for extra in extras], extras)
        policy.refuse_bytes(size, "it is")
        policy.refuse_unlocked()
    except NotAllowed:
        return True
    return False


@given(RULES, RULES, EXTRAS, st.integers(0, 6000))
def test_no_layer_loosens_another(
    one: dict[str, Any], two: dict[str, Any], extras: list[str], size: int
) -> None:
    """What either of two forbids, both together forbid, in either order; and they forbid nothing else."""
    either = forbids(policy_of(one), extras, size) or forbids(policy_of(two), extras, size)
    for both in (policy_of(one, two), policy_of(two, one)):
        assert forbids(both, extras, size) is either
        for single in (policy_of(one), policy_of(two)):
            assert both.offline >= single.offline
            assert both.locked_only >= single.locked_only
            assert both.cooldown >= single.cooldown
            assert (both.pins, single.pins) != ("stack", "all")
            assert single.builds or not both.builds
            if single.buildable is not None:
                assert both.buildable is not None
                assert set(both.buildable) <= set(single.buildable)
            for most in ("max_bytes", "max_seconds"):
                own, joint = getattr(single, most), getattr(both, most)
                assert own is None or joint <= own


@given(RULES, RULES)
def test_a_policy_survives_json_and_its_order_does_not_depend_on_whose_layer_is_whose(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    """The launch hands it to the builder; a file that moves makes no overlay again."""
    policy = policy_of(one, two)
    assert Policy.from_list(json.loads(json.dumps(policy.as_list()))) == policy
    elsewhere = Policy(tuple(Layer("elsewhere", layer.rules) for layer in policy.layers))
    assert elsewhere.spec() == policy.spec()


@given(EXTRAS, st.integers(0, 10**12))
def test_without_a_rule_nothing_is_refused(extras: list[str], size: int) -> None:
    """A single user meets no policy; URLs are refused before, by the request itself."""
    assert not forbids(OPEN, extras, size)
    assert (OPEN.spec(), OPEN.urls, OPEN.template("https://m/{tag}")) == ({}, False, "https://m/{tag}")


@pytest.mark.parametrize(
    ("rules", "names", "refused"),
    [
        ({"denied": ["requests"]}, ["einops"], ""),
        ({"denied": ["requests"]}, ["einops", "requests"], "requests"),
        ({"denied": ["req*"]}, ["requests"], "requests"),
        ({"denied": ["acme-*"]}, ["acme"], ""),
        ({"allowed": ["einops"]}, ["einops"], ""),
        ({"allowed": ["einops"]}, ["einops", "requests"], "requests"),
        ({"allowed": []}, ["einops"], "einops"),
        ({"allowed": ["*"], "denied": ["einops"]}, ["einops"], "einops"),
        ({"allowed": ["acme-?"]}, ["acme-1"], ""),
    ],
)
def test_names_are_judged_from_the_plan(rules: dict[str, Any], names: list[str], refused: str) -> None:
    """Patterns as in a shell; what is denied comes before what is allowed."""
    if not refused:
        policy_of(rules).refuse_plan(names, names)
        return
    with pytest.raises(NotAllowed, match=f'"{refused}" is not allowed'):
        policy_of(rules).refuse_plan(names, names)


def test_a_refusal_says_which_rule_in_which_file_and_whom_to_ask() -> None:
    """A person who has never seen the program can act on it."""
    policy = policy_of({"denied": ["requests*"], "contact": "help@lab.example"})
    with pytest.raises(NotAllowed) as refused:
        policy.refuse_extras(["requests>=2"])
    assert refused.value.what == '"requests" is not allowed on this system'
    assert refused.value.why == f'rule denied = ["requests*"] in {ADMIN}'
    assert "torch_env.extras" in refused.value.fix
    assert "ask help@lab.example" in refused.value.fix
    with pytest.raises(NotAllowed) as transitive:
        policy.refuse_plan(["einops", "requests"], ["einops"])
    assert "which the extras need" in transitive.value.what


def test_whom_to_ask_is_whoever_is_named_anywhere() -> None:
    """The rule's own file first, then another's, then nobody in particular."""
    asked = [
        policy_of({"denied": ["*"], "contact": "ann"}, {"contact": "ben"}),
        policy_of({"denied": ["*"]}, {"contact": "ben"}),
        policy_of({"denied": ["*"]}),
    ]
    said = []
    for policy in asked:
        with pytest.raises(NotAllowed) as refused:
            policy.refuse_extras(["einops"])
        said.append(refused.value.fix.rpartition("ask ")[2])
    assert said == ["ann", "ben", "the administrator of this system"]


def test_what_the_base_has_need_not_be_allowed() -> None:
    """Only what is installed is judged; the plan says whether a base package is replaced."""
    policy = policy_of({"allowed": ["einops"]})
    policy.refuse_extras(["einops", "numpy>=1"], ["numpy", "torch"])
    with pytest.raises(NotAllowed, match="numpy"):
        policy.refuse_plan(["numpy"], ["numpy>=1"])


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://wheels.lab.example/a/x.whl", True),
        ("https://wheels.lab.example/a", True),
        ("https://WHEELS.lab.example/a/x.whl#sha256=0", True),
        ("https://wheels.lab.example/ab/x.whl", False),
        ("https://wheels.lab.example/a/../b/x.whl", False),
        ("https://wheels.lab.example/a/%2e%2e/b/x.whl", False),
        ("https://wheels.lab.example/a/%252e%252e/b/x.whl", False),
        ("https://wheels.lab.example/a/..\\b/x.whl", False),
        ("http://wheels.lab.example/a/x.whl", False),
        ("https://wheels.lab.example.evil.example/a/x.whl", False),
        ("https://wheels.lab.example@evil.example/a/x.whl", False),
        ("https://wheels.lab.example:8443/a/x.whl", False),
        ("git+https://wheels.lab.example/a/x.git", False),
    ],
)
def test_a_url_lies_below_an_allowed_one_or_is_refused(url: str, fine: bool) -> None:
    """Scheme, host, port and path, not letters that happen to be the same."""
    policy = policy_of({"allow_urls": ["https://wheels.lab.example/a/"]})
    assert policy.urls
    assert forbids(policy, [f"x @ {url}"], 0) is not fine


def test_indexes_of_two_layers_are_those_of_both() -> None:
    """In the first one's order; the settings' own PyTorch index counts only where it is among them."""
    first = ["https://a/simple", "https://b/simple/", "https://a/whl/{tag}", "https://b/whl/{tag}"]
    policy = policy_of({"indexes": first}, {"indexes": ["https://b/simple", "https://a/whl/{tag}"]})
    assert policy.indexes == ("https://b/simple",)
    assert policy.template("https://download.pytorch.org/whl/{tag}") == "https://a/whl/{tag}"
    assert policy_of({"indexes": first}).template("https://b/whl/{tag}") == "https://b/whl/{tag}"


@pytest.mark.parametrize(
    "layers",
    [
        [{"indexes": []}],
        [{"indexes": ["https://a/simple"]}],
        [{"indexes": ["https://a/whl/{tag}"]}],
        [{"indexes": ["https://a/simple", "https://a/whl/{tag}"]}, {"indexes": ["https://b/simple"]}],
    ],
)
def test_indexes_that_leave_nothing_are_an_error_and_not_everything(layers: list[dict[str, Any]]) -> None:
    """The message names the files."""
    with pytest.raises(ValueError, match="jupyter_overlay_config"):
        policy_of(*layers).template("https://download.pytorch.org/whl/{tag}")


def test_a_rule_that_forbids_nothing_makes_no_overlay_anew() -> None:
    """Nor does one of the moment; one that forbids does, an empty list or a nought too."""
    idle = {"source_builds": "after-first-cell", "pins": "stack", "cooldown": "", "locked_only": False}
    assert (
        policy_of({**idle, "offline": True, "max_seconds": 1.0, "contact": "ann", "own_bases": False}).spec()
        == {}
    )
    assert policy_of({"allowed": [], "max_packages": 0}).spec() == {"allowed": [[]], "max_packages": [0]}


def test_where_users_make_no_bases_the_contact_is_named() -> None:
    """That of the file which says so, before another's."""
    assert policy_of({"contact": "ann"}).asked_for_bases == ""
    policy = policy_of({"contact": "ann"}, {"own_bases": False, "contact": "ben"})
    assert policy.asked_for_bases == "ben"
    with pytest.raises(NotAllowed) as caught:
        policy.refuse_own_bases()
    assert caught.value.fix.endswith("or ask ben")
    policy_of({"own_bases": True}).refuse_own_bases()


def test_what_may_be_built_is_what_all_layers_let_be_built() -> None:
    """Lists are intersected; never wins."""
    assert policy_of({"source_builds": ["a", "b"]}, {"source_builds": ["b", "c"]}).buildable == ("b",)
    assert policy_of({"source_builds": ["a"]}, {"source_builds": "after-first-cell"}).buildable == ("a",)
    assert policy_of({"source_builds": ["a"]}, {"source_builds": "never"}).builds is False
    assert policy_of({"source_builds": "after-first-cell"}).buildable is None


def test_a_resolution_that_fails_for_a_rule_names_it() -> None:
    """Only for a rule that can have to do with it."""
    policy = policy_of({"cooldown": "7 days", "source_builds": "never", "contact": "ann"})
    plain = ResolutionFailed("no", why="a==1 and a==2 conflict", fix="change it")
    assert policy.explained(plain, wants_source=False, wants_newer=False) is plain
    assert "rule cooldown" in policy.explained(plain, wants_source=False, wants_newer=True).why
    source = policy.explained(plain, wants_source=True, wants_newer=False)
    assert 'rule source_builds = "never"' in source.why
    assert source.fix == "change it;\nor ask ann for what the rule forbids"


@pytest.mark.parametrize(
    ("text", "hours"),
    [("", 0), ("7 days", 168), ("1 day", 24), ("36 hours", 36), ("2weeks", 336), ("P7D", 168), ("PT36H", 36),
     ("P1W", 168), ("P1DT12H", 36)],
)  # fmt: skip
def test_a_span_of_time_is_read_as_uv_reads_it(text: str, hours: int) -> None:
    """Words and ISO 8601."""
    assert seconds_of(text) == hours * 3600


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"alowed": ["a"]}, "did you mean allowed"),
        ({"cooldown": "a while"}, "not a time span"),
        ({"cooldown": "P"}, "not a time span"),
        ({"pins": "none"}, "pins"),
        ({"source_builds": "always"}, "source_builds"),
        ({"offline": "maybe"}, "offline"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"max_packages": "many"}, "max_packages"),
        ({"denied": [""]}, "empty name"),
        ({"denied": ["tensorflow, jaxlib"]}, "holds 'tensorflow, jaxlib'; write names"),
        ({"allowed": ["numpy>=2"]}, "without versions"),
        ({"source_builds": ["flash-attn,xformers"]}, "each in quotes of its own"),
        ({"indexes": ["mirror"]}, "not a URL"),
        ({"allow_urls": ["wheels.lab.example"]}, "not a URL"),
        ({"indexes": ["https://me:secret@m/simple"]}, "password for m"),
    ],
)
def test_a_rule_that_is_misspelt_or_mistaken_is_refused(rules: dict[str, Any], said: str) -> None:
    """A policy that cannot be read must not be one that is not there."""
    with pytest.raises(TraitError, match=said):
        layer_of(Config(TorchPolicy=rules), ADMIN)


def test_names_are_compared_as_packages_are() -> None:
    """However they are written in the file."""
    layer = layer_of(Config(TorchPolicy={"denied": ["My_Pkg", "Acme.*"], "source_builds": ["My_Pkg"]}), ADMIN)
    assert layer is not None
    assert layer.rules == {"denied": ["my-pkg", "acme-*"], "source_builds": ["my-pkg"]}
    layer = layer_of(Config(TorchPolicy={"denied": ["Acme_[A-C].x"]}), ADMIN)
    assert layer is not None
    with pytest.raises(NotAllowed):
        Policy((layer,)).refuse_extras(["acme-b-x"])


def test_what_a_file_does_not_set_it_leaves_to_others() -> None:
    """An empty list is a rule, an absent one is none."""
    assert layer_of(Config(TorchOverlay={"preference": "cpu"}), ADMIN) is None
    layer = layer_of(Config(TorchPolicy={"allowed": []}), ADMIN)
    assert layer == Layer(ADMIN, {"allowed": []})
    assert set(TorchPolicy.class_trait_names(config=True)) >= {"allowed", "contact"}
