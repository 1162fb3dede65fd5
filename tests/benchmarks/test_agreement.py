"""Rank agreement against scipy, and its bootstrap against a slow loop over the same resamples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lpzero_hf.benchmarks import agreement as module
from lpzero_hf.benchmarks.agreement import Agreement, Estimate, Truth, agreement, kendall, precision_at_top, spearman
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import UsageError

Vector = NDArray[np.float64]


def correlated(n: int, seed: int, rho: float = 0.6, levels: int | None = None) -> tuple[Vector, Vector]:
    """Two normal vectors with correlation `rho`, rounded to few values if `levels` is given."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, n))
    y = rho * x + math.sqrt(1 - rho**2) * noise
    return (x, y) if levels is None else (np.round(x * levels), np.round(y * levels))


@pytest.mark.parametrize("levels", [None, 3, 1])
@pytest.mark.parametrize("n", [3, 10, 50, 400])
def test_point_values_are_those_of_scipy(n: int, levels: int | None) -> None:
    x, y = correlated(n, n, levels=levels)
    x[0] += 1  # not constant, even where there are few
    y[1] += 1
    found = agreement(x, y, resamples=5)
    assert found.n == n
    assert found.spearman is not None
    assert found.kendall is not None
    assert found.spearman.value == spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-14)
    assert found.kendall.value == kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-14)


@pytest.mark.parametrize(("n", "levels"), [(5, None), (30, None), (30, 1), (200, 2)])
def test_bootstrap_is_scipy_on_every_resample(n: int, levels: int | None) -> None:
    x, y = correlated(n, 7, levels=levels)
    truth = Truth(y, resamples=120, seed=3)
    slow: dict[str, list[float]] = {"spearman": [], "kendall": []}
    for weights in truth.weights.astype(int):
        members = np.repeat(np.arange(n), weights)
        assert len(members) == n
        if len(set(x[members])) > 1 and len(set(y[members])) > 1:
            slow["spearman"].append(stats.spearmanr(x[members], y[members]).statistic)
            slow["kendall"].append(stats.kendalltau(x[members], y[members]).statistic)
    found = truth.agreement(x, confidence=0.8)
    for name, values in slow.items():
        estimate: Estimate = getattr(found, name)
        assert [estimate.low, estimate.high] == pytest.approx(list(np.percentile(values, [10, 90])), abs=1e-12)


def test_sign_matrices_in_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correlated(50, 1, levels=4)
    whole = agreement(x, y, resamples=40)
    monkeypatch.setattr(module, "BLOCK", 7 * 50)  # blocks of seven columns, the last one short
    assert agreement(x, y, resamples=40) == whole


def test_a_prepared_truth_gives_what_agreement_gives_for_every_proxy() -> None:
    _, y = correlated(40, 2)
    truth = Truth(y, resamples=50, seed=9)
    for seed in range(3):
        x, _ = correlated(40, seed)
        assert truth.agreement(x, top=0.2, confidence=0.9) == agreement(
            x, y, top=0.2, resamples=50, confidence=0.9, seed=9
        )


def test_resamples_follow_the_seed() -> None:
    x, y = correlated(40, 2)
    assert agreement(x, y, seed=1) == agreement(x, y, seed=1)
    assert agreement(x, y, seed=1) != agreement(x, y, seed=2)


def test_every_resample_draws_each_architecture_once_on_average() -> None:
    weights = Truth(np.arange(20.0), resamples=4000).weights
    assert (weights.sum(axis=1) == 20).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.08)
    assert weights.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.12)  # binomial: 20 * 1/20 * 19/20


@pytest.mark.integration
def test_intervals_cover_the_population_value_about_as_often_as_they_say() -> None:
    rho, trials, covered = 0.5, 200, {"spearman": 0, "kendall": 0}
    population = {"spearman": 6 / math.pi * math.asin(rho / 2), "kendall": 2 / math.pi * math.asin(rho)}
    for seed in range(trials):
        found = agreement(*correlated(80, seed, rho), resamples=300, confidence=0.9)
        for name, value in population.items():
            estimate: Estimate = getattr(found, name)
            covered[name] += estimate.low <= value <= estimate.high
    for name, count in covered.items():
        assert 0.83 <= count / trials <= 0.96, name


