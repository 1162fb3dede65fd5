"""How good the architecture is that a proxy chooses under a budget: against chance, and against the largest.

The candidates are the trained architectures of a benchmark, their trained performance hidden during the choice. For
each budget (quantiles of the number of parameters, from a tenth of the architectures to all) and each seed, some of the
candidates that fit are drawn, at most half of them, and chosen from:

- by a proxy: the best score, as `lpz nas --among` chooses;
- "largest": the most parameters;
- "chance": any; its row holds the exact expectation.

Then the trained performance is looked up. The percentile is the place of the chosen one in the true ranking of the
candidates, 0 for the best and 100 for the worst; the regret is how much worse it is than the best candidate, in the
unit of the metric. Both are means over all budgets and seeds, with 95% intervals from 2,000 bootstrap resamples of the
seeds: they cover the draws, not another benchmark. Architectures that one of the proxies was searched on are left
out for all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lpz_nas.budget import Budget
from lpz_nas.outcome import Tried, best

CHANCE, LARGEST = "chance", "largest"
Choose = Callable[[Sequence[int]], int]


@dataclass
class Outcomes:
    """What one way to choose led to: for each seed, then each budget.

    Args:
        percentile: of the chosen architecture in the true ranking, 0 for the best.
        regret: how much worse it is than the best, in the unit of the metric.
        hit: whether it is the best.
    """

    percentile: list[list[float]] = field(default_factory=list)
    regret: list[list[float]] = field(default_factory=list)
    hit: list[list[float]] = field(default_factory=list)


def choosers(sizes: Sequence[int], scores: dict[str, list[float | None]]) -> dict[str, Choose]:
    """The ways to choose one of several candidates, by name."""

    def by(values: Sequence[float | None]) -> Choose:
        def choose(candidates: Sequence[int]) -> int:
            return int(best([Tried(str(i), sizes[i], values[i]) for i in candidates]).architecture)

        return choose

    return {LARGEST: by([float(size) for size in sizes])} | {name: by(values) for name, values in scores.items()}


def truth(target: Sequence[float], candidates: Sequence[int], chosen: int) -> tuple[float, float, float]:
    """Percentile, regret and hit of a choice. Of candidates that are equally good, half count as better."""
    better = sum(target[i] > target[chosen] for i in candidates)
    equal = sum(target[i] == target[chosen] for i in candidates) - 1
    top = max(target[i] for i in candidates)
    place = (better + equal / 2) / (len(candidates) - 1)
    return 100 * place, top - target[chosen], float(target[chosen] == top)


def play(
    target: Sequence[float], sizes: Sequence[int], choose: dict[str, Choose], budgets: int, seeds: int, draw: int
) -> tuple[list[int], dict[str, Outcomes]]:
    """Choose under every budget and with every seed; the budgets, and what came of it."""
    limits = [math.ceil(np.quantile(sizes, share)) for share in np.linspace(0.1, 1, budgets)]
    found = {name: Outcomes() for name in (CHANCE, *choose)}
    for seed in range(seeds):
        rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in found}
        for limit in limits:
            budget = Budget(max_params=limit)
            fitting = [i for i, size in enumerate(sizes) if budget.allows(size)]
            drawn = random.Random(f"{seed}/{limit}").sample(fitting, max(2, min(draw, len(fitting) // 2)))
            every = [truth(target, drawn, i) for i in drawn]
            place, regret, hit = (float(np.mean(column)) for column in zip(*every, strict=True))
            rows[CHANCE].append((place, regret, hit))
            for name, pick in choose.items():
                rows[name].append(truth(target, drawn, pick(drawn)))
        for name, made in rows.items():
            for kept, column in zip(
                (found[name].percentile, found[name].regret, found[name].hit), zip(*made, strict=True), strict=True
            ):
                kept.append(list(column))
    return limits, found


def estimate(rows: Sequence[Sequence[float]], resamples: int = 2000) -> dict[str, float]:
    """The mean over seeds and budgets, with the 95% bootstrap interval over seeds."""
    means = np.mean(np.asarray(rows), axis=1)
    draws = np.random.default_rng(42).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), (0.025, 0.975))
    return {"value": float(means.mean()), "low": float(low), "high": float(high)}


def summary(name: str, outcomes: Outcomes, largest: Outcomes) -> dict[str, Any]:
    """One row of the result; the saving is the regret less than that of the largest, draw by draw."""
    saved = np.asarray(largest.regret) - np.asarray(outcomes.regret)
    return {
        "chooser": name,
        "percentile": estimate(outcomes.percentile),
        "regret": estimate(outcomes.regret),
        "best_chosen": estimate(outcomes.hit),
        "saved_over_largest": estimate(saved.tolist()),
    }
