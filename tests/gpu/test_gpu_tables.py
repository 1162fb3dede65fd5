"""Branch tables made on a GPU rank as those of the CPU, and a search there finds the same."""

from __future__ import annotations

import pytest
import torch

from studies.cost import gpu
from studies.cost.devices import compare_searches, compare_tables

pytestmark = pytest.mark.gpu


def test_tables_are_those_of_the_cpu_to_rounding(card: torch.device) -> None:
    found = compare_tables(str(card), 6)
    assert found["counts_equal"]
    assert found["steady"] > found["entries"] / 2
    assert found["share_of_steady_equal"] > 0.99  # an H100 gave 0.997 and 0.998


def test_tables_give_the_ranks_of_the_cpu(card: torch.device) -> None:
    found = gpu.searched("tiny-gpt2", 1, 8, card, compare=8)
    assert found["ranks"]["median"] == 1.0
    assert found["ranks"]["share_equal"] > 0.8
    assert found["done"] == found["total"]


def test_an_exhaustive_search_finds_the_same(card: torch.device) -> None:
    found = compare_searches(str(card), 12)
    assert found["device"]["fitness"] == pytest.approx(found["cpu"]["fitness"], abs=1e-6)
    assert found["device"]["evaluated"] == pytest.approx(found["cpu"]["evaluated"], rel=0.01)
    assert found["fittest_in_common"] >= found["fittest"] / 2
