"""Spaces that are a list of given architectures."""

from __future__ import annotations

import random

import pytest
from transformers import GPT2Config, PreTrainedConfig

from lpzero_hf.benchmarks.held_out import marks_of
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.spaces.base import Architecture
from lpzero_hf.spaces.listed import ListedMember, ListedSpace

WIDTHS = (12, 24, 36, 48)


def member(width: int) -> ListedMember:
    def build() -> PreTrainedConfig:
        return GPT2Config(n_embd=width, n_head=2, n_layer=1)

    return ListedMember(build, {"model_type": "gpt2", "n_embd": width})


SPACE = ListedSpace(name="widths", listing={f"d{width}": member(width) for width in WIDTHS})


def test_every_member_is_named_parsed_and_built() -> None:
    assert (SPACE.size(), SPACE.count().exact) == (4, True)
    for width in WIDTHS:
        architecture = SPACE.parse(f" d{width} ")
        assert SPACE.text(architecture) == f"d{width}"
        assert SPACE.config(architecture).n_embd == width


def test_all_members_are_drawn_and_no_others() -> None:
    rng = random.Random(0)
    assert {SPACE.text(SPACE.sample(rng, by)) for by in ("choice", "architecture") for _ in range(50)} == {
        "d12", "d24", "d36", "d48"
    }  # fmt: skip
    assert len(set(SPACE.samples(4))) == 4
    with pytest.raises(UsageError, match="only 4 architectures"):
        SPACE.samples(5)


def test_an_architecture_is_put_together_by_its_name() -> None:
    (name,) = SPACE.parameters()
    asked = []

    def pick(parameter: str, values: list[str]) -> str:
        asked.append((parameter, list(values)))
        return values[2]

    assert SPACE.text(SPACE.assemble(pick)) == "d36"
    assert asked == [(name, SPACE.parameters()[name])]


@pytest.mark.parametrize(
    "wrong", [Architecture(("d13",)), Architecture(()), Architecture(("d12",), ((),)), Architecture((12,))]
)
def test_what_is_not_in_the_list_is_refused(wrong: Architecture) -> None:
    with pytest.raises(UsageError, match="widths"):
        SPACE.check(wrong)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        SPACE.parse("d488")


def test_the_list_is_read_when_it_is_needed_and_once() -> None:
    read = []

    def listing() -> dict[str, ListedMember]:
        read.append(1)
        return {"d12": member(12)}

    space = ListedSpace(name="lazy", listing=listing)
    assert (space.name, read) == ("lazy", [])
    assert (space.size(), space.parse("d12").shared, read) == (1, ("d12",), [1])


def test_nothing_is_built_before_it_is_asked_for() -> None:
    def fails() -> PreTrainedConfig:
        raise LpzError("built")

    space = ListedSpace(name="broken", listing={"one": ListedMember(fails)})
    architecture = space.sample(random.Random(0))
    with pytest.raises(LpzError, match="built"):
        space.config(architecture)


def test_members_are_known_by_what_they_are_made_of_and_not_by_their_names() -> None:
    other = ListedSpace(name="widths", listing={"d12": member(24), "wide": member(48)})
    mine = {name: marks_of(SPACE, SPACE.parse(name)) for name in ("d12", "d24", "d48")}
    assert mine["d12"].isdisjoint(marks_of(other, other.parse("d12")))
    assert mine["d24"] == marks_of(other, other.parse("d12"))
    assert mine["d48"] == marks_of(other, other.parse("wide"))
