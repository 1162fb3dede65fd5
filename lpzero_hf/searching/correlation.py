"""Rank correlations of very many score vectors with one ground truth at once, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lpzero_hf.benchmarks.matched import Sizes
from lpzero_hf.errors import UsageError

KINDS = ("spearman", "kendall", "matched", "mixed")
SIZED = ("matched", "mixed")  # those that compare architectures of like size
PAIRS_AT_ONCE = 2**24  # elements of one block of signs
CACHED = 2**17  # the same on a CPU, where a block should stay in its cache


class RankCorrelation:
    """The agreement of scores with the trained performance of n architectures.

    Args:
        truth: [n], higher is better.
        kind: spearman (rho, ties at their mean rank), kendall (tau-b), matched (agreement at matched size, see
            `lpzero_hf.benchmarks.matched`) or mixed (the mean of spearman and matched).
        device: where to compute.
        sizes: [n], for matched and mixed.

    Raises:
        UsageError: fewer than 3 architectures, or all equally good; or no sizes, or none alike of which one is better.
    """

    def __init__(
        self,
        truth: Sequence[float],
        kind: str = "spearman",
        device: torch.device | str = "cpu",
        sizes: Sizes | None = None,
    ) -> None:
        self.truth = torch.as_tensor(truth, dtype=torch.float64, device=device)
        self.kind = kind
        if kind not in KINDS:
            raise UsageError(f"unknown fitness '{kind}'; there are {', '.join(KINDS)}")
        if len(self.truth) < 3:
            raise UsageError(f"{len(self.truth)} architectures cannot be ranked; give at least 3")
        if bool((self.truth == self.truth[0]).all()):
            raise UsageError("all architectures are equally good, so they have no ranking; use others")
        ranks = mid_ranks(self.truth[None])[0]
        self._ranks = ranks - ranks.mean()
        self.sizes = sizes
        if kind in SIZED:
            self._pairs = self._of_like_size()
        else:
            self._pairs = torch.triu_indices(len(truth), len(truth), 1, device=device)
        self._signs = self._signs_of(self._pairs)

    def __call__(self, scores: Tensor) -> Tensor:
        """The signed rank correlation of each row of scores [..., n] with the truth, [...].

        NaN for a row with a score that is not finite, or whose scores are all equal.
        """
        flat = scores.reshape(-1, scores.shape[-1]).double()
        made = self._by_kind(flat)
        undefined = ~torch.isfinite(flat).all(1) | (flat == flat[:, :1]).all(1)
        return torch.where(undefined, torch.nan, made).reshape(scores.shape[:-1])

    def _signs_of(self, pairs: Tensor) -> Tensor:
        return torch.sign(self.truth[pairs[0]] - self.truth[pairs[1]]).float()

    def _of_like_size(self) -> Tensor:
        """[2, p], the pairs; found once, whatever the number of calls."""
        sizes = self.sizes
        if sizes is None or len(sizes.values) != len(self.truth):
            raise UsageError(f"the fitness '{self.kind}' needs the size of every architecture")
        pairs = torch.as_tensor(sizes.pairs, device=self.truth.device)
        if not bool(self._signs_of(pairs).any()):
            raise UsageError(
                f"of these {len(self.truth)} architectures, no two are within a factor of {sizes.within:g} by "
                f"'{sizes.match}' and not equally good; give a larger one, other sizes, or more architectures"
            )
        return pairs

    def _by_kind(self, scores: Tensor) -> Tensor:
        if self.kind == "kendall":
            return self._kendall(scores)
        if self.kind == "matched":
            return self._matched(scores)
        rho = self._spearman(scores)
        return rho if self.kind == "spearman" else (rho + self._matched(scores)) / 2

    def _spearman(self, scores: Tensor) -> Tensor:
        values, order = scores.sort(1)
        truth = self._ranks[order]
        n = scores.shape[1]
        places = torch.arange(n, dtype=truth.dtype, device=truth.device) - (n - 1) / 2
        covariance, variance = truth @ places, torch.full_like(truth[:, 0], float(places.square().sum()))
        tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
        if len(tied):
            ranks = _ranks_of_sorted(values[tied]) - (n - 1) / 2
            covariance[tied] = (ranks * truth[tied]).sum(1)
            variance[tied] = ranks.square().sum(1)
        return covariance / (variance * self._ranks.square().sum()).sqrt()

    def _kendall(self, scores: Tensor) -> Tensor:
        parts = []
        for some in scores.split(max(1, PAIRS_AT_ONCE // len(self._signs))):
            signs = torch.sign(some[:, self._pairs[0]] - some[:, self._pairs[1]]).float()
            parts.append((signs @ self._signs) / (signs.abs().sum(1) * self._signs.abs().sum()).sqrt())
        return torch.cat(parts).double()

    def _matched(self, scores: Tensor) -> Tensor:
        """The mean over pairs of the products of signs; exact, because sums of signs are whole numbers."""
        by_architecture = scores.T.contiguous()  # one long row of scores for each
        block = CACHED if scores.device.type == "cpu" else PAIRS_AT_ONCE
        step = max(1, block // max(1, len(scores)))
        total = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
        for (left, right), signs in zip(self._pairs.split(step, 1), self._signs.split(step), strict=True):
            difference = by_architecture.index_select(0, left).sub_(by_architecture.index_select(0, right))
            total += signs @ difference.sign_().float()
        return total / len(self._signs)


def mid_ranks(scores: Tensor) -> Tensor:
    """The ranks of each row [m, n] from 0, ties at their mean rank."""
    values, order = scores.sort(1)
    return torch.empty_like(scores).scatter_(1, order, _ranks_of_sorted(values))


def _ranks_of_sorted(values: Tensor) -> Tensor:
    places = torch.arange(values.shape[1], dtype=values.dtype, device=values.device).expand_as(values)
    step = values[:, 1:] != values[:, :-1]
    edge = torch.ones(len(values), 1, dtype=torch.bool, device=values.device)
    starts = torch.where(torch.cat([edge, step], 1), places, -1.0)
    ends = torch.where(torch.cat([step, edge], 1), places, float(values.shape[1]))
    first = starts.cummax(1).values
    last = ends.flip(1).cummin(1).values.flip(1)
    return (first + last) / 2
