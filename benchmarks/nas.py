"""How good the architecture is that a proxy chooses under a budget: against chance, and against the largest that fits.

    python -m benchmarks.nas [BENCH] [--proxy P ...] [--budgets 20] [--seeds 20] [--draw 50] [--json FILE]

The candidates are the trained architectures of a benchmark, their trained performance hidden from whoever chooses. For
each budget (quantiles of the number of parameters, from a tenth of the architectures to all) and each seed, `--draw` of
the candidates that fit are drawn, at most half of them, and chosen from:

- by a proxy: the best score, as `lpz nas --among` chooses;
- "largest": the most parameters;
- "chance": any; its row holds the exact expectation.

Then the truth is looked up. The percentile is the place of the chosen one in the true ranking of the candidates, 0 for
the best and 100 for the worst; the regret is how much worse it was trained to be than the best candidate, in the unit
of the metric. Both are means over all budgets and seeds, with 95% intervals from 2,000 bootstrap resamples of the
seeds: they tell of the draws, not of another benchmark. Architectures that one of the proxies was searched on are left
out for all. Scores come from the cache where `lpz bench eval` has been run.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import find_proxy, verdict_of
from lpz_nas.outcome import Tried, best

from lpzero_hf.benchmarks import Benchmark, Trained
from lpzero_hf.cache import ScoreCache
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.evaluation import Setting, evaluate
from lpzero_hf.files import write_json
from lpzero_hf.making import body_parameters
from lpzero_hf.plugins import load_plugins

PROXIES = ("attention_params", "decoder_params", "snip", "head_importance_lpzero", "w_pca")
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


def truth(goodness: Sequence[float], candidates: Sequence[int], chosen: int) -> tuple[float, float, float]:
    """Percentile, regret and hit of a choice. Of candidates that are equally good, half count as better."""
    better = sum(goodness[i] > goodness[chosen] for i in candidates)
    equal = sum(goodness[i] == goodness[chosen] for i in candidates) - 1
    top = max(goodness[i] for i in candidates)
    place = (better + equal / 2) / (len(candidates) - 1)
    return 100 * place, top - goodness[chosen], float(goodness[chosen] == top)


def play(
    goodness: Sequence[float], sizes: Sequence[int], choose: dict[str, Choose], budgets: int, seeds: int, draw: int
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
            every = [truth(goodness, drawn, i) for i in drawn]
            rows[CHANCE].append(tuple(float(np.mean(column)) for column in zip(*every, strict=True)))  # type: ignore[arg-type]
            for name, pick in choose.items():
                rows[name].append(truth(goodness, drawn, pick(drawn)))
        for name, made in rows.items():
            for kept, column in zip(
                (found[name].percentile, found[name].regret, found[name].hit), zip(*made, strict=True), strict=True
            ):
                kept.append(list(column))
    return limits, found


def estimate(table: Sequence[Sequence[float]], resamples: int = 2000) -> dict[str, float]:
    """The mean over seeds and budgets, with the 95% bootstrap interval over seeds."""
    means = np.mean(np.asarray(table), axis=1)
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
        "regret_by_budget": np.mean(np.asarray(outcomes.regret), axis=0).tolist(),
        "percentile_by_budget": np.mean(np.asarray(outcomes.percentile), axis=0).tolist(),
    }


def scored(
    benchmark: Benchmark, names: Sequence[str], cache: ScoreCache | None, workers: int
) -> tuple[list[Trained], dict[str, list[float | None]]]:
    """The trained architectures that no proxy was searched on, and the scores of each, higher for better; progress goes
    to stderr."""
    plugins = load_plugins()
    proxies = {name: find_proxy(name, plugins) for name in names}
    seen = {key for proxy in proxies.values() for key in proxy.searched_on(benchmark.name)}
    entries = [entry for entry in benchmark.trained() if entry.key not in seen]
    rows = evaluate(
        {entry.key: benchmark.space.config(entry.architecture) for entry in entries},
        list(proxies.values()),
        Setting(benchmark.batch_size, benchmark.seq_len),
        cache=cache,
        workers=workers,
        plugins=plugins,
        progress=lambda done, total: print(f"\r{done}/{total} scored", end="", file=sys.stderr),
    )
    print(file=sys.stderr)

    def values(proxy: str) -> list[float | None]:
        made = [rows[entry.key][proxy] for entry in entries]
        return [verdict_of(row["value"], row["orientation"], row["status"], row["reason"]).value for row in made]

    return entries, {name: values(proxy.name) for name, proxy in proxies.items()}


def markdown(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """The rows as a Markdown table."""

    def told(of: dict[str, float], digits: int) -> str:
        return f"{of['value']:.{digits}f} [{of['low']:.{digits}f}, {of['high']:.{digits}f}]"

    lines = [
        f"| chosen by | true percentile (0 best) | regret, {metric} | regret saved over the largest | best chosen |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['chooser']} | {told(row['percentile'], 1)} | {told(row['regret'], 2)} | "
            f"{told(row['saved_over_largest'], 2)} | {100 * row['best_chosen']['value']:.0f}% |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", metavar="BENCH", nargs="?", default="gpt2-wt103")
    parser.add_argument("--proxy", action="append", help="repeatable; default: " + ", ".join(PROXIES))
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--draw", type=int, default=50, help="candidates, at most half of those that fit")
    parser.add_argument(
        "--quantity", choices=("params", "decoder_params"), default="params", help="what the budget limits"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    arguments = parser.parse_args()
    try:
        if min(arguments.budgets, arguments.seeds) < 1 or arguments.draw < 2:
            raise UsageError("a measurement takes at least 1 budget, 1 seed and 2 candidates")
        benchmark = load_plugins().benchmark(arguments.benchmark)
        entries, scores = scored(benchmark, arguments.proxy or PROXIES, ScoreCache(), arguments.workers)
    except LpzError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.quantity == "params":
        sizes = [count(benchmark.space.config(entry.architecture)) for entry in entries]
    else:
        sizes = [body_parameters(benchmark.space, entry.architecture) for entry in entries]
    goodness = [benchmark.goodness(entry) for entry in entries]
    limits, found = play(goodness, sizes, choosers(sizes, scores), arguments.budgets, arguments.seeds, arguments.draw)
    rows = [summary(name, outcomes, found[LARGEST]) for name, outcomes in found.items()]
    rows.sort(key=lambda row: row["regret"]["value"])
    print(markdown(rows, benchmark.metric))
    print(
        f"\n{benchmark.name}, {len(entries)} architectures; {arguments.budgets} budgets of {arguments.quantity} from "
        f"{limits[0]:,} to {limits[-1]:,}; {arguments.seeds} seeds; at most {arguments.draw} candidates.",
        file=sys.stderr,
    )
    if arguments.json:
        options = {name: value for name, value in vars(arguments).items() if name not in ("json", "workers", "proxy")}
        write_json(arguments.json, {"options": options, "metric": benchmark.metric, "budgets": limits, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