def test_intervals_are_wider_with_more_confidence_and_narrower_with_more_architectures() -> None:
    def width(n: int, confidence: float) -> float:
        estimate = agreement(*correlated(n, 0), confidence=confidence).kendall
        assert estimate is not None
        assert estimate.low < estimate.value < estimate.high
        return estimate.high - estimate.low

    assert width(50, 0.5) < width(50, 0.95)
    assert width(500, 0.95) < width(50, 0.95) / 2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_ranking_and_its_reverse_reach_the_ends(sign: int) -> None:
    found = agreement(sign * np.exp(np.arange(30.0)), np.arange(30.0))
    for estimate in (found.spearman, found.kendall):
        assert estimate is not None
        assert [estimate.value, estimate.low, estimate.high] == pytest.approx([sign] * 3)
        assert -1 <= estimate.low <= estimate.high <= 1
    assert found.top == (1.0 if sign == 1 else 0.0)


def test_numbers_of_any_size_are_only_ranked() -> None:
    huge, tiny = [-1.7e308, 0.0, 1.7e308, 1.0], [-5e-324, 0.0, 1e-320, 5e-324]
    assert agreement(huge, tiny) == agreement([0, 1, 3, 2], [0, 1, 3, 2])


@pytest.mark.parametrize("scores", [[5, 5, 5, 5], [0.0, -0.0, 0.0, -0.0]])
def test_constant_scores_have_no_correlation_and_chance_at_the_top(scores: list[float]) -> None:
    truth = [1.0, 2.0, 3.0, 4.0]
    assert agreement(scores, truth, top=0.25) == Agreement(4, None, None, 0.25)
    assert agreement(truth, scores, top=0.25) == Agreement(4, None, None, 0.25)


def test_two_architectures_have_no_correlation() -> None:
    assert agreement([1, 2], [1, 2]) == Agreement(2, None, None, 1.0)
    assert spearman([1, 2], [1, 2]) is None
    assert kendall([1, 2], [1, 2]) is None


def test_resamples_without_a_correlation_leave_the_interval_finite() -> None:
    x = [0.0, 0.0, 1.0]
    truths = (Truth([1.0, 2.0, 3.0], resamples=1, seed=seed) for seed in range(50))
    empty = next(truth for truth in truths if truth.weights[0, 2] in (0, 3))  # the resample holds one value of x
    found = empty.agreement(x)
    assert found.spearman is not None
    assert (found.spearman.low, found.spearman.high) == (-1.0, 1.0)
    assert found.kendall is not None
    assert (found.kendall.low, found.kendall.high) == (-1.0, 1.0)
    some = json.dumps(agreement(x, [1.0, 2.0, 3.0]).to_dict(), allow_nan=False)  # raises on NaN
    assert '"low"' in some


def test_resamples_in_which_the_truth_is_equal_are_left_out_too() -> None:
    truths = (Truth([0.0, 0.0, 1.0], resamples=1, seed=seed) for seed in range(50))
    empty = next(truth for truth in truths if truth.weights[0, 2] == 0 and truth.weights[0].max() == 2)
    assert (empty.weights[0, :2] > 0).all()  # two architectures with different scores that are equally good
    found = empty.agreement([1.0, 2.0, 3.0])
    for estimate in (found.spearman, found.kendall):
        assert estimate is not None
        assert (estimate.low, estimate.high) == (-1.0, 1.0)


def test_an_agreement_is_read_as_it_was_written() -> None:
    for found in (agreement(*correlated(20, 0), resamples=10), agreement([1, 1], [1, 2])):
        assert found.spearman != found.kendall or found.spearman is None
        assert Agreement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_to_dict_is_plain_data() -> None:
    found = agreement(*correlated(20, 0), resamples=10)
    assert found.kendall is not None
    assert json.loads(json.dumps(found.to_dict()))["kendall"]["low"] == found.kendall.low
    assert agreement([1, 1], [1, 2]).to_dict() == {"n": 2, "spearman": None, "kendall": None, "top": 0.5}


@pytest.mark.parametrize(
    ("n", "fraction", "k"), [(10, 0.1, 1), (10, 0.01, 1), (10, 0.24, 2), (10, 1.0, 10), (7, 0.5, 4)]
)
def test_top_counts_at_least_one_and_else_the_rounded_fraction(n: int, fraction: float, k: int) -> None:
    assert precision_at_top(np.ones(n), np.arange(n), fraction) == pytest.approx(k / n)
    scores = np.arange(n, dtype=float)
    scores[0] = n  # the worst takes the place of the last of the best
    assert precision_at_top(scores, np.arange(n), fraction) == pytest.approx(1.0 if k == n else (k - 1) / k)


