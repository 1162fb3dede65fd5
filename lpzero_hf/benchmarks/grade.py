"""Grades proxies: how well the scores of each rank the trained architectures of a benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.benchmarks.benchmark import BenchmarkLike, Trained, load_benchmark
from lpzero_hf.benchmarks.beyond_size import BeyondSize, SizeFeatures
from lpzero_hf.benchmarks.held_out import searched_keys
from lpzero_hf.benchmarks.matched import MATCH, WITHIN, SizedTruth, Sizes
from lpzero_hf.errors import LpzError, UsageError, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Orientation
from lpzero_hf.proxies.resolve import ProxyLike, find_proxy, resolve
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.comparability import warn_of_differences
from lpzero_hf.scoring.display import Displayed, Panel, by_name, estimated
from lpzero_hf.scoring.evaluate import Row, evaluate
from lpzero_hf.scoring.setting import Setting

SEARCHED_ON = "it was searched on this one"
DEPTH, WIDTH = "num_layers", "hidden_size"
BASELINES = ("num_layers", "num_heads", "params", "decoder_params", "depth_then_width", "depth_width2")


@dataclass(frozen=True)
class Grade:
    """The grade of one proxy on a benchmark.

    Args:
        proxy: its name.
        orientation: 1 if higher is better, -1 if lower is better; the agreement is of the scores times the
            orientation.
        agreement: with the trained performance, of the architectures that have a score; None for fewer than 3.
        seconds: the median time per architecture, including that of the shared pass.
        unscored: the number of architectures without a score, by reason.
        beyond: what the scores say beyond size, depth and width; None where the agreement is.
    """

    proxy: str
    orientation: Orientation
    agreement: Agreement | None
    seconds: float
    unscored: dict[str, int]
    beyond: BeyondSize | None = None

    def to_dict(self) -> dict[str, Any]:
        """The grade as plain data for JSON."""
        agreement = None if self.agreement is None else self.agreement.to_dict()
        return {**asdict(self), "agreement": agreement}


@dataclass(frozen=True)
class Report(Displayed):
    """The result of grading. A notebook shows its grades as a table.

    Args:
        benchmark: its name.
        trained: the architectures, in the benchmark's order.
        setting: of the scores.
        grades: the best Spearman's rho first.
        scores: for each proxy, the score of each architecture in order, as the proxy gives it; None where
            there is none.
        chance: the rho that random scores exceed in 5% of draws.
        metric: of the trained performance.
        larger_is_better: whether higher is better for it.
        match: the proxy that sizes are compared by.
        within: the factor by which the sizes of a pair differ at most.
        pairs: the number of pairs of like size, of all architectures.
        sizes: of each architecture in order, by `match`; NaN where unknown.
        warnings: why scores of these architectures may not be comparable.
    """

    benchmark: str
    trained: list[Trained]
    setting: Setting
    grades: list[Grade]
    scores: dict[str, list[float | None]]
    chance: float
    metric: str
    larger_is_better: bool
    match: str = MATCH
    within: float = WITHIN
    pairs: int = 0
    sizes: Sequence[float] = ()
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Of what, on which minibatch."""
        size = f"{self.setting.batch_size} x {self.setting.seq_len} tokens"
        return f"{self.benchmark}: {len(self.trained)} trained architectures, minibatch {size}"

    @property
    def notes(self) -> list[str]:
        """The warnings."""
        return list(self.warnings)

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every grade: rho, tau-b and the agreement at equal size, with their 95% intervals.

        All agreements are of oriented scores: higher is better.
        """
        rows = []
        for one in self.grades:
            agreement = one.agreement
            matched = agreement.matched.agreement if agreement and agreement.matched else None
            rows.append(
                {"proxy": one.proxy, "better": "higher" if one.orientation > 0 else "lower"}
                | estimated("rho", agreement.spearman if agreement else None)
                | estimated("at equal size", matched)
                | estimated("tau-b", agreement.kendall if agreement else None)
                | {
                    "top 10%": agreement.top if agreement else None,
                    "architectures": agreement.n if agreement else 0,
                    "seconds": one.seconds,
                    "reason": "; ".join(one.unscored),
                }
            )
        return rows

    def panels(self) -> list[Panel]:
        """Rho and the agreement at equal size of every proxy."""
        rows = self.to_rows()
        measures = {name: [row[name] for row in rows] for name in ("rho", "at equal size")}
        return [by_name("agreement with the trained performance", [row["proxy"] for row in rows], measures)]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {
            "benchmark": self.benchmark,
            "metric": self.metric,
            "larger_is_better": self.larger_is_better,
            "setting": self.setting.to_json(),
            "chance": self.chance,
            "matched": {"match": self.match, "within": self.within, "pairs": self.pairs},
            "grades": [grade.to_dict() for grade in self.grades],
            "architectures": [entry.key for entry in self.trained],
            "truth": [entry.quality for entry in self.trained],
            "scores": self.scores,
            "warnings": list(self.warnings),
        }


@said_once
def grade(
    benchmark: BenchmarkLike,
    proxies: ProxyLike | Iterable[ProxyLike] = "all",
    setting: Setting | None = None,
    *,
    limit: int | None = None,
    match: ProxyLike = MATCH,
    within: float = WITHIN,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Grade proxies on a benchmark; the trivial baselines are always graded with them.

    A proxy that was searched on some of the architectures is graded on the others. What a proxy says beyond the size
    of an architecture is its agreement at matched size (`lpzero_hf.benchmarks.matched`), and what
    `lpzero_hf.benchmarks.beyond_size` adds.

    Args:
        benchmark: trained architectures, or the name or path of a benchmark.
        proxies: as for `score`, but by default all installed: a benchmark finds out which are worth looking at.
        setting: None for the benchmark's own minibatch.
        limit: maximum number of architectures, evenly spaced in the benchmark's order.
        match: the proxy whose scores are the sizes, such as `params`, `decoder_params` or `flops`.
        within: the factor by which the sizes of two architectures that are compared differ at most, 1 or more.
        cache: stores scores for later calls; None stores none.
        executor: where to work; by default in this process, with one thread.
        plugins: where names are looked up.
        progress: called with (architectures done, total number of architectures).

    Returns:
        The grades. Warns (`ComparisonWarning`) of vocabularies, objectives and initial weights that differ between the
        architectures.

    Raises:
        UsageError: the benchmark or a proxy is unknown, a size is not above 0, or the factor is out of range.
        LpzError: the benchmark cannot be read, or holds fewer than 3 architectures.

    Example:
        >>> from lpzero_hf import grade
        >>> report = grade("tiny-gpt2", "num_heads", limit=20)
        >>> [graded.proxy for graded in report.grades][0]
        'params'
    """
    if limit is not None and limit < 1:
        raise UsageError(f"{limit} architectures cannot be ranked; give a larger `limit=`, or none")
    plugins = load_plugins() if plugins is None else plugins
    benchmark = load_benchmark(benchmark, plugins)
    selection = resolve(proxies, plugins)
    names = {proxy.name for proxy in selection}
    chosen = [*selection, *(find_proxy(name, plugins) for name in BASELINES if name not in names)]
    measure = find_proxy(match, plugins)
    described = [measure, *(find_proxy(name, plugins) for name in (DEPTH, WIDTH))]
    Sizes([], measure.name, within)  # raises before the work
    setting = setting or Setting(benchmark.batch_size, benchmark.seq_len)
    selection.warn_of_minibatch(setting.batch_size, setting.seq_len)
    entries = spaced(benchmark.trained(), limit)
    configs = benchmark.configs(entries)
    entries = [entry for entry in entries if entry.key in configs]
    if len(entries) < 3:
        raise LpzError(f"{len(entries)} architectures of benchmark '{benchmark.name}' cannot be ranked; it takes 3")
    if len({entry.quality for entry in entries}) == 1:
        raise LpzError(f"all architectures of benchmark '{benchmark.name}' are equally good; use another benchmark")
    rows = evaluate(
        configs,
        list({proxy.name: proxy for proxy in (*described, *chosen)}.values()),
        setting,
        cache=cache,
        executor=executor,
        plugins=plugins,
        progress=progress,
    )
    told = warn_of_differences({entry.key: configs[entry.key] for entry in entries}, setting)
    known = {proxy.name: _values(rows, entries, proxy.name) for proxy in described}  # also of one searched on them
    for proxy in chosen:
        for key in searched_keys(proxy, benchmark, plugins, entries):
            rows[key][proxy.name] |= {"value": None, "status": "not applicable", "reason": SEARCHED_ON}
    truth = SizedTruth([benchmark.target(entry) for entry in entries], Sizes(known[measure.name], measure.name, within))
    features = SizeFeatures(known[measure.name], known[DEPTH], known[WIDTH])
    grades = [
        _grade(proxy.name, proxy.orientation, [rows[entry.key][proxy.name] for entry in entries], truth, features)
        for proxy in chosen
    ]
    return Report(
        benchmark=benchmark.name,
        trained=entries,
        setting=setting,
        grades=sorted(grades, key=_rank),
        scores={proxy.name: [rows[entry.key][proxy.name]["value"] for entry in entries] for proxy in chosen},
        chance=chance(len(entries)),
        metric=benchmark.metric,
        larger_is_better=benchmark.larger_is_better,
        match=measure.name,
        within=within,
        pairs=truth.pairs,
        sizes=known[measure.name],
        warnings=told,
    )


