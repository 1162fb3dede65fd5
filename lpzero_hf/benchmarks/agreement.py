"""How well scores rank architectures against their trained performance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.artifacts.interval_text import LEAST, MOST, between, is_known
from lpzero_hf.errors import UsageError

Vector = NDArray[np.float64]
FEWEST = 5  # architectures with an interval: chance gives the order of 4, or its reverse, once in 12 times
BLOCK = 2**22  # numbers in one block of a sign matrix: 16 MiB


@dataclass(frozen=True)
class Estimate:
    """A rank correlation with its percentile bootstrap interval; all three lie in [-1, 1].

    Args:
        value: the statistic of all architectures.
        low: the lower end of the interval; -1 where nothing is known, see `agreement`.
        high: the upper end; likewise 1.
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the interval says how sure the value is."""
        return is_known(self.low, self.high)

    def between(self, number: Callable[[float], str]) -> str:
        """The interval as text; it says so where there is none (`lpzero_hf.artifacts.interval_text`)."""
        return between(self.low, self.high, number)


@dataclass(frozen=True)
class MatchedAgreement:
    """How well scores agree with trained performance among architectures of like size (`lpzero_hf.benchmarks.matched`).

    Args:
        match: the proxy whose scores are the sizes.
        within: the factor by which the sizes of a pair differ at most.
        pairs: the number of pairs.
        agreement: the mean over pairs of sign(score difference) sign(truth difference), in [-1, 1]; None without pairs.
    """

    match: str
    within: float
    pairs: int
    agreement: Estimate | None


@dataclass(frozen=True)
class Agreement:
    """How well scores agree with trained performance.

    Args:
        n: the number of architectures compared.
        spearman: Spearman's rho, or None where it is undefined (see `spearman`).
        kendall: Kendall's tau-b, or None where it is undefined.
        top: the share of the truly best that are among the best-scored, in [0, 1] (see `precision_at_top`).
        matched: agreement at matched size; None where no sizes were given.
    """

    n: int
    spearman: Estimate | None
    kendall: Estimate | None
    top: float
    matched: MatchedAgreement | None = None

    def to_dict(self) -> dict[str, Any]:
        """The agreement as plain data for JSON; never holds NaN, and `matched` only where there is one."""
        data = asdict(self)
        if self.matched is None:
            del data["matched"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agreement:
        """The agreement from the result of `to_dict`."""
        rho, tau = (_read(data[kind]) for kind in ("spearman", "kendall"))
        matched = data.get("matched")
        if matched is not None:
            matched = MatchedAgreement(**{**matched, "agreement": _read(matched["agreement"])})
        return cls(data["n"], rho, tau, data["top"], matched)


def _read(estimate: Mapping[str, float] | None) -> Estimate | None:
    return None if estimate is None else Estimate(**estimate)


class Truth:
    """The trained performance of n architectures, prepared once to be compared with the scores of many proxies.

    A resample draws n architectures with replacement. All proxies are evaluated on the same resamples, so their
    agreements are paired.

    Args:
        values: [n], higher is better.
        resamples: the number R of bootstrap resamples.
        seed: draws the resamples.

    Attributes:
        values: [n], float64.
        weights: [R, n], how many times each resample holds each architecture; whole numbers in float32.

    Raises:
        UsageError: `values` are not at least two finite numbers in one dimension, or an option is out of range.

    Example:
        >>> truth = Truth([0.1, 0.2, 0.3, 0.4, 0.5])
        >>> truth.agreement([10, 20, 30, 40, 50], top=0.2).top, truth.agreement([3, 3, 3, 3, 3], top=0.2).top
        (1.0, 0.2)
    """

    def __init__(self, values: ArrayLike, *, resamples: int = 1000, seed: int = 42) -> None:
        if resamples < 1 or seed < 0:
            raise UsageError(f"resamples must be 1 or more and seed 0 or more, got {resamples} and {seed}")
        self.values = vector(values, "truth")
        n = len(self.values)
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        self.weights: NDArray[np.float32] = draws.astype(np.float32)
        self._ranks = _Ranks(self.values, self.weights)

    def agreement(self, scores: ArrayLike, *, top: float = 0.1, confidence: float = 0.95) -> Agreement:
        """Compare the scores of one proxy with the truth; see the function `agreement`.

        Args:
            scores: [n], in the order of the truth, higher is better.
            top: the fraction of architectures that counts as best, in (0, 1].
            confidence: the coverage of the intervals, in (0, 1).

        Raises:
            UsageError: the scores do not fit the truth or are not finite, or an option is out of range.
        """
        return self.mean_agreement([scores], top=top, confidence=confidence)

    def mean_agreement(
        self, scores: Sequence[ArrayLike], *, top: float = 0.1, confidence: float = 0.95
    ) -> Agreement:  # fmt: skip
        """The mean of the agreements of several scores, of one proxy under several settings for example.

        The intervals are of the means: a resample is of the same architectures for all scores. What is undefined for
        one of the scores is None, and a resample in which it is undefined is left out.

        Args:
            scores: each [n]; otherwise as of `agreement`.
            top: likewise.
            confidence: likewise.

        Raises:
            UsageError: as `agreement`.
        """
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must be between 0 and 1, got {confidence}")
        rows = [_pair(one, self.values, "scores", "truth")[0] for one in scores]
        n, precision = len(self.values), _mean([precision_at_top(x, self.values, top) for x in rows])
        rhos, taus = [spearman(x, self.values) for x in rows], [kendall(x, self.values) for x in rows]
        if None in rhos or None in taus:
            return Agreement(n, None, None, precision)
        resampled = [np.mean(kind, axis=0) for kind in zip(*map(self._resampled, rows), strict=True)]
        rho, tau = (
            estimated(_mean([value for value in found if value is not None]), some, confidence, few=n < FEWEST)
            for found, some in zip((rhos, taus), resampled, strict=True)
        )
        return Agreement(n, rho, tau, precision)

    def _resampled(self, x: Vector) -> tuple[Vector, Vector]:
        """Rho and tau of the scores in each resample [R]; NaN where undefined."""
        ours, theirs = _Ranks(x, self.weights), self._ranks
        taus = _ratio(_concordance(ours.dense, theirs.dense, self.weights), ours.untied, theirs.untied)
        return self._spearmans(ours), taus

    def spearman(self, scores: ArrayLike) -> tuple[float | None, Vector]:
        """Spearman's rho of all architectures, see the function `spearman`, and of each resample [R].

        Args:
            scores: [n], in the order of the truth, higher is better.

        Returns:
            None and NaN where it is undefined.

        Raises:
            UsageError: the scores do not fit the truth or are not finite.
        """
        x, y = _pair(scores, self.values, "scores", "truth")
        if (rho := spearman(x, y)) is None:
            return None, np.full(len(self.weights), np.nan)
        return rho, self._spearmans(_Ranks(x, self.weights))

    def _spearmans(self, ours: _Ranks) -> Vector:
        theirs = self._ranks
        covariance = np.einsum("rj,rj,rj->r", self.weights, ours.deviations, theirs.deviations, dtype=np.float64)
        return _ratio(covariance, ours.variance, theirs.variance)


def agreement(
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    top: float = 0.1,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 42,
) -> Agreement:
    """How well `scores` rank architectures against `truth`, with paired percentile bootstrap intervals.

    The bootstrap resamples architectures (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13). A resample in which the scores or the truth are all equal has no correlation and is left out
    of the interval; if that leaves none, or there are fewer than 5 architectures, the interval is [-1, 1]: nothing
    is known. To compare many proxies with one truth, prepare a `Truth`.

    Args:
        scores: [n], higher is better; negate those of a proxy whose orientation is -1.
        truth: [n], trained performance in the same order, higher is better.
        top: the fraction of architectures that counts as best, in (0, 1].
        resamples: the number of bootstrap resamples.
        confidence: the coverage of the intervals, in (0, 1).
        seed: draws the resamples.

    Returns:
        Both rank correlations with their intervals, and the precision at the top.

    Raises:
        UsageError: not two equally long vectors of at least two finite numbers, or an option is out of range.

    Example:
        >>> agreement([1, 2, 3, 5, 4], [0.1, 0.2, 0.3, 0.4, 0.5], top=0.4).top
        1.0
    """
    return Truth(truth, resamples=resamples, seed=seed).agreement(scores, top=top, confidence=confidence)


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's rank correlation rho, ties at their mean rank (Spearman, 1904).

    Args:
        x: [n].
        y: [n].

    Returns:
        In [-1, 1]; None where it is undefined: n < 3, or x or y all equal.

    Raises:
        UsageError: not two equally long vectors of at least two finite numbers.

    Example:
        >>> round(spearman([1, 2, 3, 4], [10, 20, 40, 30]), 6)
        0.8
    """
    x, y = _pair(x, y, "x", "y")
    return None if _undefined(x, y) else _clipped(stats.spearmanr(x, y).statistic)


