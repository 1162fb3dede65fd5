"""What an expression is worth: its rank correlation with trained performance, on one benchmark or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.proxies.base import Orientation
from lpzero_hf.search.correlation import Fitness, mid_ranks
from lpzero_hf.search.direct_scores import Passes

Combine = Literal["mean", "worst"]


@dataclass(frozen=True)
class Verdict:
    """What an expression is worth.

    Args:
        fitness: in [0, 1]; None for one that was rejected.
        orientation: 1 if a larger score predicts a better model.
        correlations: one signed rank correlation per benchmark.
        rejected: why there is no fitness: invalid, all equal or hopeless.
    """

    fitness: float | None
    orientation: Orientation = 1
    correlations: tuple[float, ...] = ()
    rejected: str = ""


@dataclass(frozen=True)
class Subject:
    """One benchmark's architectures to search on.

    Args:
        source: of their scores: branch tables, or passes over the models.
        fitness: of their trained performance, on the device of the scores.
    """

    source: Stack | Passes
    fitness: Fitness


class Judge:
    """Judges expressions on one benchmark or several.

    With several, one orientation must serve all: fitness is the mean, or the worst, of the correlations turned
    that way.

    Args:
        subjects: one per benchmark.
        combine: mean or worst.
        early: how many architectures of each benchmark are looked at first; 0 looks at all at once. An expression
            whose scores of those are not finite is invalid, and one that could not reach `bar` however it ranked the
            others is hopeless (an exact bound for scores without ties), so neither costs more.
    """

    def __init__(self, subjects: Sequence[Subject], combine: Combine = "mean", early: int = 0) -> None:
        self.subjects, self.combine = list(subjects), combine
        self.first = [
            (subject.source.part(range(early)), _Bound(subject.fitness.truth, early))
            for subject in subjects
            if 0 < early < subject.source.n and subject.fitness.kind == "spearman" and isinstance(subject.source, Stack)
        ]

    def __call__(self, expression: Expression, bar: float = 0.0) -> Verdict:
        """The worth of one expression, unless it cannot reach `bar`."""
        if self.first:
            rejected = self._early(expression, bar)
            if rejected:
                return Verdict(None, rejected=rejected)
        correlations = []
        for subject in self.subjects:
            scores = subject.source.score(expression)
            if not bool(torch.isfinite(scores).all()):
                return Verdict(None, rejected="invalid")
            value = float(subject.fitness(scores))
            if value != value:
                return Verdict(None, rejected="all equal")
            correlations.append(value)
        fitness, orientation = combined(torch.tensor(correlations, dtype=torch.float64)[:, None], self.combine)
        return Verdict(float(fitness), 1 if float(orientation) > 0 else -1, tuple(correlations))

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Say that these will be asked for; those that need passes over the models share them."""
        for subject in self.subjects:
            if isinstance(subject.source, Passes):
                subject.source.prepare(expressions)

    def _early(self, expression: Expression, bar: float) -> str:
        reach = []
        for stack, bound in self.first:
            scores = stack.score(expression)
            if not bool(torch.isfinite(scores).all()):
                return "invalid"
            reach.append(bound(scores))
        best = max(_fold(torch.tensor(side, dtype=torch.float64), self.combine) for side in zip(*reach, strict=True))
        return "hopeless" if best < bar else ""

    def grid(
        self, left: str, right: str, op: str, reduce: str, aggregate: str, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """[benchmarks, rows, columns], the correlations for some chains of each statistic; NaN where rejected.

        `op` may be "alone": [benchmarks, rows, 1], the left statistic with the other branch dropped.
        """
        found = []
        for subject in self.subjects:
            assert isinstance(subject.source, Stack)  # a space that is enumerated has tables
            if op == "alone":
                scores = subject.source.alone(left, reduce, aggregate, rows)[:, :, None]
            else:
                scores = subject.source.grid(left, right, op, reduce, aggregate, rows, columns)
            found.append(subject.fitness(scores.movedim(0, -1).contiguous()))
        return torch.stack(found)


def combined(correlations: Tensor, combine: Combine) -> tuple[Tensor, Tensor]:
    """Fitness and orientation (1 or -1) from correlations [benchmarks, ...]."""
    up, down = _fold(correlations, combine), _fold(-correlations, combine)
    return torch.maximum(up, down), torch.where(up >= down, 1.0, -1.0)


def _fold(correlations: Tensor, combine: Combine) -> Tensor:
    return correlations.mean(0) if combine == "mean" else correlations.amin(0)


class _Bound:
    """How far Spearman's rho can still go, up and down, once the first m of n scores are known.

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
        """The largest rho that can be reached, and the largest of minus rho."""
        known = (torch.sign(scores[self.i] - scores[self.j]) * self.steps).sum()
        return float((known + self.rest) / 2 / self.most), float((self.rest - known) / 2 / self.most)
