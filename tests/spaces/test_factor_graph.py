"""Counting and drawing assignments under relations: equal to enumeration, uniform, in any order of elimination."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from lpzero_hf.spaces import factor_graph
from lpzero_hf.spaces.factor_graph import Factor, FactorGraph, TooLarge, cost, greedy_order


def random_graph(rng: random.Random) -> tuple[list[int], list[Factor]]:
    sizes = [rng.randint(1, 4) for _ in range(rng.randint(1, 6))]
    source = np.random.default_rng(rng.randrange(2**32))
    factors = []
    for _ in range(rng.randint(0, 5)):
        scope = tuple(sorted(rng.sample(range(len(sizes)), rng.randint(0, min(3, len(sizes))))))
        shape = [sizes[of] for of in scope]
        weights = rng.random() < 0.3
        factors.append(Factor(scope, source.integers(0, 4, shape) if weights else source.random(shape) < 0.7))
    return sizes, factors


def weights(sizes: list[int], factors: list[Factor]) -> dict[tuple[int, ...], int]:
    """The weight of every assignment that has one."""
    found = {}
    for values in itertools.product(*map(range, sizes)):
        weight = math.prod(int(factor.table[tuple(values[of] for of in factor.scope)]) for factor in factors)
        if weight:
            found[values] = weight
    return found


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_counts_assignments_and_completions_are_those_of_enumeration(
    seed: int, in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, factors = random_graph(random.Random(seed))
    expected = weights(sizes, factors)
    if not in_order:
        monkeypatch.setattr(
            factor_graph, "cost", lambda of, scopes, order: 0 if order != [*reversed(range(len(of)))] else 2**40
        )
        scopes = [factor.scope for factor in factors]
        if greedy_order(sizes, scopes) == [*reversed(range(len(sizes)))]:
            pytest.skip("this graph has one order")
    graph = FactorGraph(sizes, factors)
    assert graph.in_order == in_order
    assert graph.count() == sum(expected.values())
    assert list(graph.assignments()) == sorted(expected)
    for values in list(expected)[:5]:
        for length in range(len(sizes)):
            begun = {other[length] for other in expected if other[:length] == values[:length]}
            assert set(np.flatnonzero(graph.completions(values[:length])).tolist()) == begun


@pytest.mark.parametrize("seed", range(10))
def test_draws_are_in_proportion_to_the_weights(seed: int) -> None:
    sizes, factors = random_graph(random.Random(seed + 1000))
    expected = weights(sizes, factors)
    if len(expected) < 2:
        pytest.skip("nothing to choose")
    graph, rng = FactorGraph(sizes, factors), random.Random(seed)
    number = 20 * sum(expected.values())
    drawn = Counter(graph.draw(rng) for _ in range(number))
    assert set(drawn) <= set(expected)
    share = number / sum(expected.values())
    assert chisquare([drawn[of] for of in expected], [share * weight for weight in expected.values()]).pvalue > 1e-4


def test_numbers_beyond_64_bits_lose_no_unit() -> None:
    tower = Factor((0,), np.array([3**1000, 1], object))
    graph = FactorGraph([2, 5], [tower, Factor((0, 1), np.tril(np.ones((2, 5), bool)))])
    assert graph.count() == 3**1000 + 2
    assert {graph.draw(random.Random(seed))[0] for seed in range(50)} == {0}
    chain = [Factor((i, i + 1), ~np.eye(10, dtype=bool)) for i in range(49)]
    assert FactorGraph([10] * 50, chain).count() == 10 * 9**49


def test_variables_that_are_related_across_the_order_are_eliminated_in_another() -> None:
    star = [
        Factor((i, 12), np.tril(np.ones((8, 8), bool))) for i in range(12)
    ]  # the last is at most each of the others
    assert cost([8] * 13, [factor.scope for factor in star], [*reversed(range(13))]) > factor_graph.LARGEST
    graph = FactorGraph([8] * 13, star)
    assert not graph.in_order
    assert graph.count() == sum((8 - last) ** 12 for last in range(8))
    assert all(min(drawn[:12]) >= drawn[12] for drawn in (graph.draw(random.Random(seed)) for seed in range(20)))
    assert np.flatnonzero(graph.completions([3] + [5] * 11)).tolist() == [0, 1, 2, 3]


def test_what_no_order_makes_small_is_refused() -> None:
    pairs = [Factor(pair, np.triu(np.ones((10, 10), bool))) for pair in itertools.combinations(range(12), 2)]
    with pytest.raises(TooLarge):
        FactorGraph([10] * 12, pairs)
