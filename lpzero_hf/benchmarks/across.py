"""Grades the scores of one row of a table on several benchmarks: a cell for each, and their mean and worst.

A row is anything that has a score for architectures: a proxy, an expression, an ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lpzero_hf.benchmarks.agreement import FEWEST as FEWEST_WITH_INTERVAL
from lpzero_hf.benchmarks.agreement import Estimate, Vector, estimated
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import UsageError

FEWEST = 3  # architectures that have a ranking
Scores = Mapping[str, Sequence[float | None]]  # by benchmark, of every architecture in order; None where there is none


@dataclass(frozen=True)
class BenchmarkColumn:
    """One benchmark of the table.

    Args:
        name: of the benchmark.
        architectures: their n keys.
        truth: [n], their trained performance, higher is better.
        sizes: [n], by which they are matched.
    """

    name: str
    architectures: Sequence[str]
    truth: Sequence[float]
    sizes: Sizes
    _parts: dict[tuple[int, ...], SizedTruth] = field(default_factory=dict, init=False, repr=False, compare=False)

    def part(self, rows: Sequence[int]) -> SizedTruth:
        """The truth of some of the architectures, prepared once for all rows of the table that score just these."""
        some = tuple(rows)
        if some not in self._parts:
            truth = np.asarray(self.truth, np.float64)[list(some)]
            self._parts[some] = SizedTruth(truth, self.sizes.part(some))
        return self._parts[some]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        sizes = [float(size) if math.isfinite(size) else None for size in self.sizes.values]
        return {"architectures": list(self.architectures), "truth": list(self.truth), "sizes": sizes}

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any], match: str, within: float) -> BenchmarkColumn:
        """The column from the result of `to_json`, with the sizes' proxy and factor."""
        sizes = [math.nan if size is None else size for size in data["sizes"]]
        return cls(name, data["architectures"], data["truth"], Sizes(sizes, match, within))


@dataclass(frozen=True)
class BenchmarkCell:
    """What the scores of one row are worth on one benchmark.

    Args:
        n: the number of architectures that have a score.
        spearman: Spearman's rho; None where it is undefined: fewer than 3 architectures, or equal scores.
        matched: the agreement at matched size; None without pairs, or for fewer than 3 architectures.
        pairs: the number of pairs of like size.
    """

    n: int
    spearman: Estimate | None
    matched: Estimate | None
    pairs: int


@dataclass(frozen=True)
class MeanAcross:
    """One measure over benchmarks.

    Args:
        mean: over those where it is defined; None if there are none. The interval is that of a bootstrap that
            resamples the architectures within each benchmark; [-1, 1] if one of these is too small for an interval.
        worst: the lowest.
        worst_on: the benchmark of the worst.
        n: the number of benchmarks where it is defined.
    """

    mean: Estimate | None
    worst: float | None
    worst_on: str | None
    n: int


@dataclass(frozen=True)
class GradeAcross:
    """The grades of one row.

    Args:
        cells: by benchmark.
        spearman: Spearman's rho over the benchmarks.
        matched: the agreement at matched size over the benchmarks.
    """

    cells: dict[str, BenchmarkCell]
    spearman: MeanAcross
    matched: MeanAcross

    @property
    def order(self) -> tuple[float, float, float]:
        """Sorts rows: those with more benchmarks first, whose means are over the same, then by matched agreement."""
        return -self.matched.n, _falling(self.matched.mean), _falling(self.spearman.mean)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GradeAcross:
        """The grades from the result of `to_json`."""
        cells = {
            name: BenchmarkCell(cell["n"], _read(cell["spearman"]), _read(cell["matched"]), cell["pairs"])
            for name, cell in data["cells"].items()
        }
        means = (MeanAcross(**{**data[kind], "mean": _read(data[kind]["mean"])}) for kind in ("spearman", "matched"))
        return cls(cells, *means)


def _falling(mean: Estimate | None) -> float:
    return 2.0 if mean is None else -mean.value


def _read(estimate: Mapping[str, float] | None) -> Estimate | None:
    return None if estimate is None else Estimate(**estimate)


def grade_across(columns: Sequence[BenchmarkColumn], scores: Scores) -> GradeAcross:
    """Grade the scores of one row on every benchmark.

    Args:
        columns: the benchmarks.
        scores: by benchmark, higher is better; of a benchmark that is missing, or in which fewer than 3 architectures
            have a finite score, no measure is defined.

    Raises:
        UsageError: there is not a score, or None, for each architecture.

    Example:
        >>> column = BenchmarkColumn("mine", "abcd", [1, 2, 3, 4], Sizes([9, 9, 9, 90]))
        >>> found = grade_across([column], {"mine": [2, 1, 3, 4]})
        >>> round(found.spearman.mean.value, 3), round(found.matched.mean.value, 3)
        (0.8, 0.333)
    """
    cells: dict[str, BenchmarkCell] = {}
    resampled: dict[str, dict[str, Vector]] = {"spearman": {}, "matched": {}}
    for place, column in enumerate(columns):
        given = np.array([math.nan if v is None else v for v in scores.get(column.name, ())], np.float64)
        if column.name in scores and len(given) != len(column.truth):
            raise UsageError(
                f"'{column.name}' has {len(column.truth)} architectures, and {len(given)} scores are given"
            )
        scored = np.flatnonzero(np.isfinite(given)).tolist()
        if len(scored) < FEWEST:
            cells[column.name] = BenchmarkCell(len(scored), None, None, 0)
            continue
        sized = column.part(scored)
        rho, rhos = sized.truth.spearman(given[scored])
        agreed, agreements = sized.agreed(given[scored])
        few = {"spearman": len(scored) < FEWEST_WITH_INTERVAL, "matched": sized.few}
        cells[column.name] = BenchmarkCell(
            len(scored),
            None if rho is None else estimated(rho, rhos, few=few["spearman"]),
            None if agreed is None else estimated(agreed, agreements, few=few["matched"]),
            sized.pairs,
        )
        # benchmarks of one length share their draws, so each is paired with other resamples of the others
        for kind, made in (("spearman", rhos), ("matched", agreements)):
            resampled[kind][column.name] = np.full(len(made), math.nan) if few[kind] else np.roll(made, place)
    means = (
        _mean({name: getattr(cell, kind) for name, cell in cells.items()}, made) for kind, made in resampled.items()
    )
    return GradeAcross(cells, *means)


def _mean(estimates: Mapping[str, Estimate | None], resampled: Mapping[str, Vector]) -> MeanAcross:
    values = {name: estimate.value for name, estimate in estimates.items() if estimate is not None}
    if not values:
        return MeanAcross(None, None, None, 0)
    spread = np.mean([resampled[name] for name in values], axis=0)  # NaN where it is in any of them
    worst_on = min(values, key=values.__getitem__)
    mean = estimated(sum(values.values()) / len(values), spread)
    return MeanAcross(mean, values[worst_on], worst_on, len(values))


def dense_ranks(values: Sequence[float | None]) -> list[int | None]:
    """Ranks among the distinct scores from 0, None where there is none: all that grades and rank ensembles read."""
    known = sorted({value for value in values if value is not None})
    ranks = {value: rank for rank, value in enumerate(known)}
    return [None if value is None else ranks[value] for value in values]
