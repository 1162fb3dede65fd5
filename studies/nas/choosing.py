"""How good the architecture is that a proxy chooses under a budget, among trained ones whose performance is hidden.

A seed draws as many architectures as there are, with replacement: a bootstrap resample, of which the different members
are the candidates, the same for all budgets and proxies. Scores are deterministic, so this is all that a seed decides.
A budget is either a limit, of which the candidates up to it are admitted, or a size, of which those within a tenth are.
Of the admitted candidates a proxy chooses that with its best score, of equal scores that with the fewest parameters, as
`lpz nas --among` does. Then the trained performance is looked up:

- percentile: the place of the choice in the true ranking of the admitted candidates, 0 for the best, 100 for the worst;
- regret: how much worse it is than the best of them, in the unit of the metric;
- hit: whether it is the best.

An estimate is the mean over budgets and seeds. Its interval holds 95% of the seeds' means over budgets: the percentile
bootstrap over architectures (Efron 1979), so it says how much the result depends on which architectures were trained,
and not how another benchmark would differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lpzero_hf.benchmarks.agreement import Vector

Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
Table = np.ndarray[tuple[int, int], np.dtype[np.float64]]
CHANCE = "random"
WITHIN = 0.1  # of a size
FEWEST = 2  # admitted candidates; a draw with fewer has no ranking, and does not count for this budget


@dataclass(frozen=True)
class Budgets:
    """Which architectures several budgets of one kind admit.

    Args:
        values: of the budgets, in the unit of the sizes.
        admits: [budgets, architectures].
    """

    values: list[float]
    admits: Mask


def limits(sizes: Vector, budgets: int) -> Budgets:
    """Upper limits: quantiles of the sizes, from one that a tenth of the architectures meets to one that all meet."""
    values = np.quantile(sizes, np.linspace(0.1, 1, budgets), method="higher")
    return Budgets(values.tolist(), sizes[None, :] <= values[:, None])


def alike(sizes: Vector, budgets: int) -> Budgets:
    """Sizes to be near: quantiles of the sizes; architectures within a tenth of one are admitted."""
    values = np.quantile(sizes, np.linspace(0, 1, budgets), method="nearest")
    return Budgets(values.tolist(), np.abs(sizes[None, :] / values[:, None] - 1) <= WITHIN)


def resamples(n: int, seeds: int) -> Mask:
    """[seeds, n], which architectures each seed draws; seed i is the same whatever the number of seeds."""
    drawn = np.zeros((seeds, n), bool)
    for seed in range(seeds):
        drawn[seed, np.random.default_rng(seed).integers(n, size=n)] = True
    return drawn


@dataclass(frozen=True)
class Outcomes:
    """What one way to choose led to, each [seeds, budgets]; NaN where a draw has too few candidates."""

    percentile: Table
    regret: Table
    hit: Table


def preference(scores: Vector, params: Vector) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The architectures with a score, the best first; of equal scores the smallest, then the first."""
    order = np.lexsort((np.arange(len(scores)), params, -scores))
    return order[np.isfinite(scores[order])]


def play(
    target: Vector, params: Vector, scores: Mapping[str, Vector], budgets: Budgets, drawn: Mask
) -> dict[str, Outcomes]:
    """Choose under every budget and with every seed.

    Args:
        target: [n], trained performance, higher for better.
        params: [n], by which equal scores are told apart.
        scores: by way to choose, [n], higher for better, NaN for none.
        budgets: which architectures are admitted.
        drawn: [seeds, n], see `resamples`.

    Returns:
        The outcomes of each way to choose, and what a random choice is expected to lead to.
    """
    shape = len(drawn), len(budgets.values)
    found = {name: Outcomes(*(np.full(shape, np.nan) for _ in range(3))) for name in (*scores, CHANCE)}
    orders = {name: preference(values, params) for name, values in scores.items() if np.isfinite(values).any()}
    better = (target[None, :] > target[:, None]) + 0.5 * (target[None, :] == target[:, None])  # [chosen, other]
    for place, admitted in enumerate(budgets.admits):
        candidates = drawn & admitted
        rivals = candidates.sum(1) - 1
        top = np.where(candidates, target, -np.inf).max(1)
        ranked = np.flatnonzero(rivals + 1 >= FEWEST)
        best = (candidates & (target == top[:, None]))[ranked].sum(1)
        found[CHANCE].percentile[ranked, place] = 50
        found[CHANCE].regret[ranked, place] = top[ranked] - candidates[ranked] @ target / (rivals[ranked] + 1)
        found[CHANCE].hit[ranked, place] = best / (rivals[ranked] + 1)
        for name, order in orders.items():
            able = candidates[:, order]
            made = ranked[able[ranked].any(1)]
            chosen = order[able[made].argmax(1)]
            ahead = (candidates[made] * better[chosen]).sum(1) - 0.5  # itself is as good as itself
            one = found[name]
            one.percentile[made, place] = 100 * ahead / rivals[made]
            one.regret[made, place] = top[made] - target[chosen]
            one.hit[made, place] = target[chosen] == top[made]
    return found


def estimate(rows: Table) -> dict[str, float]:
    """The mean of [seeds, budgets] over both, and the interval over seeds."""
    means = np.nanmean(rows, axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"value": float(means.mean()), "low": float(low), "high": float(high)}


def summary(name: str, outcomes: Outcomes, rival: Outcomes) -> dict[str, object]:
    """One row of the result; `saved` and `saved_regret` are the percentile and the regret of the rival's choice less
    those of this one, draw by draw: above 0 is better."""
    return {
        "chooser": name,
        "percentile": estimate(outcomes.percentile),
        "saved": estimate(rival.percentile - outcomes.percentile),
        "regret": estimate(outcomes.regret),
        "saved_regret": estimate(rival.regret - outcomes.regret),
        "best_chosen": estimate(outcomes.hit),
    }
