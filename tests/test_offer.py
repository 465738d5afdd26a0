"""What is offered for what was added: a cell that a notebook can keep beside what it says already."""

from __future__ import annotations

from kernel_provisioner.builder.offer import offer_of
from kernel_provisioner.model.request import parse_request
from kernel_provisioner.notebook.script import find_blocks

BLOCK = 'requires-python = ">=3.11"  # as uv wrote it\ndependencies = [\n    "einops",\n]'


def test_a_notebook_without_a_block_is_offered_what_is_new() -> None:
    """Whatever its metadata declare besides."""
    offer = offer_of("", ["timm"], ["humanize"], ["humanize"])
    assert offer.cell == '# /// script\n# dependencies = ["humanize"]\n# ///'
    assert not offer.earlier


def test_the_cell_holds_what_the_notebooks_block_and_earlier_offers_hold() -> None:
    """So that the notebook can keep all of them, or the last one alone."""
    offer = offer_of(BLOCK, ["einops"], ["first", "second>=2"], ["second>=2"])
    (block,) = find_blocks(offer.cell)
    assert "# as uv wrote it" in block
    assert offer.earlier
    for blocks in ([BLOCK, block], [block]):
        assert parse_request(None, blocks).extras == ("einops", "first", "second>=2")


def test_another_version_than_declared_is_a_change_and_no_cell() -> None:
    """A second block with another version would leave it open which one counts."""
    offer = offer_of(BLOCK, ["einops"], ["einops<0.8", "humanize"], ["einops<0.8", "humanize"])
    assert offer.changes == ("einops<0.8",)
    assert parse_request(None, find_blocks(offer.cell)).extras == ("einops", "humanize")
    assert offer_of(BLOCK, ["einops"], ["einops<0.8"], ["einops<0.8"]).cell == ""


def test_a_text_notebook_is_offered_a_command_and_no_cell() -> None:
    """Its file may hold one block only, whatever stands in unsaved cells: the command merges what is new."""
    for script in ("", BLOCK):
        offer = offer_of(script, ["einops"], ["first", "einops<0.8"], ["einops<0.8"], text=True)
        assert (offer.cell, offer.changes) == ("", ("first", "einops<0.8"))
