"""What the scores of a proxy say beyond the size, the depth and the width of an architecture.

Three further answers beside agreement at matched size: how residuals agree, how much a regression gains, and how good
the best-scored architectures under a budget are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.benchmarks.agreement import Estimate, Truth, Vector, spearman

FOLDS, STRENGTH, SEED = 10, 1.0, 42
SHARES, PICKS = (0.25, 0.5, 0.75, 1.0), (1, 5)
DIGITS = 9  # of a residual, as a share of the whole: what is less is rounding


@dataclass(frozen=True)
class BudgetRegret:
    """What is lost if one trains the k best-scored of the architectures under a budget, and keeps the best of them.

    Args:
        budget: the largest size allowed.
        n: the number of architectures under it.
        k: how many of them are trained.
        regret: the best trained performance under the budget minus the best of the k, in the metric's unit. Of tied
            scores, the expected value if ties are broken at random.
        chance: the regret of k architectures picked at random.
    """

    budget: float
    n: int
    k: int
    regret: float
    chance: float


@dataclass(frozen=True)
class BeyondSize:
    """What scores say beyond size, depth and width; None where too few architectures or equal ones leave it undefined.

    Args:
        residual: Spearman's rho of the residuals of scores and truth, see the function `residual`.
        ridge: Spearman's rho of the truth with cross-validated predictions from size, depth and width.
        ridge_with: the same with the scores as a further feature.
        regret: for the quartiles of the sizes as budgets, and 1 and 5 architectures trained.
    """

    residual: Estimate | None
    ridge: float | None
    ridge_with: float | None
    regret: tuple[BudgetRegret, ...]

    @property
    def gain(self) -> float | None:
        """What the scores add to the ridge regression."""
        return None if self.ridge is None or self.ridge_with is None else self.ridge_with - self.ridge


class SizeFeatures:
    """The sizes, depths and widths of n architectures; regressions use log size, depth, width and their ranks.

    Args:
        sizes: [n], above 0; NaN where unknown, here and below.
        depth: [n], layers.
        width: [n], the hidden size.
    """

    def __init__(self, sizes: ArrayLike, depth: ArrayLike, width: ArrayLike) -> None:
        self.sizes, self.depth, self.width = (np.asarray(x, np.float64) for x in (sizes, depth, width))

    def part(self, rows: Sequence[int]) -> SizeFeatures:
        """Those of some of the architectures."""
        some = list(rows)
        return SizeFeatures(self.sizes[some], self.depth[some], self.width[some])

    def beyond(self, scores: ArrayLike, truth: ArrayLike) -> BeyondSize:
        """All that scores [n] say of the truth [n] beyond these features; both finite, higher is better."""
        x, y = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
        sized = np.flatnonzero(np.isfinite(self.sizes))
        regret = tuple(_regrets(x[sized], y[sized], self.sizes[sized]))
        known = np.flatnonzero(np.isfinite(self.sizes + self.depth + self.width))
        described = [np.log(self.sizes[known]), self.depth[known], self.width[known]]
        # with their ranks, so that whatever follows one of them is explained by it
        features = np.column_stack([*described, *map(stats.rankdata, described)])
        x, y = (stats.rankdata(values[known]) for values in (x, y))
        if len(known) < FOLDS or np.ptp(x) == 0 or np.ptp(y) == 0:
            return BeyondSize(None, None, None, regret)
        ridge, both = (spearman(predicted(z, y), y) for z in (features, np.column_stack([features, x])))
        return BeyondSize(residual(features, x, y), ridge, both, regret)


def residual(features: Vector, scores: Vector, truth: Vector) -> Estimate | None:
    """Spearman's rho of what is left of scores and truth when the features are regressed out of both.

    Least squares with an intercept on the ranks of scores and of truth, so that only the order of the scores counts; a
    partial rank correlation. The interval is of bootstrap resamples of the residuals.

    Args:
        features: [n, f].
        scores: [n], ranks.
        truth: [n], ranks.

    Returns:
        None if the features explain scores or truth wholly.
    """
    design = np.column_stack([np.ones(len(features)), _standardised(features, features)])
    left = []
    for values in (scores, truth):
        rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        left.append(np.round(rest / np.linalg.norm(values - values.mean()), DIGITS))  # equal ones stay equal
    return Truth(left[1]).agreement(left[0]).spearman


def predicted(features: Vector, target: Vector) -> Vector:
    """Predictions [n] of a ridge regression, each made without the fold that the architecture is in.

    Features are standardised on the other folds, and the sum of the squared weights counts `STRENGTH` times.

    Args:
        features: [n, f].
        target: [n].
    """
    folds = np.random.default_rng(SEED).permutation(len(target)) % FOLDS
    made = np.empty(len(target))
    for fold in range(FOLDS):
        fit, rest = folds != fold, folds == fold
        z = _standardised(features[fit], features[fit])
        centre = target[fit].mean()
        weights = np.linalg.solve(z.T @ z + STRENGTH * np.eye(z.shape[1]), z.T @ (target[fit] - centre))
        made[rest] = _standardised(features[rest], features[fit]) @ weights + centre
    return made


def _standardised(features: Vector, by: Vector) -> Vector:
    spread = by.std(0)
    scaled: Vector = (features - by.mean(0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def _regrets(scores: Vector, truth: Vector, sizes: Vector) -> list[BudgetRegret]:
    found = []
    for budget in np.unique(np.quantile(sizes, SHARES, method="lower")) if len(sizes) else ():
        under = sizes <= budget
        best, count = truth[under].max(), int(under.sum())
        for k in PICKS:
            if k < count:
                regret, chance = (float(best - best_of(x, truth[under], k)) for x in (scores[under], np.zeros(count)))
                found.append(BudgetRegret(float(budget), count, k, regret, chance))
    return found


def best_of(scores: Vector, truth: Vector, k: int) -> float:
    """The best truth among the k highest scores; with ties for the last places, its mean over random choices.

    Args:
        scores: [n].
        truth: [n].
        k: 1 to n.
    """
    boundary = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = truth[scores > boundary]
    tied: NDArray[np.float64] = np.sort(truth[scores == boundary])[::-1]
    places, whole = k - len(above), len(tied)
    base = float(above.max()) if len(above) else -math.inf
    ways = math.comb(whole, places)
    # the q-th of the tied is the best drawn if it is drawn and those before it are not
    return sum(
        math.comb(whole - q - 1, places - 1) / ways * max(base, float(tied[q])) for q in range(whole - places + 1)
    )
