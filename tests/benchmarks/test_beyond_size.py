"""What scores say beyond size, depth and width: against plain computations, and on scores made to say nothing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.beyond_size import SizeFeatures, best_of, predicted, residual

Vector = NDArray[np.float64]


def architectures(n: int, seed: int = 0) -> tuple[SizeFeatures, Vector, Vector]:
    """Features, a hidden quality, and a truth of size, depth and that quality."""
    rng = np.random.default_rng(seed)
    depth, width = rng.integers(1, 12, n).astype(float), 8.0 * rng.integers(2, 30, n)
    sizes, quality = 12 * depth * width**2 + rng.integers(1, 10**5, n), rng.normal(size=n)
    return SizeFeatures(sizes, depth, width), quality, np.log(sizes) + 0.3 * depth + quality


def test_scores_of_size_alone_say_nothing_more_and_the_rest_of_the_truth_says_all() -> None:
    features, quality, truth = architectures(400)
    by_size, proxy = (features.beyond(x, truth) for x in (features.sizes, quality))
    assert by_size.residual is None
    assert proxy.residual is not None
    mixed = features.beyond(features.sizes * 1.2**features.depth, truth).residual
    assert mixed is not None
    assert mixed.low < 0 < mixed.high
    assert proxy.residual.low > 0.7
    assert by_size.ridge == proxy.ridge
    assert by_size.gain is not None
    assert proxy.gain is not None
    assert abs(by_size.gain) < 0.02 < 0.05 < proxy.gain


def test_only_the_order_of_scores_counts() -> None:
    features, quality, truth = architectures(60)
    assert features.beyond(quality, truth) == features.beyond(np.exp(40 * quality), truth)


def test_the_residual_rho_is_that_of_a_projection() -> None:
    features, quality, truth = architectures(50)
    x, y = (stats.rankdata(values) for values in (quality + truth, truth))
    three = [np.log(features.sizes), features.depth, features.width]
    design = np.column_stack([np.ones(50), *three, *(stats.rankdata(one) for one in three)])
    left = np.eye(50) - design @ np.linalg.pinv(design)
    found = features.beyond(quality + truth, truth).residual
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(left @ x, left @ y).statistic, abs=1e-9)


def test_a_proxy_that_the_features_explain_wholly_has_no_residual() -> None:
    features, _, truth = architectures(40)
    steps = np.argsort(np.argsort(np.arange(40.0)))
    whole = SizeFeatures(features.sizes, steps + 1.0, np.full(40, 64.0))
    found = whole.beyond(steps, truth)
    assert found.residual is None
    assert found.ridge is not None
    assert residual(np.ones((40, 1)), np.arange(40.0), np.arange(40.0)) is not None  # equal features explain nothing


def test_a_prediction_does_not_know_the_truth_of_its_architecture() -> None:
    features, _, truth = architectures(30)
    z = np.stack([features.depth, features.width], axis=1)
    before = predicted(z, truth)
    for place in (0, 7, 29):
        changed = truth.copy()
        changed[place] += 100
        assert predicted(z, changed)[place] == before[place]
        assert (predicted(z, changed) != before).any()
    noise = np.random.default_rng(1).normal(size=(30, 5))
    assert (spearman(predicted(noise, truth), truth) or 0) < 0.4


def test_the_best_of_ties_is_the_mean_over_all_choices() -> None:
    rng = np.random.default_rng(0)
    for n, k in ((1, 1), (4, 2), (7, 1), (7, 3), (7, 7), (9, 5)):
        for levels in (1, 2, 3, 50):
            scores, truth = rng.integers(levels, size=n).astype(float), rng.normal(size=n)
            chosen = [
                c for c in combinations(range(n), k)
                if min(scores[list(c)]) >= max((scores[i] for i in range(n) if i not in c), default=-math.inf)
            ]  # fmt: skip
            expected = np.mean([truth[list(c)].max() for c in chosen])
            assert best_of(scores, truth, k) == pytest.approx(expected)


def test_regret_is_counted_under_each_budget() -> None:
    sizes = np.arange(1.0, 21.0)
    truth = np.arange(20.0)
    features = SizeFeatures(sizes, np.ones(20), np.ones(20))
    perfect, wrong = features.beyond(truth, truth).regret, features.beyond(-truth, truth).regret
    assert [(r.budget, r.n, r.k) for r in perfect] == [
        (5, 5, 1), (10, 10, 1), (10, 10, 5), (15, 15, 1), (15, 15, 5), (20, 20, 1), (20, 20, 5)
    ]  # fmt: skip
    assert {r.regret for r in perfect} == {0}
    assert [r.regret for r in wrong] == [r.n - r.k for r in wrong]
    alike = features.beyond(np.ones(20), truth).regret
    assert all(r.regret == r.chance > 0 for r in alike)


def test_too_few_or_equal_architectures_say_nothing() -> None:
    features, quality, truth = architectures(40)
    assert features.part(range(9)).beyond(quality[:9], truth[:9]).ridge is None
    assert features.beyond(np.ones(40), truth).residual is None
    empty = SizeFeatures([math.nan] * 3, [1, 2, 3], [1, 2, 3]).beyond([1, 2, 3], [1, 2, 3])
    assert (empty.residual, empty.ridge, empty.regret) == (None, None, ())


def test_an_architecture_without_a_feature_is_left_out_of_what_needs_it() -> None:
    features, quality, truth = architectures(40)
    width = features.width.copy()
    width[3] = math.nan
    kept = [i for i in range(40) if i != 3]
    found = SizeFeatures(features.sizes, features.depth, width).beyond(quality, truth)
    without = features.part(kept).beyond(quality[kept], truth[kept])
    assert (found.residual, found.ridge, found.ridge_with) == (without.residual, without.ridge, without.ridge_with)
    assert found.regret == features.beyond(quality, truth).regret
    json.dumps(asdict(found), allow_nan=False)