def kendall(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's rank correlation tau-b, which corrects for ties (Kendall, 1945); arguments and result as of `spearman`.

    Example:
        >>> round(kendall([1, 2, 3, 4], [10, 30, 40, 20]), 6)
        0.333333
    """
    x, y = _pair(x, y, "x", "y")
    if _undefined(x, y):
        return None
    # the p-value is not used, and the exact one is slow
    return _clipped(stats.kendalltau(x, y, variant="b", method="asymptotic").statistic)


def precision_at_top(scores: ArrayLike, truth: ArrayLike, fraction: float = 0.1) -> float:
    """The share of the k truly best architectures that are among the k best-scored, k = max(1, round(fraction n)).

    Ties at either boundary count by expectation, as if broken at random: of t architectures tied for the
    last m places, each has m / t of a place. So scores that are all equal get k / n, the chance level,
    whatever the truth. If the truth is tied across its own boundary, even the truth itself stays below 1.

    Args:
        scores: [n], higher is better.
        truth: [n], higher is better.
        fraction: in (0, 1].

    Returns:
        In [0, 1].

    Raises:
        UsageError: not two equally long vectors of at least two finite numbers, or `fraction` is out of range.

    Example:
        >>> precision_at_top([9, 8, 1, 2], [4, 3, 2, 1], fraction=0.5)
        1.0
        >>> precision_at_top([7, 7, 7, 7], [4, 3, 2, 1], fraction=0.5)
        0.5
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"the top fraction must be above 0 and at most 1, got {fraction}")
    x, y = _pair(scores, truth, "scores", "truth")
    k = max(1, round(fraction * len(x)))
    return min(1.0, float(_places(x, k) @ _places(y, k)) / k)