def _values(rows: Mapping[str, Mapping[str, Row]], entries: Sequence[Trained], proxy: str) -> list[float]:
    """The scores of one proxy in the order of the entries; NaN where there is none."""
    values = (rows[entry.key][proxy]["value"] for entry in entries)
    return [math.nan if value is None else value for value in values]


def chance(n: int, draws: int = 10_000, seed: int = 42) -> float:
    """The Spearman's rho with a ranking of `n` that random scores exceed in 5% of draws."""
    rng = np.random.default_rng(seed)
    ranks = np.arange(n) - (n - 1) / 2
    rhos = rng.permuted(np.tile(ranks, (draws, 1)), axis=1) @ ranks / (ranks @ ranks)
    return float(np.quantile(rhos, 0.95))


def _grade(
    name: str, orientation: Orientation, rows: Sequence[Row], truth: SizedTruth, features: SizeFeatures
) -> Grade:
    scored = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    unscored: dict[str, int] = {}
    for row in rows:
        if row["status"] != "ok":
            why = f"{row['status']}: {row['reason']}"
            unscored[why] = unscored.get(why, 0) + 1
    seconds = statistics.median(row["seconds"] for row in rows)
    if len(scored) < 3:
        return Grade(name, orientation, None, seconds, unscored)
    if len(scored) < len(rows):
        truth, features = truth.part(scored), features.part(scored)
    scores = [orientation * rows[i]["value"] for i in scored]
    agreement = truth.agreement(scores)
    return Grade(name, orientation, agreement, seconds, unscored, features.beyond(scores, truth.values))


def _rank(grade: Grade) -> float:
    agreed = grade.agreement is not None and grade.agreement.spearman is not None
    return -grade.agreement.spearman.value if agreed else 2.0  # type: ignore[union-attr]  # mypy does not see it


def spaced(entries: Sequence[Trained], limit: int | None) -> list[Trained]:
    """At most `limit` of the entries, evenly spaced; all of them for None."""
    if limit is None or limit >= len(entries):
        return list(entries)
    return [entries[i * len(entries) // limit] for i in range(limit)]
