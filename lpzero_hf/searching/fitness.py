"""The fitness of an expression: its rank correlation with trained performance, on one benchmark or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.proxies.base import Orientation
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks
from lpzero_hf.searching.score_source import ScoreSource

Combine = Literal["mean", "worst"]


@dataclass(frozen=True)
class Evaluation:
    """The fitness of one expression.

    Args:
        fitness: in [0, 1]; None for one that was rejected.
        orientation: 1 if higher is better, -1 if lower is better.
        correlations: one signed rank correlation per part: benchmark, and setting of it.
        rejected: why there is no fitness: invalid, all equal or bounded out.
    """

    fitness: float | None
    orientation: Orientation = 1
    correlations: tuple[float, ...] = ()
    rejected: str = ""


@dataclass(frozen=True)
class SearchPart:
    """One benchmark's architectures to search on, under one setting.

    Args:
        source: of their scores: branch tables, or passes over the models.
        correlation: with their trained performance, on the device of the scores.
    """

    source: ScoreSource
    correlation: RankCorrelation


class FitnessEvaluator:
    """The fitness of expressions on one benchmark or several, under one setting (minibatch and weights) or several.

    All parts share one orientation. Fitness is the mean, or the worst, over benchmarks of the mean, or the worst, over
    settings of the correlations times the orientation; so benchmarks weigh alike, whatever their architectures or
    pairs.

    Args:
        parts: one per benchmark and setting; those of a benchmark are neighbours.
        combine: mean or worst, of the benchmarks.
        early: number of architectures of each benchmark that are evaluated first; 0 evaluates all at once. An
            expression whose scores of those are not finite is invalid, and one that cannot reach `threshold` with any
            scores of the others is bounded out (an exact bound for scores without ties); the others are then skipped.
        settings: number of settings of each benchmark.
        over_settings: mean or worst, of the settings.
    """

    def __init__(
        self,
        parts: Sequence[SearchPart],
        combine: Combine = "mean",
        early: int = 0,
        *,
        settings: int = 1,
        over_settings: Combine = "mean",
    ) -> None:
        self.parts, self.combine = list(parts), combine
        self.settings, self.over_settings = settings, over_settings
        self.first = [
            (tables.part(range(early)), _Bound(part.correlation.truth, early))
            for part in parts
            if 0 < early < part.source.n
            and part.correlation.kind == "spearman"
            and (tables := part.source.tables) is not None
        ]

    @property
    def tables(self) -> list[Stack]:
        """The branch tables of the parts that have them."""
        return [tables for part in self.parts if (tables := part.source.tables) is not None]

    def __call__(self, expression: Expression, threshold: float = 0.0) -> Evaluation:
        """The fitness of one expression, unless it cannot reach `threshold`."""
        if self.first:
            rejected = self._early(expression, threshold)
            if rejected:
                return Evaluation(None, rejected=rejected)
        correlations = []
        for part in self.parts:
            scores = part.source.score(expression)
            if not bool(torch.isfinite(scores).all()):
                return Evaluation(None, rejected="invalid")
            value = float(part.correlation(scores))
            if value != value:
                return Evaluation(None, rejected="all equal")
            correlations.append(value)
        fitness, orientation = self.combined(torch.tensor(correlations, dtype=torch.float64)[:, None])
        return Evaluation(float(fitness), 1 if float(orientation) > 0 else -1, tuple(correlations))

    def combined(self, correlations: Tensor) -> tuple[Tensor, Tensor]:
        """Fitness and orientation (1 or -1) from the correlations [parts, ...]."""
        return combined(correlations, self.combine, self.settings, self.over_settings)

    def many(self, expressions: Sequence[Expression], bar: float = 0.0) -> list[Evaluation]:
        """The fitness of each expression; all are scored together, on all architectures.

        Args:
            expressions: to evaluate.
            bar: of the fitness that matters. That rounding decides a score is looked for from there on, where the
                source can tell; the expression is then invalid.
        """
        made = self._unchecked(expressions)
        worth = [place for place, one in enumerate(made) if one.fitness is not None and one.fitness >= bar]
        for part in self.parts:
            if part.source.checks and worth:
                scored = torch.isfinite(part.source.scores([expressions[place] for place in worth])).all(1).tolist()
                for place, finite in zip(worth, scored, strict=True):
                    if not finite:
                        made[place] = Evaluation(None, rejected="invalid")
        return made

    def _unchecked(self, expressions: Sequence[Expression]) -> list[Evaluation]:
        correlations, reasons = [], [""] * len(expressions)
        for part in self.parts:
            scores = part.source.scores(expressions, check=False)
            made = part.correlation(scores)
            correlations.append(made)
            finite, defined = torch.isfinite(scores).all(1).tolist(), (~torch.isnan(made)).tolist()
            for place, reason in enumerate(reasons):
                if not reason and not (finite[place] and defined[place]):
                    reasons[place] = "all equal" if finite[place] else "invalid"
        both = torch.stack(correlations)
        fitness, orientation = (values.tolist() for values in self.combined(both))
        return [
            Evaluation(None, rejected=reason) if reason
            else Evaluation(fitness[i], 1 if orientation[i] > 0 else -1, tuple(both[:, i].tolist()))
            for i, reason in enumerate(reasons)
        ]  # fmt: skip

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Announce expressions that will be evaluated, so that those that need passes over the models share them."""
        for part in self.parts:
            part.source.prepare(expressions)

    def _early(self, expression: Expression, threshold: float) -> str:
        reach = []
        for tables, bound in self.first:
            scores = tables.score(expression)
            if not bool(torch.isfinite(scores).all()):
                return "invalid"
            reach.append(bound(scores))
        reach += [(1.0, 1.0)] * (len(self.parts) - len(reach))  # of benchmarks that are evaluated at once
        up, down = torch.tensor(reach, dtype=torch.float64).T
        best, _ = _better(up, down, self.combine, self.settings, self.over_settings)
        return "bounded out" if best < threshold else ""

    def grid(
        self, left: str, right: str, op: str, reduce: str, aggregate: str, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """[parts, rows, columns], the correlations for some chains of each statistic; NaN where rejected.

        `op` may be "alone": [parts, rows, 1], the left statistic with the other branch dropped.
        """
        correlations = []
        for part, tables in zip(self.parts, self.tables, strict=True):  # an enumerated space has tables
            if op == "alone":
                scores = tables.alone(left, reduce, aggregate, rows)[:, :, None]
            else:
                scores = tables.grid(left, right, op, reduce, aggregate, rows, columns)
            correlations.append(part.correlation(scores.movedim(0, -1).contiguous()))
        return torch.stack(correlations)


def combined(
    correlations: Tensor, combine: Combine, settings: int = 1, over_settings: Combine = "mean"
) -> tuple[Tensor, Tensor]:
    """Fitness and orientation (1 or -1) from correlations.

    Args:
        correlations: [benchmarks * settings, ...], those of a benchmark are neighbours.
        combine: mean or worst, of the benchmarks.
        settings: of each benchmark.
        over_settings: mean or worst, of the settings of a benchmark, which come first.
    """
    return _better(correlations, -correlations, combine, settings, over_settings)


def _better(up: Tensor, down: Tensor, combine: Combine, settings: int, over_settings: Combine) -> tuple[Tensor, Tensor]:
    """The higher of two folded [benchmarks * settings, ...], and 1 where it is `up`, else -1."""
    ups, downs = (
        _fold(_fold(side.unflatten(0, (-1, settings)), over_settings, 1), combine, 0) for side in (up, down)
    )  # fmt: skip
    return torch.maximum(ups, downs), torch.where(ups >= downs, 1.0, -1.0)


def _fold(correlations: Tensor, how: Combine, dim: int) -> Tensor:
    return correlations.mean(dim) if how == "mean" else correlations.amin(dim)


class _Bound:
    """Upper bounds of Spearman's rho and of minus rho when the first m of n scores are known.

    Without ties, the covariance of the ranks of x and y is the sum over pairs of sign(x_i - x_j) (r_i - r_j) with the
    ranks r of y: pairs that are not known yet add at most |r_i - r_j|.
    """

    def __init__(self, truth: Tensor, m: int) -> None:
        ranks = mid_ranks(truth[None])[0]
        i, j = torch.triu_indices(len(truth), len(truth), 1, device=truth.device)
        steps = ranks[i] - ranks[j]
        known = (i < m) & (j < m)
        self.i, self.j, self.steps = i[known], j[known], steps[known]
        self.rest = steps[~known].abs().sum()
        n = len(truth)
        centred = ranks - ranks.mean()
        self.most = (centred.square().sum() * n * (n * n - 1) / 12).sqrt()

    def __call__(self, scores: Tensor) -> tuple[float, float]:
        """The highest possible rho, and the highest possible minus rho."""
        known = (torch.sign(scores[self.i] - scores[self.j]) * self.steps).sum()
        return float((known + self.rest) / 2 / self.most), float((self.rest - known) / 2 / self.most)
