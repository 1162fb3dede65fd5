"""Agreement at matched size: what scores know of trained performance beyond the size of an architecture.

On most benchmarks larger models are better, so counting parameters ranks them well. Whoever has a budget asks for the
better of two models of one size. So only pairs of architectures whose sizes differ by at most a factor are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lpzero_hf.benchmarks import agreement as ranks
from lpzero_hf.benchmarks.agreement import Agreement, MatchedAgreement, Truth, Vector
from lpzero_hf.errors import UsageError

MATCH, WITHIN = "decoder_params", 1.15
FEWEST_PAIRS = 6  # with an interval: chance ranks all of 5 alike, right or wrong, once in 16 times
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Sizes:
    """The sizes of n architectures, and which of them are alike.

    Args:
        values: [n], above 0, in any unit; NaN where a size is unknown, so that the architecture is in no pair.
        match: the proxy that they come from, for the record.
        within: two sizes are alike if the larger divided by the smaller is at most this factor, 1 or more.

    Raises:
        UsageError: a size is zero, negative or infinite, or the factor is out of range.

    Example:
        >>> Sizes([100, 115, 116, 300]).pairs.T.tolist()
        [[0, 1], [1, 2]]
    """

    values: Sequence[float] | Vector
    match: str = MATCH
    within: float = WITHIN

    def __post_init__(self) -> None:
        if not 1 <= self.within < float("inf"):
            raise UsageError(f"sizes are alike within a factor of 1 or more, such as {WITHIN}, not {self.within}")
        values = _numbers(self.values, "sizes")
        bad = np.flatnonzero((values <= 0) | np.isinf(values))
        if len(bad):
            raise UsageError(
                f"'{self.match}' gives architecture {bad[0]} a size of {values[bad[0]]:g}; match by sizes above 0, "
                f"such as {MATCH}"
            )
        object.__setattr__(self, "values", values)

    @property
    def pairs(self) -> Places:
        """[2, p], the places of each pair of architectures of like size, the smaller one first."""
        order, ends = self.windows()
        counts = ends - np.arange(len(order)) - 1
        first = np.repeat(np.arange(len(order)), counts)
        nth = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.stack([order[first], order[first + 1 + nth]])

    def windows(self) -> tuple[Places, Places]:
        """The places of the known sizes in ascending order [m], and where the window of each ends [m]: the i-th is like
        those after it up to, and without, the ends[i]-th."""
        values = np.asarray(self.values)
        order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]  # NaN comes last
        sizes = values[order].tolist()
        ends, end = [], 0
        for i, size in enumerate(sizes):
            end = max(end, i + 1)
            while end < len(sizes) and sizes[end] / size <= self.within:  # rounded once, so 115 is within 1.15 of 100
                end += 1
            ends.append(end)
        return order, np.array(ends, np.intp)

    def part(self, rows: Sequence[int] | Places) -> Sizes:
        """The sizes of some of the architectures."""
        return replace(self, values=np.asarray(self.values)[np.asarray(rows, np.intp)])


class SizedTruth:
    """The trained performance and the sizes of n architectures, prepared to be compared with many proxies' scores.

    Args:
        values: [n], higher is better.
        sizes: [n].
        resamples: the number R of bootstrap resamples.
        seed: draws the resamples.

    Attributes:
        truth: the trained performance with its resamples.
        pairs: the number of pairs of like size.
        few: whether these, or the architectures in them, are too few for an interval.

    Raises:
        UsageError: as for `Truth`, or there is not a size for each.
    """

    def __init__(self, values: ArrayLike, sizes: Sizes, *, resamples: int = 1000, seed: int = 42) -> None:
        self.truth = Truth(values, resamples=resamples, seed=seed)
        self.sizes, self._seed = sizes, seed
        if len(sizes.values) != len(self.truth.values):
            raise UsageError(
                f"truth and sizes must be of one length, got {len(self.truth.values)} and {len(sizes.values)}"
            )
        self._order, self._ends = sizes.windows()
        self._weights = self.truth.weights[:, self._order]
        self._truth = self._dense(self.truth.values)
        counts = self._ends - np.arange(len(self._ends)) - 1  # of the pairs of each with those after it
        self.pairs = int(counts.sum())
        paired = counts > 0  # or with one before it
        paired[1:] |= self._ends[:-1] > np.arange(1, len(paired))
        self.few = self.pairs < FEWEST_PAIRS or int(paired.sum()) < ranks.FEWEST
        self._resampled = self._summed(None)[1]

    @property
    def values(self) -> Vector:
        """[n], float64."""
        return self.truth.values

    def part(self, rows: Sequence[int]) -> SizedTruth:
        """Some of the architectures, with as many resamples of them."""
        return SizedTruth(
            self.values[list(rows)], self.sizes.part(rows), resamples=len(self.truth.weights), seed=self._seed
        )

    def agreement(self, scores: ArrayLike, *, top: float = 0.1, confidence: float = 0.95) -> Agreement:
        """Compare the scores of one proxy with the truth: as `Truth.agreement`, and at matched size.

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
        """The mean of the agreements of several scores, each [n]: as `Truth.mean_agreement`, and at matched size."""
        ranked = self.truth.mean_agreement(scores, top=top, confidence=confidence)
        return replace(ranked, matched=self._mean_matched(scores, confidence))

    def matched(self, scores: ArrayLike, *, confidence: float = 0.95) -> MatchedAgreement:
        """The agreement at matched size alone; see the function `matched_agreement`."""
        return self._mean_matched([scores], confidence)

    def _mean_matched(self, scores: Sequence[ArrayLike], confidence: float) -> MatchedAgreement:
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must be between 0 and 1, got {confidence}")
        agreed = [self.agreed(one) for one in scores]
        values = [value for value, _ in agreed if value is not None]
        resampled = np.mean([some for _, some in agreed], axis=0)
        mean = math.fsum(values) / len(values) if values else None
        found = None if mean is None else ranks.estimated(mean, resampled, confidence, few=self.few)
        return MatchedAgreement(self.sizes.match, self.sizes.within, self.pairs, found)

    def agreed(self, scores: ArrayLike) -> tuple[float | None, Vector]:
        """The agreement at matched size of all architectures, and of each resample [R].

        Args:
            scores: [n], in the order of the truth, higher is better.

        Returns:
            None and NaN where there are no pairs.

        Raises:
            UsageError: the scores do not fit the truth or are not finite.
        """
        values = ranks.vector(scores, "scores")
        if len(values) != len(self.truth.values):
            raise UsageError(f"scores and truth must be of one length, got {len(values)} and {len(self.truth.values)}")
        made = np.full(len(self._weights), np.nan)
        if not self.pairs:
            return None, made
        agreed, resampled = self._summed(self._dense(values))
        defined = self._resampled > 0
        made[defined] = resampled[defined] / self._resampled[defined]
        return agreed / self.pairs, made

    def _dense(self, values: Vector) -> NDArray[np.float32]:
        """The ranks among the distinct values, in the order of size."""
        return np.unique(values, return_inverse=True)[1].astype(np.float32)[self._order]

    def _summed(self, scores: NDArray[np.float32] | None) -> tuple[float, Vector]:
        """The sum over pairs of the products of signs, of all architectures and of each resample [R]; for None, the
        number of pairs. What a resample holds twice is in two pairs with another one, and in none with itself.
        """
        total, resampled = 0.0, np.zeros(len(self._weights))
        count = len(self._order)
        step = max(1, ranks.BLOCK // max(1, count))
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            columns = slice(start, int(self._ends[rows.stop - 1]))
            place = np.arange(columns.start, columns.stop)
            alike = (place > np.arange(rows.start, rows.stop)[:, None]) & (place < self._ends[rows, None])
            signs = alike.astype(np.float32)
            if scores is not None:
                for x in (scores, self._truth):
                    signs *= np.sign(x[rows, None] - x[columns])
            total += float(signs.sum(dtype=np.float64))
            # whole numbers of at most n: exact in float32
            within = self._weights[:, columns] @ signs.T
            resampled += np.einsum("rj,rj->r", within, self._weights[:, rows], dtype=np.float64)
        return total, resampled


def matched_agreement(
    scores: ArrayLike,
    truth: ArrayLike,
    sizes: ArrayLike,
    *,
    within: float = WITHIN,
    match: str = "size",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 42,
) -> MatchedAgreement:
    """How well `scores` rank architectures of like size against `truth`, with a percentile bootstrap interval.

    The mean, over all pairs whose sizes differ by at most a factor, of sign(score difference) sign(truth difference):
    1 if the better one of each pair has the higher score, 0 by chance. A tie in scores or truth counts as 0. It is
    Kendall's tau-a of these pairs (Kendall, 1938). The bootstrap resamples architectures, not pairs; a resample without
    pairs is left out. Of fewer than 6 pairs, or 5 architectures in pairs, the interval is [-1, 1]: nothing is known.

    Args:
        scores: [n], higher is better; an architecture whose score is not finite is left out.
        truth: [n], trained performance, higher is better.
        sizes: [n], above 0; NaN where unknown.
        within: the factor, 1 or more.
        match: what the sizes are, for the record.
        resamples: the number of bootstrap resamples.
        confidence: the coverage of the interval, in (0, 1).
        seed: draws the resamples.

    Raises:
        UsageError: vectors are not of one length, a size is zero or negative, or an option is out of range.

    Example:
        >>> found = matched_agreement([1, 2, 3, 9], [0.1, 0.3, 0.2, 0.4], [100, 105, 110, 500])
        >>> found.pairs, round(found.agreement.value, 3)
        (3, 0.333)
    """
    given, known = _numbers(scores, "scores"), _numbers(truth, "truth")
    alike = Sizes(_numbers(sizes, "sizes"), match, within)
    if not len(given) == len(known) == len(alike.values):
        raise UsageError(
            f"scores, truth and sizes must be of one length, got {len(given)}, {len(known)} and {len(alike.values)}"
        )
    scored = np.flatnonzero(np.isfinite(given))
    if len(scored) < 2:
        return MatchedAgreement(match, within, 0, None)
    sized = SizedTruth(known[scored], alike.part(scored), resamples=resamples, seed=seed)
    return sized.matched(given[scored], confidence=confidence)


def _numbers(values: ArrayLike, name: str) -> Vector:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # words; ragged lists; tensors on a GPU or with gradients
        raise UsageError(f"{name} must be a vector of numbers: {' '.join(str(error).split())}") from None
    if numbers.ndim != 1:
        raise UsageError(f"{name} must be a vector of numbers, got shape {numbers.shape}")
    return numbers