class _Ranks:
    """The ranks of x [n] within every resample, from its `weights` [R, n].

    dense: [n], the rank among the distinct values of x; float32 holds it exactly.
    deviations: [R, n], mid-ranks within each resample minus their mean.
    variance: [R], the sum of squares of the deviations of the members of each resample.
    untied: [R], ordered pairs of members of each resample that differ in x.
    """

    def __init__(self, x: Vector, weights: NDArray[np.float32]) -> None:
        n = len(x)
        _, dense, sizes = np.unique(x, return_inverse=True, return_counts=True)
        starts = np.cumsum(sizes) - sizes
        held = np.add.reduceat(weights[:, np.argsort(dense, kind="stable")], starts, axis=1, dtype=np.float64)
        # a group's mid-rank: those below it, and half of itself
        deviations = np.cumsum(held, axis=1) - held / 2 - n / 2
        self.dense = dense.astype(np.float32)
        self.deviations: Vector = deviations[:, dense]
        self.variance: Vector = (held * deviations**2).sum(axis=1)
        self.untied: Vector = n * n - (held**2).sum(axis=1)


def _concordance(x: NDArray[np.float32], y: NDArray[np.float32], weights: NDArray[np.float32]) -> Vector:
    """Concordant minus discordant ordered pairs of each resample: w' (S * T) w with the sign matrices S and T."""
    total = np.zeros(len(weights))
    step = max(1, BLOCK // len(x))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        signs = np.sign(x[:, None] - x[part]) * np.sign(y[:, None] - y[part])
        # whole numbers of at most n: exact in float32
        total += np.einsum("rj,rj->r", weights @ signs, weights[:, part], dtype=np.float64)
    return total


def _ratio(shared: Vector, ours: Vector, theirs: Vector) -> Vector:
    """The correlations of the resamples; NaN where one is undefined."""
    defined = (ours > 0) & (theirs > 0)
    made = np.full(len(shared), np.nan)
    made[defined] = np.clip(shared[defined] / np.sqrt(ours[defined] * theirs[defined]), -1, 1)
    return made


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def estimated(value: float, resampled: Vector, confidence: float = 0.95, *, few: bool = False) -> Estimate:
    """A statistic with the percentile interval of its resampled values that are not NaN; [-1, 1] if there are none.

    Args:
        value: of all architectures.
        resampled: in each resample [R].
        confidence: the coverage of the interval, in (0, 1).
        few: whether the architectures, or the pairs of these, are too few for an interval: it is [-1, 1] then.
    """
    resampled = resampled[~np.isnan(resampled)]
    if few or not len(resampled):
        return Estimate(value, LEAST, MOST)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def _places(x: Vector, k: int) -> Vector:
    """For each entry its expected share of one of the k places at the top, in [0, 1]; they sum to k."""
    boundary = np.partition(x, len(x) - k)[len(x) - k]
    above, tied = x > boundary, x == boundary
    places: Vector = above + tied * ((k - above.sum()) / tied.sum())
    return places


def _undefined(x: Vector, y: Vector) -> bool:
    return len(x) < 3 or bool((x == x[0]).all() or (y == y[0]).all())


def _clipped(statistic: float) -> float:
    return min(1.0, max(-1.0, float(statistic)))


def _pair(x: ArrayLike, y: ArrayLike, first: str, second: str) -> tuple[Vector, Vector]:
    a, b = vector(x, first), vector(y, second)
    if len(a) != len(b):
        raise UsageError(f"{first} and {second} must be of one length, got {len(a)} and {len(b)}")
    return a, b


def vector(values: ArrayLike, name: str) -> Vector:
    """At least two finite numbers in one dimension, as float64. Raises `UsageError`, with their `name`, for others."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on a GPU or with gradients
        raise UsageError(f"{name} must be a vector of numbers: {' '.join(str(error).split())}") from None
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise UsageError(f"{name} must be a vector of numbers, got shape {array.shape} of {array.dtype}")
    if len(array) < 2:
        raise UsageError(f"{name} must hold at least 2 architectures, got {len(array)}")
    vector = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise UsageError(f"{name} hold {vector[bad[0]]} at index {bad[0]}; leave out architectures without a number")
    return vector
