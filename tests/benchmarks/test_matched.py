"""Agreement at matched size against a plain loop over pairs, and its bootstrap against one over the same resamples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lpzero_hf.benchmarks import agreement as module
from lpzero_hf.benchmarks.agreement import Agreement, Estimate, MatchedAgreement, agreement
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes, matched_agreement
from lpzero_hf.errors import UsageError

Vector = NDArray[np.float64]


def sign(number: float) -> int:
    return int(number > 0) - int(number < 0)


Numbers = Sequence[float] | Vector


def by_hand(
    scores: Numbers,
    truth: Numbers,
    sizes: Numbers,
    within: float,
    held: Sequence[int] | None = None,
) -> tuple[int, float | None]:
    """Pairs and mean agreement by a double loop; `held` says how many times each architecture is there."""
    held = [1] * len(scores) if held is None else held
    pairs = total = 0
    for i in range(len(scores)):
        for j in range(i):
            if (
                math.isnan(sizes[i])
                or math.isnan(sizes[j])
                or not (math.isfinite(scores[i]) and math.isfinite(scores[j]))
            ):
                continue
            if max(sizes[i], sizes[j]) / min(sizes[i], sizes[j]) <= within:
                pairs += held[i] * held[j]
                total += held[i] * held[j] * sign(scores[i] - scores[j]) * sign(truth[i] - truth[j])
    return pairs, total / pairs if pairs else None


def drawn(n: int, seed: int, levels: int = 0) -> tuple[Vector, Vector, Vector]:
    """Scores, truth and sizes; whole numbers of few levels if `levels` is given."""
    rng = np.random.default_rng(seed)
    sizes, noise = np.exp(rng.normal(size=n)), rng.normal(size=n)
    scores, truth = np.log(sizes) + rng.normal(size=n), np.log(sizes) + noise
    if levels:
        scores, truth, sizes = np.round(scores * levels), np.round(truth * levels), np.ceil(sizes * levels)
    return scores, truth, sizes


@pytest.mark.parametrize("within", [1.0, 1.15, 2.0, 1e9])
@pytest.mark.parametrize(("n", "levels"), [(2, 0), (3, 1), (20, 0), (20, 1), (60, 2), (120, 0)])
def test_the_agreement_is_that_of_a_double_loop(n: int, levels: int, within: float) -> None:
    scores, truth, sizes = drawn(n, n, levels)
    found = matched_agreement(scores, truth, sizes, within=within, resamples=5)
    pairs, mean = by_hand(scores, truth, sizes, within)
    assert found.pairs == pairs
    assert (None if found.agreement is None else found.agreement.value) == mean


@pytest.mark.parametrize(
    ("scores", "truth", "sizes", "pairs", "mean"),
    [
        ([1, 2, 3], [1, 2, 3], [1, 10, 100], 0, None),
        ([1, 2, 3], [1, 3, 2], [1, 10, 11], 1, -1.0),
        ([1, 2, 3], [1, 2, 3], [5, 5, 5], 3, 1.0),
        ([7, 7, 7], [1, 2, 3], [5, 5, 5], 3, 0.0),
        ([1, 2, 3], [4, 4, 4], [5, 5, 5], 3, 0.0),
        ([1, 1, 2], [1, 2, 2], [5, 5, 5], 3, 1 / 3),  # a tie in scores and one in truth: two zeros and a one
        ([0.0, -0.0, 1.0], [1, 2, 3], [5, 5, 5], 3, 2 / 3),
        ([-1.7e308, 1.7e308, 5e-324], [1, 3, 2], [5, 5, 5], 3, 1.0),
        ([1, math.nan, 3], [1, 2, 3], [5, 5, 5], 1, 1.0),
        ([1, math.inf, -math.inf], [1, 2, 3], [5, 5, 5], 0, None),
        ([1, 2, 3], [1, 2, 3], [5, math.nan, 5], 1, 1.0),
        ([1, 2, 3], [1, 2, 3], [100, 115, 132.25], 2, 1.0),  # exactly at the factor
        ([1, 2], [1, 2], [1e-300, 1e300], 0, None),
        ([], [], [], 0, None),
        ([3], [1], [2], 0, None),
    ],
)
def test_hard_inputs(
    scores: list[float], truth: list[float], sizes: list[float], pairs: int, mean: float | None
) -> None:
    found = matched_agreement(scores, truth, sizes, resamples=20)
    assert found.pairs == pairs
    assert (None if found.agreement is None else found.agreement.value) == mean
    assert (
        json.loads(json.dumps(Agreement(3, None, None, 0.0, found).to_dict(), allow_nan=False))["matched"]["pairs"]
        == pairs
    )


def test_the_factor_is_a_ratio_rounded_once() -> None:
    for whole in range(100, 5000, 100):
        larger = whole * 115 // 100
        assert matched_agreement([1, 2], [1, 2], [larger, whole]).pairs == 1
        assert matched_agreement([1, 2], [1, 2], [larger + 1, whole]).pairs == 0


@pytest.mark.parametrize(("n", "levels", "within"), [(6, 0, 2.0), (30, 0, 1.15), (30, 1, 1.15), (90, 2, 1.5)])
def test_the_bootstrap_is_a_loop_over_every_resample(n: int, levels: int, within: float) -> None:
    scores, truth, sizes = drawn(n, 7, levels)
    sized = SizedTruth(truth, Sizes(sizes, within=within), resamples=80, seed=3)
    slow = [by_hand(scores, truth, sizes, within, held)[1] for held in sized.truth.weights.astype(int).tolist()]
    found = sized.matched(scores, confidence=0.8).agreement
    assert found is not None
    defined = [value for value in slow if value is not None]
    assert [found.low, found.high] == pytest.approx(list(np.percentile(defined, [10, 90])), abs=1e-12)


def test_an_architecture_drawn_twice_forms_no_pair_with_itself() -> None:
    scores, truth, sizes = [1.0, 2.0], [1.0, 2.0], [5.0, 5.0]
    value, resampled = SizedTruth(truth, Sizes(sizes), resamples=200).agreed(scores)
    assert value == 1
    assert {*resampled[~np.isnan(resampled)]} == {1.0}
    assert 50 < np.isnan(resampled).sum() < 150  # half of the resamples hold one of the two twice
    none = SizedTruth(truth, Sizes(sizes), resamples=1, seed=next(s for s in range(50) if lone(truth, s)))
    assert none.matched(scores).agreement == Estimate(1.0, -1.0, 1.0)  # no resample has a pair: nothing is known


def lone(truth: Sequence[float], seed: int) -> bool:
    """Whether the one resample of that seed holds one architecture alone."""
    weights = SizedTruth(truth, Sizes([5.0] * len(truth)), resamples=1, seed=seed).truth.weights
    return bool(weights[0].max() == len(truth))


def test_blocks_of_signs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth, sizes = drawn(50, 1, 4)
    whole = matched_agreement(scores, truth, sizes, resamples=40)
    monkeypatch.setattr(module, "BLOCK", 7 * 50)
    assert matched_agreement(scores, truth, sizes, resamples=40) == whole


def test_resamples_follow_the_seed_and_are_those_of_the_rank_correlations() -> None:
    scores, truth, sizes = drawn(40, 2)
    one, other = (matched_agreement(scores, truth, sizes, seed=seed) for seed in (1, 2))
    assert one == matched_agreement(scores, truth, sizes, seed=1) != other
    both = SizedTruth(truth, Sizes(sizes, "size"), seed=1).agreement(scores)
    assert both.matched == one
    plain = agreement(scores, truth, seed=1)
    assert (both.spearman, both.kendall, both.top) == (plain.spearman, plain.kendall, plain.top)


def test_pairs_are_those_that_are_counted() -> None:
    _, _, sizes = drawn(40, 5, 3)
    sizes[[3, 30]] = math.nan
    pairs = Sizes(sizes).pairs
    expected = {
        frozenset((i, j)) for i in range(40) for j in range(i) if 1 / 1.15 <= round(sizes[i] / sizes[j], 12) <= 1.15
    }
    assert {frozenset(pair) for pair in pairs.T.tolist()} == expected
    assert pairs.shape == (2, len(expected))
    assert (sizes[pairs[0]] <= sizes[pairs[1]]).all()


def test_what_size_knows_is_worth_nothing_at_one_size() -> None:
    scores, truth, sizes = drawn(400, 0)
    by_size, proxy = (matched_agreement(x, truth, sizes, resamples=200) for x in (sizes, truth + scores))
    assert by_size.agreement is not None
    assert proxy.agreement is not None
    assert by_size.agreement.value < 0.2 < proxy.agreement.low


def test_a_matched_agreement_is_read_as_it_was_written() -> None:
    scores, truth, sizes = drawn(20, 0)
    for within in (1.15, 1.0):
        found = SizedTruth(truth, Sizes(sizes, within=within), resamples=20).agreement(scores)
        assert found.matched is not None
        assert (found.matched.agreement is None) == (within == 1)
        assert Agreement.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    old = agreement(scores, truth, resamples=20)
    assert "matched" not in old.to_dict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matched_agreement([1, 2], [1, 2], [0, 1]), "size of 0"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, -5], match="snip"), "'snip'"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, math.inf]), "inf"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 2], within=0.9), "0.9"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 2], within=math.nan), "nan"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 2], within=math.inf), "inf"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 2, 3]), "2, 2 and 3"),
        (lambda: matched_agreement([1, 2, 3], [1, 2], [1, 2]), "3, 2 and 2"),
        (lambda: matched_agreement([[1, 2]], [1, 2], [1, 2]), "scores"),
        (lambda: matched_agreement(["a", "b"], [1, 2], [1, 2]), "scores"),
        (lambda: matched_agreement([1, 2], [1, math.nan], [1, 1]), "nan"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 1], confidence=1.0), "confidence"),
        (lambda: matched_agreement([1, 2], [1, 2], [1, 1], resamples=0), "resamples"),
        (lambda: SizedTruth([1, 2, 3], Sizes([1, 2])), "3 and 2"),
        (lambda: SizedTruth([1, 2], Sizes([1, 2])).matched([1, 2, 3]), "3 and 2"),
    ],
)
def test_bad_input_is_refused_in_one_line(call: Callable[[], MatchedAgreement], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