@pytest.mark.parametrize("truth", [[1, 2, 3, 4, 5], [1, 1, 2, 2, 2], [0, 3, 3, 3, 1]])
@pytest.mark.parametrize("scores", [[1, 2, 3, 4, 5], [2, 2, 1, 1, 2], [3, 1, 2, 2, 2]])
@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.6])
def test_ties_at_the_top_count_as_if_broken_at_random(truth: list[int], scores: list[int], fraction: float) -> None:
    k = round(fraction * 5)

    def tops(values: list[int]) -> list[set[int]]:
        return [set(sorted(p, key=lambda i: -values[i])[:k]) for p in permutations(range(5))]  # the sort is stable

    expected = np.mean([len(a & b) / k for a in tops(scores) for b in tops(truth)])
    assert precision_at_top(scores, truth, fraction) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spearman([1, 2, math.nan], [1, 2, 3]), "nan at index 2"),
        (lambda: kendall([1, 2, 3], [1, math.inf, 3]), "inf at index 1"),
        (lambda: agreement([1, -math.inf, 3], [1, 2, 3]), "-inf at index 1"),
        (lambda: agreement([1, 2, 3], [1, 2]), "3 and 2"),
        (lambda: agreement([1], [1]), "got 1"),
        (lambda: agreement([], [1, 2]), "at least 2"),
        (lambda: agreement([[1, 2]], [1, 2]), "vector"),
        (lambda: agreement([[1, 2], [3]], [1, 2]), "vector"),
        (lambda: agreement(["1", "2"], [1, 2]), "vector"),
        (lambda: agreement([1, None], [1, 2]), "vector"),
        (lambda: agreement(3.0, [1, 2]), "vector"),
        (lambda: agreement([1, 2], [1, 2], top=0), "fraction"),
        (lambda: precision_at_top([1, 2], [1, 2], 1.5), "1.5"),
        (lambda: precision_at_top([1, 2], [1, 2], math.nan), "fraction"),
        (lambda: agreement([1, 2], [1, 2], confidence=1.0), "confidence"),
        (lambda: agreement([1, 2], [1, 2], resamples=0), "resamples"),
        (lambda: agreement([1, 2], [1, 2], seed=-1), "seed"),
    ],
)
def test_bad_input_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_intervals_of_five_hundred_architectures_hold_their_values() -> None:
    found = agreement(*correlated(500, 0), resamples=1000)
    for estimate in (found.spearman, found.kendall):
        assert estimate is not None
        assert estimate.low < estimate.value < estimate.high


def test_the_mean_of_several_scores_is_over_the_same_resamples() -> None:
    rng = np.random.default_rng(3)
    truth, scores = rng.normal(size=9), rng.integers(0, 3, size=(3, 9)).astype(float)
    prepared = Truth(truth, resamples=60)
    found = prepared.mean_agreement(list(scores), top=0.3)
    alone = [prepared.agreement(one, top=0.3) for one in scores]
    assert found.top == pytest.approx(np.mean([one.top for one in alone]))
    for kind, function in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        resampled = []
        for weights in prepared.weights.astype(int):
            rows = np.repeat(np.arange(9), weights)
            made = [function(one[rows], truth[rows]).statistic for one in scores if len(set(one[rows])) > 1]
            resampled += [np.mean(made)] if len(made) == 3 else []
        mean = getattr(found, kind)
        assert mean.value == pytest.approx(np.mean([getattr(one, kind).value for one in alone]))
        assert (mean.low, mean.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])))
    assert prepared.mean_agreement([scores[0], np.ones(9)]).spearman is None  # undefined for one of them
    assert prepared.mean_agreement([scores[0]]) == prepared.agreement(scores[0])
    sized = SizedTruth(truth, Sizes(rng.uniform(1, 1.3, size=9)))
    matched = [sized.agreement(one).matched.agreement.value for one in scores]  # type: ignore[union-attr]
    mean = sized.mean_agreement(list(scores)).matched
    assert mean is not None
    assert mean.agreement is not None
    assert mean.agreement.value == pytest.approx(np.mean(matched))
