"""Of few architectures, or of few pairs, an agreement has no interval; and where it is shown, that is said."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from lpz_cli.bench import brief, three
from lpz_report.document import interval as cells_of_report

from lpzero_hf.artifacts.artifact import Artifact, Member
from lpzero_hf.artifacts.card import card
from lpzero_hf.benchmarks.across import BenchmarkColumn, grade_across
from lpzero_hf.benchmarks.agreement import FEWEST, Estimate, agreement
from lpzero_hf.benchmarks.matched import FEWEST_PAIRS, SizedTruth, Sizes, matched_agreement
from lpzero_hf.scoring.display import estimated as columns_of

ORDERS: dict[str, Callable[[int], list[float]]] = {
    "as trained": lambda n: [float(i) for i in range(n)],
    "reversed": lambda n: [float(-i) for i in range(n)],
    "with ties": lambda n: [float(i // 2) for i in range(n)],
    "all but one equal": lambda n: [0.0] * (n - 1) + [1.0],
    "all equal": lambda n: [1.0] * n,
}
TRUTHS = ("as trained", "with ties", "all but one equal")
NOTHING = (-1.0, 1.0)


def ends(estimate: Estimate | None) -> tuple[float, float] | None:
    return None if estimate is None else (estimate.low, estimate.high)


@pytest.mark.parametrize(("scores", "truth"), list(product(ORDERS, TRUTHS)))
@pytest.mark.parametrize("n", range(2, FEWEST))
def test_few_architectures_have_no_interval(n: int, scores: str, truth: str) -> None:
    given, known = ORDERS[scores](n), ORDERS[truth](n)
    found = SizedTruth(known, Sizes([100.0] * n)).agreement(given)
    for one in (found.spearman, found.kendall):
        assert ends(one) in (None, NOTHING)
    assert found.matched is not None
    assert ends(found.matched.agreement) == ends(matched_agreement(given, known, [100.0] * n).agreement) == NOTHING
    cells = grade_across([BenchmarkColumn("b", [str(i) for i in range(n)], known, Sizes([100.0] * n))], {"b": given})
    for over, cell in ((cells.spearman, cells.cells["b"].spearman), (cells.matched, cells.cells["b"].matched)):
        assert ends(over.mean) == ends(cell)
        assert ends(cell) in (None, NOTHING)


def test_enough_architectures_have_one() -> None:
    found = agreement([1, 2, 4, 3, 5], [1, 2, 3, 4, 5])
    for one in (found.spearman, found.kendall):
        assert one is not None
        assert one.known


@pytest.mark.parametrize(
    ("sizes", "pairs"),
    [([1, 1, 1, 9, 90, 900, 9000], 3), ([1, 1, 5, 5, 25, 25, 125, 125, 625, 625], 5),
     ([1, 1, 1, 1, 9, 90, 900], 6)],
)  # fmt: skip
def test_few_pairs_or_pairs_of_few_architectures_have_no_interval(sizes: list[float], pairs: int) -> None:
    n = len(sizes)
    for scores in ORDERS.values():
        found = matched_agreement(scores(n), list(range(n)), sizes)
        assert (found.pairs, ends(found.agreement)) == (pairs, NOTHING)


def test_enough_pairs_of_enough_architectures_have_one() -> None:
    sizes = [1, 1, 5, 5, 25, 25, 125, 125, 625, 625, 3000, 3000]
    scores = [2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    found = matched_agreement(scores, list(range(12)), sizes)
    assert found.pairs == FEWEST_PAIRS
    assert found.agreement is not None
    assert found.agreement.known


def test_a_mean_over_benchmarks_knows_no_more_than_its_smallest() -> None:
    large, small = (BenchmarkColumn(str(n), range(n), list(range(n)), Sizes([1.0] * n)) for n in (20, 4))  # type: ignore[arg-type]  # names may be numbers
    scores = {"20": [*range(10, 20), *range(10)], "4": [1, 2, 4, 3]}
    both = grade_across([large, small], scores)
    assert ends(both.spearman.mean) == ends(both.matched.mean) == NOTHING
    alone = grade_across([large], scores)
    assert alone.spearman.mean is not None
    assert alone.spearman.mean.known


@pytest.mark.parametrize("estimate", [Estimate(1.0, -1.0, 1.0), Estimate(1.0, 1.0, 1.0), Estimate(0.0, 0.0, 0.0)])
def test_what_says_nothing_is_shown_as_no_interval(estimate: Estimate) -> None:
    said = "[no interval]"
    assert said in brief(estimate)
    graded = {"b": {"n": 9, "spearman": {"value": estimate.value, "low": estimate.low, "high": estimate.high}}}
    record = {"benchmarks": ["b"], "strategy": "", "seed": 1, "train": {}, "held_out": graded, "versions": {}}
    assert said in card(Artifact("mine", (Member("sum(sum(W))", 1),), {}, record))
    assert said in str(cells_of_report(estimate))
    assert three(estimate) == (estimate.value, "", "")
    assert list(columns_of("rho", estimate).values()) == [estimate.value, None, None]
    assert said not in brief(Estimate(0.5, 0.2, 0.7))
