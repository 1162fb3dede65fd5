"""The consensus: which proxies are in it, and why the others are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.searching.consensus import consensus

NAMES = ("params", "num_layers", "snip", "w_pca", "plain", "flops")
PROXIES = [find_proxy(name) for name in NAMES]


def benchmark(seed: int, n: int = 40) -> tuple[SizedTruth, dict[str, np.ndarray]]:
    """Sizes that say nothing of the truth; scores of which three agree with it, and one contradicts it."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    scores = {
        "params": 100 + rng.integers(0, 5, n).astype(float),
        "num_layers": np.exp(truth + rng.normal(size=n)),
        "snip": np.exp(truth + 0.1 * rng.normal(size=n)),
        "w_pca": np.exp(truth + 3 * rng.normal(size=n)),
        "plain": np.exp(-truth + 0.2 * rng.normal(size=n)),
        "flops": np.exp(truth),
    }
    return SizedTruth(truth, Sizes(scores["params"]), resamples=10), scores


def two() -> tuple[dict[str, SizedTruth], dict[str, dict[str, np.ndarray]]]:
    made = {"one": benchmark(1), "other": benchmark(2)}
    return {name: truth for name, (truth, _) in made.items()}, {name: scores for name, (_, scores) in made.items()}


def test_members_agree_with_every_benchmark_and_the_most_reliable_is_first() -> None:
    truths, scores = two()
    found = consensus(PROXIES, scores, truths)
    assert found.members[:3] == ("flops", "snip", "num_layers")
    assert "plain" in found.left_out
    assert all(min(found.matched[name].values()) > 0 for name in found.members)
    assert set(found.members) | set(found.left_out) == set(NAMES)
    assert [member.name for member in find_proxy(found.text).members] == list(found.members)  # type: ignore[attr-defined]


def test_one_benchmark_that_contradicts_is_enough() -> None:
    truths, scores = two()
    scores["other"]["snip"] = 1 / scores["other"]["snip"]
    assert "on other" in consensus(PROXIES, scores, truths).left_out["snip"]


def test_a_proxy_for_which_lower_is_better_is_turned() -> None:
    truths, scores = two()
    turned = [replace(p, orientation=-1) if p.name == "plain" else p for p in PROXIES]
    assert "plain" in consensus(turned, scores, truths).members


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_a_score_without_logarithm_leaves_a_proxy_out(value: float) -> None:
    truths, scores = two()
    scores["other"]["snip"][3] = value
    assert "not above 0" in consensus(PROXIES, scores, truths).left_out["snip"]


def test_two_that_rank_alike_count_once() -> None:
    truths, scores = two()
    for name in truths:
        scores[name]["snip"] = 3 * scores[name]["flops"]
    found = consensus(PROXIES, scores, truths)
    assert "snip" not in found.members or "flops" not in found.members


def test_neither_the_order_of_proxies_nor_of_benchmarks_matters() -> None:
    truths, scores = two()
    back = dict(reversed(truths.items()))
    assert consensus(PROXIES[::-1], scores, back).members == consensus(PROXIES, scores, truths).members


def test_a_consensus_needs_two_and_pairs() -> None:
    truths, scores = two()
    with pytest.raises(LpzError, match="a consensus needs 2"):
        consensus([p for p in PROXIES if p.name in ("plain", "snip")], scores, truths)
    lonely = SizedTruth([1.0, 2.0, 3.0], Sizes([1, 10, 100]), resamples=10)
    with pytest.raises(UsageError, match="larger `within=`"):
        consensus(PROXIES, scores, {"one": lonely})
