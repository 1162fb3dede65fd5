"""Fitness: thousands of rank correlations at once are those of scipy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.benchmarks.matched import Sizes
from lpzero_hf.errors import UsageError
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks

KNOWN = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}


def some_scores(rows: int, n: int, levels: int | None, seed: int = 0) -> torch.Tensor:
    """[rows, n]; with a number of levels, whole numbers with ties."""
    generator = torch.Generator().manual_seed(seed)
    if levels is None:
        return torch.randn(rows, n, generator=generator, dtype=torch.float64)
    return torch.randint(levels, (rows, n), generator=generator).double()


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("levels", [None, 2, 5], ids=["distinct", "two levels", "five levels"])
@pytest.mark.parametrize("tied_truth", [False, True], ids=["truth without ties", "truth with ties"])
@pytest.mark.parametrize("n", [3, 17, 50])
def test_correlations_are_those_of_scipy(kind: str, levels: int | None, tied_truth: bool, n: int) -> None:
    truth = some_scores(1, n, 3 if tied_truth else None, seed=4)[0]
    scores = some_scores(40, n, levels)
    found = RankCorrelation(truth.tolist(), kind)(scores)
    for row, value in zip(scores, found.tolist(), strict=True):
        if bool((row == row[0]).all()):
            assert math.isnan(value)
        else:
            assert value == pytest.approx(KNOWN[kind](row, truth).statistic, abs=1e-6)


@pytest.mark.parametrize("kind", KNOWN)
def test_scores_of_any_shape_are_correlated_along_the_last(kind: str) -> None:
    scores, fitness = some_scores(12, 9, 4), RankCorrelation(range(9), kind)
    torch.testing.assert_close(fitness(scores.view(3, 4, 9)), fitness(scores).view(3, 4))
    torch.testing.assert_close(fitness(scores[5]), fitness(scores)[5])


def test_blocks_of_pairs_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, fitness = some_scores(50, 10, None), RankCorrelation(range(10), "kendall")
    whole = fitness(scores)
    monkeypatch.setattr("lpzero_hf.searching.correlation.PAIRS_AT_ONCE", 7 * 45)
    torch.testing.assert_close(fitness(scores), whole)


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_without_a_ranking_have_no_fitness(kind: str, bad: float) -> None:
    scores = some_scores(4, 6, None)
    scores[1, 2], scores[2] = bad, 7.0
    assert RankCorrelation(range(6), kind)(scores).isnan().tolist() == [False, True, True, False]


def by_pairs(scores: torch.Tensor, truth: torch.Tensor, sizes: list[float], within: float) -> float:
    """Agreement at matched size by a double loop."""
    pairs = total = 0
    for i in range(len(truth)):
        for j in range(i):
            if max(sizes[i], sizes[j]) / min(sizes[i], sizes[j]) <= within:
                pairs += 1
                total += int(torch.sign(scores[i] - scores[j])) * int(torch.sign(truth[i] - truth[j]))
    return total / pairs


@pytest.mark.parametrize("within", [1.0, 1.15, 3.0, 1e9])
@pytest.mark.parametrize("levels", [None, 2, 5], ids=["distinct", "two levels", "five levels"])
@pytest.mark.parametrize("tied_truth", [False, True], ids=["truth without ties", "truth with ties"])
def test_agreement_at_matched_size_is_exactly_that_of_a_loop(
    levels: int | None, tied_truth: bool, within: float
) -> None:
    n = 23
    truth, scores = some_scores(1, n, 3 if tied_truth else None, seed=4)[0], some_scores(30, n, levels)
    scores[1] *= 1e307
    sizes = (some_scores(1, n, 9, seed=5)[0] + 1).tolist()
    matched = RankCorrelation(truth.tolist(), "matched", sizes=Sizes(sizes, within=within))(scores)
    assert matched.tolist() == [by_pairs(row, truth, sizes, within) for row in scores]
    mixed = RankCorrelation(truth.tolist(), "mixed", sizes=Sizes(sizes, within=within))(scores)
    torch.testing.assert_close(mixed, (matched + RankCorrelation(truth.tolist())(scores)) / 2)
    torch.testing.assert_close(
        mixed.view(5, 6),
        RankCorrelation(truth.tolist(), "mixed", "cpu", Sizes(sizes, within=within))(scores.view(5, 6, n)),
    )


@pytest.mark.parametrize("kind", ["matched", "mixed"])
def test_an_architecture_without_a_size_is_in_no_pair(kind: str) -> None:
    sizes = [5.0, math.nan, 5.0, 50.0]
    fitness = RankCorrelation([1, 2, 3, 4], kind, sizes=Sizes(sizes))
    one, other = (
        RankCorrelation([1, 2, 3, 4], kind, sizes=Sizes(s))(torch.eye(4)) for s in (sizes, [5.0, 99.0, 5.0, 50.0])
    )
    torch.testing.assert_close(one, other)
    scores = torch.tensor([[1.0, 0, 2, 0], [2, 0, 1, 0], [1, math.nan, 2, 0], [3, 3, 3, 3]])
    assert fitness(scores).isnan().tolist() == [False, False, True, True]


def test_blocks_of_pairs_of_like_size_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, fitness = some_scores(50, 10, None), RankCorrelation(range(10), "matched", sizes=Sizes([7.0] * 10))
    whole = fitness(scores)
    monkeypatch.setattr("lpzero_hf.searching.correlation.CACHED", 7 * 50)
    assert fitness(scores).equal(whole)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (None, "size of every"),
        (Sizes([1.0, 1.0]), "size of every"),
        (Sizes([1.0, 9.0, 90.0], "flops"), "'flops'"),
        (Sizes([1.0, 9.0, 9.0]), "equally good"),
    ],
)
@pytest.mark.parametrize("kind", ["matched", "mixed"])
def test_sizes_that_match_nothing_are_refused(kind: str, sizes: Sizes | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RankCorrelation([1.0, 2.0, 2.0], kind, sizes=sizes)


@pytest.mark.parametrize("levels", [None, 3])
def test_ranks_are_those_of_scipy(levels: int | None) -> None:
    scores = some_scores(20, 11, levels)
    expected = torch.from_numpy(stats.rankdata(scores.numpy(), axis=1)) - 1
    torch.testing.assert_close(mid_ranks(scores), expected)


@pytest.mark.parametrize(
    ("truth", "kind", "message"),
    [
        ([1.0, 2.0], "spearman", "at least 3"),
        ([2.0, 2.0, 2.0], "kendall", "equally good"),
        ([1.0, 2.0, 3.0], "pearson", "kendall"),
    ],
)
def test_a_truth_that_ranks_nothing_is_refused(truth: list[float], kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RankCorrelation(truth, kind)
