"""Selects a winner from the candidates of a search: one expression, and a rank ensemble of at most five.

The fittest of very many expressions on few architectures is fittest partly by chance. So the architectures are
resampled: each bootstrap resample has its own fittest expression, and the mean of their rankings is more reliable than
any of them (Breiman, Bagging predictors, Machine Learning 1996).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set

import torch
from torch import Tensor

from lpzero_hf.benchmarks.matched import Sizes
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.executors.threads import threads
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks
from lpzero_hf.searching.fitness import Combine, combined

RESAMPLES = 1000
MEMBERS = 5
METHODS = ("bagging", "best")
AHEAD = 64  # rows that are asked about at once


def select(
    scores: Sequence[Tensor],
    truths: Sequence[Tensor],
    kind: str = "spearman",
    combine: Combine = "mean",
    method: str = "bagging",
    seed: int = 42,
    sizes: Sequence[Sizes | None] = (),
    settings: int = 1,
    over_settings: Combine = "mean",
    refused: Callable[[list[int]], Set[int]] = lambda rows: set(),
) -> tuple[int, list[int]]:
    """Choose a winner and an ensemble among candidates, using only the architectures searched on.

    Args:
        scores: [m, n] per benchmark and setting, those of a benchmark being neighbours, of m candidates, the fittest
            first, times the orientation: higher is better.
        truths: [n] per benchmark, higher is better.
        kind: of the fitness, see `RankCorrelation`.
        combine: of the benchmarks.
        method: `best` takes the fittest as winner. `bagging` takes the candidate whose ranking is nearest to the mean
            ranking of the fittest candidates of 1000 bootstrap resamples. The ensemble, of summed ranks, approximates
            that mean with five candidates, added one by one; it is the same for both methods.
        seed: of the resamples.
        sizes: [n] per benchmark, where the fitness compares architectures of like size.
        settings: number of settings of each benchmark. A resample is of the same architectures in all of them.
        over_settings: of the settings of a benchmark, mean or worst.
        refused: which of some rows must not be chosen; it is chosen again among the others. Where many are refused,
            it is asked about many at once, those that would be chosen next.

    Returns:
        The row of the winner, and those of the ensemble, where a row may appear more than once.

    Raises:
        LpzError: all that could be chosen are refused.
    """
    alike = rankings(scores)
    first = [rows[0] for rows in alike]
    with threads(1):
        kept = [part[first] for part in scores]
        fitness = _on_resamples(kept, truths, kind, combine, seed, sizes, settings, over_settings)
    # one vector per ranking, in which every benchmark and setting has the same weight
    ranks = torch.cat([mid_ranks(part) / part.shape[1] ** 1.5 for part in kept], dim=1)

    def choice(alike: Sequence[Sequence[int]]) -> tuple[int, list[int]]:
        left = sorted((number for number, rows in enumerate(alike) if rows), key=lambda number: alike[number][0])
        rows, places = [alike[number][0] for number in left], ranks[left]
        members = _nearest(places, places[fitness[:, left].argmax(1)].mean(0), MEMBERS)
        return rows[members[0] if method == "bagging" else 0], [rows[member] for member in members]

    asked: set[int] = set()
    bad: set[int] = set()
    ahead = 0
    while any(alike):
        winner, ensemble = choice(alike)
        chosen = {winner, *ensemble}
        if new := chosen - asked:
            next_ones = new
            while next_ones and len(new) < ahead and any(left := _without(alike, bad | new)):  # if all are refused
                further, others = choice(left)
                next_ones = {further, *others} - asked
                new |= next_ones
            bad |= refused(sorted(new))
            asked |= new
            ahead = min(2 * len(new), AHEAD)
        if not bad & chosen:
            return winner, ensemble
        alike = _without(alike, bad & chosen)
    raise LpzError("rounding decides the scores of every expression that was found; search on, or a larger space")


def _without(alike: Sequence[Sequence[int]], rows: Set[int]) -> list[list[int]]:
    return [[row for row in part if row not in rows] for part in alike]


def rankings(scores: Sequence[Tensor]) -> list[list[int]]:
    """The rows of scores [m, n] per benchmark that are finite, those of one ranking together, in their order."""
    alike: dict[bytes, list[int]] = {}
    finite = torch.stack([torch.isfinite(part).all(1) for part in scores]).all(0)
    ranks = [mid_ranks(part).cpu().numpy() for part in scores]
    for row in finite.nonzero()[:, 0].tolist():
        alike.setdefault(b"".join(part[row].tobytes() for part in ranks), []).append(row)
    return list(alike.values())


def _on_resamples(
    scores: Sequence[Tensor],
    truths: Sequence[Tensor],
    kind: str,
    combine: Combine,
    seed: int,
    sizes: Sequence[Sizes | None],
    settings: int,
    over_settings: Combine,
) -> Tensor:
    """[RESAMPLES, m], the fitness of every row on each bootstrap resample; an architecture drawn more than once counts
    once."""
    rng = random.Random(seed)
    made: list[Tensor] = []
    while len(made) < RESAMPLES:
        correlations = []
        for number, (truth, size) in enumerate(zip(truths, sizes or [None] * len(truths), strict=True)):
            n, parts = len(truth), scores[number * settings : (number + 1) * settings]
            drawn = sorted({rng.randrange(n) for _ in range(n)})
            try:
                correlation = _on(drawn, truth, kind, parts[0].device, size)
            except UsageError:  # the sample has too few distinct values to rank
                drawn = list(range(n))
                correlation = _on(drawn, truth, kind, parts[0].device, size)
            correlations += [correlation(part[:, drawn]) for part in parts]
        fitness, _ = combined(torch.stack(correlations), combine, settings, over_settings)
        made.append(torch.nan_to_num(fitness, nan=-1.0))
    return torch.stack(made)


def _on(drawn: list[int], truth: Tensor, kind: str, device: torch.device, sizes: Sizes | None) -> RankCorrelation:
    return RankCorrelation(truth[drawn].tolist(), kind, device, None if sizes is None else sizes.part(drawn))


def _nearest(ranks: Tensor, target: Tensor, count: int) -> list[int]:
    """Rows of ranks [m, n] whose mean is near the target [n], chosen one by one; a row may be chosen again."""
    chosen: list[int] = []
    total = torch.zeros_like(target)
    for size in range(1, count + 1):
        distance = ((total + ranks) / size - target).square().sum(1)
        chosen.append(int(distance.argmin()))
        total = total + ranks[chosen[-1]]
    return chosen
