"""From the candidates of a search to a winner and an ensemble."""

from __future__ import annotations

import random

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types
from torch import Tensor

from lpzero_hf.errors import LpzError
from lpzero_hf.searching import selection
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks
from lpzero_hf.searching.fitness import combined
from lpzero_hf.searching.selection import rankings, select


def candidates(noise: list[float], n: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The truth and one candidate for each amount of noise upon it, the fittest first."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, generator=generator, dtype=torch.float64)
    strengths = torch.tensor(noise, dtype=torch.float64)[:, None]
    scores = truth + strengths * torch.randn(len(noise), n, generator=generator, dtype=torch.float64)
    return truth, scores[RankCorrelation(truth.tolist())(scores).argsort(descending=True)]


def test_the_best_is_the_fittest_and_bagging_chooses_another() -> None:
    truth, scores = candidates([0.5] * 40)
    best, bagging = select([scores], [truth], method="best"), select([scores], [truth])
    assert best[0] == 0
    assert best[1] == bagging[1]
    others = [candidates([0.5] * 40, seed=seed) for seed in range(5)]
    assert any(select([scores], [truth])[0] != 0 for truth, scores in others)


def test_the_seed_decides_the_resamples() -> None:
    truth, scores = candidates([0.5] * 40)
    chosen = [select([scores], [truth], seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert chosen[0] == chosen[1]
    assert any(other != chosen[0] for other in chosen[2:])


def fittest_of_resamples(scores: list[Tensor], truths: list[Tensor], seed: int) -> list[int]:
    """The fittest of each resample, which holds an architecture that is drawn twice once."""
    rng, fittest = random.Random(seed), []
    for _ in range(selection.RESAMPLES):
        correlations = []
        for part, truth in zip(scores, truths, strict=True):
            drawn = sorted({rng.randrange(len(truth)) for _ in truth})
            correlations.append(RankCorrelation(truth[drawn].tolist())(part[:, drawn]))
        fittest.append(int(combined(torch.stack(correlations), "mean")[0].argmax()))
    return fittest


def assert_agreed_on(scores: list[Tensor], truths: list[Tensor], seed: int) -> None:
    """No other member would have brought the mean of the ensemble's ranks nearer to that of the fittest of the
    resamples, where each benchmark counts alike."""
    fittest = fittest_of_resamples(scores, truths, seed)
    assert len(set(fittest)) > 3
    winner, members = select(scores, truths, seed=seed)
    assert winner == members[0]
    ranks = [mid_ranks(part) / part.shape[1] for part in scores]
    for size, member in enumerate(members):
        apart = torch.zeros(len(scores[0]), dtype=torch.float64)
        for part in ranks:
            means = (part[members[:size]].sum(0) + part) / (size + 1)
            apart += (means - part[fittest].mean(0)).square().mean(1)
        assert apart[member] == pytest.approx(float(apart.min()), rel=1e-9)


@pytest.mark.parametrize("seed", [42, 43])
def test_bagging_takes_what_the_resamples_agree_on(seed: int) -> None:
    truth, scores = candidates([0.5] * 40)
    assert_agreed_on([scores], [truth], seed)


def test_an_architecture_that_is_drawn_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One resample of ten architectures, whose fittest candidate would be another if repetitions counted."""
    monkeypatch.setattr(selection, "RESAMPLES", 1)
    truth, scores = candidates([1.0] * 4, n=10)
    differ = 0
    for seed in range(200):
        rng = random.Random(seed)
        drawn = [rng.randrange(10) for _ in range(10)]

        def fittest(places: list[int]) -> int:
            rhos = [stats.spearmanr(row[places], truth[places]).statistic for row in scores]
            order = sorted(rhos, reverse=True)
            return rhos.index(order[0]) if order[0] - order[1] > 1e-9 else -1

        once, often = fittest(sorted(set(drawn))), fittest(sorted(drawn))
        if len(set(drawn)) > 2 and -1 not in (once, often) and once != often:
            differ += 1
            assert select([scores], [truth], seed=seed)[0] == once
    assert differ > 5


def test_luck_counts_for_less() -> None:
    """A candidate that is right but for noise, among many that are worse and one of which is lucky."""
    better = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        truth = torch.randn(430, generator=generator, dtype=torch.float64)
        noise = torch.randn(200, 430, generator=generator, dtype=torch.float64)
        scores = truth + 0.6 * noise
        seen, unseen = scores[:, :30], RankCorrelation(truth[30:].tolist())
        order = RankCorrelation(truth[:30].tolist())(seen).argsort(descending=True)
        _, members = select([seen[order]], [truth[:30]], seed=seed)
        together = mid_ranks(scores[order][members][:, 30:]).sum(0)
        better.append(float(unseen(together)) - float(unseen(scores[order[0], 30:])))
    assert sum(better) / 20 > 0.05


@pytest.mark.integration
def test_benchmarks_weigh_the_same_however_large() -> None:
    for seed in range(10):
        truth, scores = candidates([0.8] * 40, n=10, seed=seed)
        other, others = candidates([0.8] * 40, n=200, seed=100 + seed)
        assert_agreed_on([scores, others], [truth, other], seed)


def test_candidates_that_rank_alike_or_not_at_all_are_left_out() -> None:
    scores = torch.tensor([[1.0, 2, 3], [2, 4, 9], [3, 1, 2], [float("nan"), 1, 2], [1, 1, 2]], dtype=torch.float64)
    assert rankings([scores]) == [[0, 1], [2], [4]]
    other = torch.tensor([[1.0, 2], [2, 1], [1, 2], [1, 2], [1, float("inf")]], dtype=torch.float64)
    assert rankings([scores, other]) == [[0], [1], [2]]


def test_what_is_chosen_is_told_by_its_row_among_all_candidates() -> None:
    """Nothing changes but the numbers of the rows if the fittest is there twice."""
    truth, scores = candidates([0.5] * 40)
    winner, members = select([scores], [truth])
    assert max(members) > 0
    again = select([torch.cat([scores[:1], 2 * scores[:1], scores[1:]])], [truth])
    assert again == (winner + (winner > 0), [member + (member > 0) for member in members])


@pytest.mark.parametrize("method", selection.METHODS)
def test_few_architectures_are_enough(method: str) -> None:
    truth, scores = candidates([0.3] * 5, n=3)
    winner, members = select([scores], [truth], method=method)
    assert winner in range(5)
    assert len(members) == selection.MEMBERS


@pytest.mark.parametrize("method", selection.METHODS)
def test_what_is_refused_is_chosen_from_as_if_it_had_not_been_found(method: str) -> None:
    truth, scores = candidates([0.5] * 40)
    scores = torch.cat([scores[:3], 2 * scores[:3], scores[3:]])  # three of them twice, in the order of their ranking
    barred: set[int] = set()

    def refused(rows: list[int]) -> set[int]:
        bad = set(rows) - barred if len(barred) < 8 else set()
        barred.update(bad)
        return bad

    found = select([scores], [truth], method=method, refused=refused)
    left = [row for row in range(len(scores)) if row not in barred]
    winner, members = select([scores[left]], [truth], method=method)
    assert len(barred) >= 8
    assert found == (left[winner], [left[member] for member in members])
    with pytest.raises(LpzError, match="rounding"):
        select([scores], [truth], method=method, refused=set)
