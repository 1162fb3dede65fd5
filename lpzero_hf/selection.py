"""From the candidates a search has kept to a winner: one expression, and a rank ensemble of at most five.

The fittest of very many expressions on few architectures is fittest partly by luck. So the architectures are
resampled: each bootstrap resample has a fittest expression of its own, and what these agree on is sounder than any of
them (Breiman, Bagging predictors, Machine Learning 1996).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from lpzero_hf.fitness import Fitness, mid_ranks
from lpzero_hf.judging import Combine, combined

RESAMPLES = 100
MEMBERS = 5
METHODS = ("bagging", "best")


def select(
    scores: Sequence[Tensor],
    truths: Sequence[Tensor],
    kind: str = "spearman",
    combine: Combine = "mean",
    method: str = "bagging",
    seed: int = 42,
) -> tuple[int, list[int]]:
    """Choose a winner and an ensemble among candidates; looks at nothing but the architectures searched on.

    Args:
        scores: [m, n] per benchmark, of m candidates, the fittest first, turned so that larger is better.
        truths: [n] per benchmark, larger is better.
        kind: of the fitness, spearman or kendall.
        combine: of the benchmarks.
        method: `best` takes the fittest as winner. `bagging` takes, of the candidates, the one whose ranking agrees
            most with the mean ranking of the fittest candidates of 100 bootstrap resamples. The ensemble is that of
            five such winners, of 20 resamples each, whose ranks are summed.
        seed: of the resamples.

    Returns:
        The row of the winner, and those of the ensemble, where a row may appear more than once.
    """
    rows = distinct(scores)
    ranks = [mid_ranks(part[rows]) for part in scores]
    fittest = _fittest_of_resamples([part[rows] for part in scores], truths, kind, combine, seed)
    winner = _most_agreeing(ranks, fittest) if method == "bagging" else 0
    share = RESAMPLES // MEMBERS
    members = [_most_agreeing(ranks, fittest[i * share : (i + 1) * share]) for i in range(MEMBERS)]
    return rows[winner], [rows[member] for member in members]


def distinct(scores: Sequence[Tensor]) -> list[int]:
    """The rows of scores [m, n] per benchmark that are finite and rank architectures unlike all rows before."""
    seen: set[bytes] = set()
    chosen: list[int] = []
    finite = torch.stack([torch.isfinite(part).all(1) for part in scores]).all(0)
    ranks = [mid_ranks(part).cpu().numpy() for part in scores]
    for row in finite.nonzero()[:, 0].tolist():
        key = b"".join(part[row].tobytes() for part in ranks)
        if key not in seen:
            seen.add(key)
            chosen.append(row)
    return chosen


def _fittest_of_resamples(
    scores: Sequence[Tensor], truths: Sequence[Tensor], kind: str, combine: Combine, seed: int
) -> list[int]:
    """The fittest row on each bootstrap resample; an architecture drawn more than once counts once."""
    rng = random.Random(seed)
    fittest: list[int] = []
    while len(fittest) < RESAMPLES:
        correlations = []
        for part, truth in zip(scores, truths, strict=True):
            n = len(truth)
            drawn = sorted({rng.randrange(n) for _ in range(n)})
            if len(drawn) < 3 or bool((truth[drawn] == truth[drawn[0]]).all()):
                drawn = list(range(n))  # too few different ones to rank
            correlations.append(Fitness(truth[drawn].tolist(), kind, part.device)(part[:, drawn]))
        fitness, _ = combined(torch.stack(correlations), combine)
        fittest.append(int(torch.nan_to_num(fitness, nan=-1.0).argmax()))
    return fittest


def _most_agreeing(ranks: Sequence[Tensor], chosen: Sequence[int]) -> int:
    """The row whose rankings agree most with the mean ranking of the chosen rows."""
    means = [part[list(chosen)].mean(0) for part in ranks]
    flat = [bool((mean == mean[0]).all()) for mean in means]
    if any(flat):
        return chosen[0]
    agreement = [Fitness(mean.tolist(), device=part.device)(part) for mean, part in zip(means, ranks, strict=True)]
    return int(torch.nan_to_num(torch.stack(agreement).mean(0), nan=-1.0).argmax())
