"""From an architecture back to the named values that assemble it."""

from __future__ import annotations

import random

import pytest

from lpzero_hf import ListedMember, ListedSpace, load_space
from lpzero_hf.errors import UsageError

SPACES = ["tiny-gpt2", "flexibert", "gpt2", "gemstones", "llama", "hybrid", "bert", "mamba2"]


def listed() -> ListedSpace:
    from transformers import GPT2Config

    sizes = {"small": 32, "large": 64}
    return ListedSpace(
        name="two",
        listing={
            name: ListedMember(lambda n=n: GPT2Config(n_embd=n, n_head=2, n_layer=1, vocab_size=50257))
            for name, n in sizes.items()
        },
    )


@pytest.mark.parametrize("name", SPACES)
def test_the_named_values_of_an_architecture_assemble_it(name: str) -> None:
    space = load_space(name)
    for seed in range(5):
        wanted = space.sample(random.Random(seed), "choice")
        values, asked = space.named_values(wanted), []
        assert space.assemble(lambda one, _: asked.append(one) or values[one]) == wanted  # noqa: B023
        assert asked == list(values)
        assert set(values) <= set(space.parameters())


def test_the_named_values_of_a_list_are_its_name() -> None:
    space = listed()
    assert list(space.named_values(space.parse("small")).values()) == ["small"]
    with pytest.raises(UsageError):
        space.named_values(load_space("tiny-gpt2").samples(1)[0])
