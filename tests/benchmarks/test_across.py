"""Grades over several benchmarks: a cell is what its benchmark says, and a mean has the interval of its bootstrap."""

from __future__ import annotations

import json
import math
import random
import statistics

import numpy as np
import pytest

from lpzero_hf.benchmarks.across import BenchmarkColumn, GradeAcross, dense_ranks, grade_across
from lpzero_hf.benchmarks.agreement import Truth, agreement
from lpzero_hf.benchmarks.matched import Sizes, matched_agreement
from lpzero_hf.errors import UsageError

WITHIN = 1.3


def column(name: str, n: int, seed: int) -> BenchmarkColumn:
    rng = np.random.default_rng(seed)
    truth, sizes = rng.normal(size=n).tolist(), rng.uniform(10, 40, n)
    return BenchmarkColumn(name, [str(i) for i in range(n)], truth, Sizes(sizes, "size", WITHIN))


COLUMNS = [column("one", 20, 1), column("two", 20, 2), column("three", 15, 3)]
RNG = random.Random(4)
SCORES = {c.name: [round(value + RNG.gauss(0, 1), 1) for value in c.truth] for c in COLUMNS}


def test_a_cell_is_what_one_benchmark_says_and_the_mean_and_the_worst_are_over_cells() -> None:
    found = grade_across(COLUMNS, SCORES)
    for one in COLUMNS:
        cell, sizes = found.cells[one.name], one.sizes.values
        expected = matched_agreement(SCORES[one.name], one.truth, sizes, within=WITHIN)
        assert (cell.n, cell.pairs, cell.matched) == (len(one.truth), expected.pairs, expected.agreement)
        assert cell.spearman == agreement(SCORES[one.name], one.truth).spearman
    for kind in ("spearman", "matched"):
        values = {name: getattr(cell, kind).value for name, cell in found.cells.items()}
        over = getattr(found, kind)
        assert over.mean.value == pytest.approx(statistics.mean(values.values()))
        assert (over.worst, over.n) == (min(values.values()), 3)
        assert values[over.worst_on] == over.worst
        assert over.mean.low < over.mean.value < over.mean.high


def test_the_interval_of_a_mean_is_that_of_benchmarks_resampled_each_on_its_own() -> None:
    one = column("one", 60, 5)
    twins = [BenchmarkColumn(name, one.architectures, one.truth, one.sizes) for name in "abcd"]
    scores = [value + RNG.gauss(0, 0.7) for value in one.truth]
    found = grade_across(twins, {twin.name: scores for twin in twins})
    for over, cell in (
        (found.spearman.mean, found.cells["a"].spearman),
        (found.matched.mean, found.cells["a"].matched),
    ):
        assert over is not None
        assert cell is not None
        assert over.value == pytest.approx(cell.value)
        assert over.high - over.low == pytest.approx((cell.high - cell.low) / 2, rel=0.2)  # the root of four


def test_what_has_no_score_is_left_out_and_counted() -> None:
    few: list[float | None] = [1.0, 2.0, *[None] * 18]
    some: list[float | None] = [None if i % 3 == 0 else value for i, value in enumerate(SCORES["three"])]
    equal: list[float | None] = [1.0] * 20
    found = grade_across(COLUMNS, {"one": few, "two": equal, "three": some})
    assert (found.cells["one"].n, found.cells["one"].spearman, found.cells["one"].matched) == (2, None, None)
    assert (found.cells["two"].n, found.cells["two"].spearman) == (20, None)
    assert found.cells["two"].matched is not None
    assert found.cells["two"].matched.value == 0
    kept = [i for i in range(15) if i % 3]
    three, cell = COLUMNS[2], found.cells["three"]
    assert cell.spearman == agreement([SCORES["three"][i] for i in kept], [three.truth[i] for i in kept]).spearman
    expected = matched_agreement(
        [math.nan if v is None else v for v in some], three.truth, three.sizes.values, within=1.3
    )
    assert (cell.n, cell.matched) == (10, expected.agreement)
    assert (found.spearman.n, found.matched.n) == (1, 2)
    nothing = grade_across(COLUMNS, {})
    assert (nothing.spearman.mean, nothing.matched.worst, nothing.matched.n) == (None, None, 0)


def test_rows_that_lack_a_benchmark_come_after_those_that_have_all() -> None:
    good = {name: list(one.truth) for name, one in ((c.name, c) for c in COLUMNS)}
    graded = {
        "most": grade_across(COLUMNS, {name: good[name] for name in ("one", "two")}),
        "noisy": grade_across(COLUMNS, SCORES),
        "all": grade_across(COLUMNS, good),
        "none": grade_across(COLUMNS, {}),
    }
    assert sorted(graded, key=lambda name: graded[name].order) == ["all", "noisy", "most", "none"]


def test_ranks_are_graded_as_the_scores_are_and_a_grade_is_kept_as_json() -> None:
    two: list[float | None] = [None if i % 4 == 0 else value for i, value in enumerate(SCORES["two"])]
    some: dict[str, list[float | None]] = {"one": [*SCORES["one"]], "two": two, "three": [*SCORES["three"]]}
    found = grade_across(COLUMNS, some)
    assert grade_across(COLUMNS, {name: dense_ranks(values) for name, values in some.items()}) == found
    assert GradeAcross.from_json(json.loads(json.dumps(found.to_json()))) == found
    unknown = BenchmarkColumn("one", "abc", [1.0, 2.0, 3.0], Sizes([5, 5, math.nan], "size", 2.0))
    read = BenchmarkColumn.from_json("one", json.loads(json.dumps(unknown.to_json())), "size", 2.0)
    assert grade_across([read], {"one": [1, 3, 2]}) == grade_across([unknown], {"one": [1, 3, 2]})
    assert dense_ranks([0.5, None, -1.0, 0.5]) == [1, None, 0, 1]


def test_scores_of_another_number_of_architectures_are_refused() -> None:
    with pytest.raises(UsageError, match="20 architectures"):
        grade_across(COLUMNS, SCORES | {"one": [1.0, 2.0, 3.0]})


def test_undefined_resamples_are_marked() -> None:
    rho, resampled = Truth([1.0, 2.0, 3.0]).spearman([1.0, 1.0, 1.0])
    assert rho is None
    assert np.isnan(resampled).all()
    rho, resampled = Truth([1.0, 2.0, 3.0]).spearman([1.0, 2.0, 3.0])
    assert rho == 1
    assert 0 < np.isnan(resampled).sum() < len(resampled)  # three times the same one
    assert set(resampled[~np.isnan(resampled)]) <= {-1.0, 1.0} | set(resampled[resampled > 0.99])
