"""From the candidates a search has found to a winner: one expression, and a small rank ensemble.

The fittest of very many expressions on few architectures is fittest partly by luck. Expressions that are nearly as
fit err differently, so what they agree on is sounder than any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lpzero_hf.fitness import Fitness, mid_ranks

SHORTLIST = 50
MEMBERS = 5
METHODS = ("consensus", "best")


def distinct(ranks: Sequence[Tensor], limit: int) -> list[int]:
    """The first `limit` rows that rank the architectures of every benchmark differently from all rows before.

    Args:
        ranks: [m, n] mid-ranks per benchmark.
        limit: how many to return at most.
    """
    seen: set[bytes] = set()
    chosen: list[int] = []
    for row in range(len(ranks[0])):
        key = b"".join(part[row].cpu().numpy().tobytes() for part in ranks)
        if key not in seen:
            seen.add(key)
            chosen.append(row)
        if len(chosen) == limit:
            break
    return chosen


def most_agreeing(ranks: Sequence[Tensor]) -> int:
    """The row whose rankings agree most with the mean ranking of all rows.

    Args:
        ranks: [m, n] mid-ranks per benchmark, of the same m expressions, oriented alike.

    Returns:
        The first row with the largest mean Spearman's rho with the means, over the benchmarks.
    """
    agreement = torch.stack([Fitness(part.mean(0).tolist(), device=part.device)(part) for part in ranks]).mean(0)
    return int(torch.nan_to_num(agreement, nan=-1.0).argmax())


def greedy_ensemble(
    ranks: Sequence[Tensor], fitness: Sequence[Fitness], worst: bool, members: int = MEMBERS
) -> list[int]:
    """Rows whose summed ranks agree best with the truth, chosen one after another; the first row is the first.

    A row may be chosen again, which gives it more weight (Caruana et al., Ensemble selection from libraries of models,
    ICML 2004). Ends where no row improves the sum.

    Args:
        ranks: [m, n] mid-ranks per benchmark, oriented alike, the fittest row first.
        fitness: of each benchmark's architectures.
        worst: whether the worst benchmark counts, or their mean.
        members: at most.
    """
    chosen = [0]
    sums = [part[0] for part in ranks]
    best = -1.0
    while len(chosen) < members:
        values = torch.stack([judge(total + part) for judge, total, part in zip(fitness, sums, ranks, strict=True)])
        values = torch.nan_to_num(values.amin(0) if worst else values.mean(0), nan=-1.0)
        row = int(values.argmax())
        if float(values[row]) <= best:
            break
        best = float(values[row])
        chosen.append(row)
        sums = [total + part[row] for total, part in zip(sums, ranks, strict=True)]
    return chosen


def shortlist(scores: Sequence[Tensor], limit: int = SHORTLIST) -> list[int]:
    """The first `limit` rows of scores [m, n] per benchmark that are finite and rank differently."""
    finite = torch.stack([torch.isfinite(part).all(1) for part in scores]).all(0)
    rows = finite.nonzero()[:, 0]
    return [int(rows[i]) for i in distinct([mid_ranks(part[rows]) for part in scores], limit)]
