from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.errors import ResolutionFailed
from kernel_provisioner.inkernel.display import Line
from kernel_provisioner.inkernel.shared.failures import TRANSIENT_KEY, failure_lines, failure_told

LONG = "Because only einops<=0.9.0.dev0 is available and you require einops>9000, we conclude that it is not."
CONFLICT = {
    "error": "ResolutionFailed",
    "what": "the extras einops>9000 do not fit",
    "why": f"No solution found\n{LONG}",
}
WORDS = st.lists(st.text("abc-<=>.9", min_size=1, max_size=100), min_size=1).map(" ".join)
LINES = st.lists(WORDS | WORDS.map("  {}".format), min_size=1, max_size=4).map("\n".join)


@dataclasses.dataclass
class Screen:
    """In place of IPython's publisher: what a client would have on the screen."""

    published: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def publish(
        self, data: dict[str, str], metadata: dict[str, Any], *, transient: dict[str, Any], update: bool
    ) -> None:
        """Note one message."""
        self.published.append({**data, **transient, "update": update})

    @property
    def text(self) -> str:
        """What a terminal shows at last."""
        return str(self.published[-1]["text/plain"])

    @property
    def html(self) -> str:
        """What a browser shows at last."""
        return str(self.published[-1]["text/html"])


@pytest.fixture
def screen() -> Screen:
    """An empty screen."""
    return Screen()


def test_a_step_of_unknown_size_stands_there_with_the_seconds(screen: Screen) -> None:
    """The clock starts at the first step, and nothing is drawn that would move in a saved notebook."""
    line = Line(screen, clock=iter([7.0, 7.9, 9.5]).__next__)
    shown = []
    for _ in range(3):
        line.progress("Resolving einops")
        shown.append(screen.text)
    step = "Adding this notebook's packages · Resolving einops"
    assert shown == [step, step, f"{step} · 2 s"]
    assert "<progress" not in screen.html
    assert len(screen.published) == 2, "the same text is not sent twice"


def test_downloads_are_counted_in_bytes_with_their_speed(screen: Screen) -> None:
    """A count of packages says nothing of how long it will take."""
    times = iter([0.0, 2.0, 6.0])
    line = Line(screen, clock=lambda: next(times))
    line.progress("Resolving einops")
    line.progress("Downloading pandas (9.5MiB)", 2, 4, (0, 40_000_000))
    assert "0 B of 40.0 MB · Downloading" in screen.text
    line.progress("Downloaded pandas", 3, 4, (10_000_000, 40_000_000))
    assert "[######..................] 10.0 MB of 40.0 MB · 2.5 MB/s · Downloaded pandas · 6 s" in screen.text
    assert '<progress value="10000000" max="40000000"' in screen.html


def test_a_step_of_known_size_has_a_bar(screen: Screen) -> None:
    """In plain text too."""
    Line(screen, clock=lambda: 0.0).progress("Downloaded pandas", 3, 4)
    assert (
        screen.text == "Adding this notebook's packages · [##################......] 3/4 · Downloaded pandas"
    )
    assert '<progress value="3" max="4"' in screen.html


def test_every_state_takes_the_place_of_the_one_before(screen: Screen) -> None:
    """One output in the cell, whatever happens."""
    line = Line(screen)
    line.progress("Resolving")
    line.progress("Installing")
    line.settle("done")
    assert [message["update"] for message in screen.published] == [False, True, True]
    assert len({message["display_id"] for message in screen.published}) == 1
    assert screen.text == "done"


def test_the_outcome_keeps_its_lines_and_is_no_markup(screen: Screen) -> None:
    """What a notebook names cannot put anything into the page."""
    Line(screen).settle("<b>one</b>\ntwo")
    assert "&lt;b&gt;one&lt;/b&gt;<br>two" in screen.html
    assert screen.text == "<b>one</b>\ntwo"


def test_a_program_that_listens_hears_no_bar_and_no_clock(screen: Screen) -> None:
    """Steps and outcome in ``transient``, which no notebook keeps."""
    line = Line(screen, clock=itertools.count().__next__)
    line.progress("Downloaded pandas", 3, 4)
    line.progress("Checking every file")
    line.settle("done")
    heard = [message[TRANSIENT_KEY] for message in screen.published]
    assert heard == [
        {"step": "Downloaded pandas (3/4)"},
        {"step": "Checking every file"},
        {"outcome": "done"},
    ]


def test_many_extras_do_not_fill_the_cell(screen: Screen) -> None:
    """A long step is cut, and shows that it is."""
    Line(screen, clock=lambda: 0.0).progress("Resolving " + ", ".join(f"package-{n}" for n in range(99)))
    assert len(screen.text) < 140
    assert screen.text.endswith("…")


def test_a_failure_is_broken_between_words_under_its_label() -> None:
    """No line is wider than a terminal, and why and fix stand out."""
    shown = "\n".join(
        failure_lines({**CONFLICT, "fix": "change it with\n  jupyter overlay add NOTEBOOK PKG"})
    )
    assert shown == (
        "\x1b[31mResolutionFailed\x1b[0m: the extras einops>9000 do not fit\n"
        "  \x1b[1mwhy\x1b[0m: No solution found\n"
        "       Because only einops<=0.9.0.dev0 is available and you require einops>9000,\n"
        "       we conclude that it is not.\n"
        "  \x1b[1mfix\x1b[0m: change it with\n"
        "         jupyter overlay add NOTEBOOK PKG"
    )


def test_a_command_is_never_broken() -> None:
    """An indented line is to be copied as it is."""
    command = "  jupyter overlay add " + "a-notebook-with-a-long-name " * 5
    assert failure_lines({**CONFLICT, "fix": f"type\n{command}"})[-1].strip() == command.strip()


@given(what=LINES, why=LINES, fix=LINES)
def test_a_failure_can_be_read_back_from_its_traceback(what: str, why: str, fix: str) -> None:
    """What the kernel told, ``jupyter overlay run`` tells again in its own way."""
    told = ResolutionFailed(what, why=why, fix=fix).as_dict()
    assert failure_told("ResolutionFailed", what, failure_lines(told)) == told


def test_an_error_of_the_users_code_is_no_failure_of_ours() -> None:
    """Even one of the same name."""
    assert failure_told("ResolutionFailed", "no", ["Traceback (most recent call last)", "…"]) is None
