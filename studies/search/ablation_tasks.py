"""The work of the ablations: single searches, and parts of an exhaustive one, each a task for a worker process."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Table
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.direct_scores import DirectScores
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.score_source import ScoreSource
from lpzero_hf.searching.strategies import Exhaustive, create
from lpzero_hf.searching.table_cache import make_tables
from studies.search.cases import BOTH, TABLED
from studies.study import executor_of

GOOD = 0.6  # the paper's Table 5 counts the candidates above it


@dataclass(frozen=True)
class Search:
    """One search: a plan and a seed."""

    plan: SearchConfig
    seed: int


@dataclass(frozen=True)
class Grids:
    """A part of an exhaustive search: every so many grids from the given one."""

    base: SearchConfig
    first: int
    step: int


@functools.cache
def evaluator(base: SearchConfig, tabled: bool = True) -> FitnessEvaluator:
    """The fitness evaluator of all spaces on the architectures to search on, made once in each process."""
    benchmark, entries = chosen(base)
    fitness = RankCorrelation([benchmark.target(entry) for entry in entries])
    source: ScoreSource
    if tabled:
        source = Stack(make_all(base), space(TABLED).wanted)
    else:
        configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
        source = DirectScores(configs, base.setting, load_plugins())
    return FitnessEvaluator([SearchPart(source, fitness)], early=base.early)


def shared(plan: SearchConfig) -> SearchConfig:
    """The part of a plan that decides the architectures and their tables."""
    return SearchConfig(
        plan.benchmarks, train=plan.train, seed=plan.seed, limit=plan.limit, early=plan.early, setting=plan.setting
    )


def make_all(base: SearchConfig, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> list[Table]:
    """The branch tables of the architectures to search on."""
    benchmark, entries = chosen(base)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    return make_tables(
        configs, space(TABLED).wanted, base.setting, cache_folder() / "tables",
        executor=executor_of(workers), plugins=load_plugins(), progress=progress,
    )  # fmt: skip


def chosen(base: SearchConfig) -> tuple[Benchmark, list[Trained]]:
    """The architectures that `lpz search` searches on."""
    benchmark = load_benchmark(base.benchmarks[0])
    entries = spaced(benchmark.trained(), base.limit)
    part = random.Random(base.seed).sample(range(len(entries)), base.train or len(entries))
    return benchmark, [entries[i] for i in sorted(part)]


def space(unary: tuple[int, int]) -> ExpressionSpace:
    """All expressions with so many unary operations."""
    return ExpressionSpace(unary, operations=installed_operations())


def searched(task: Search) -> dict[str, Any]:
    """The course and the outcome of one search."""
    plan = task.plan
    found = evaluator(shared(plan), plan.tabled)
    start = time.perf_counter()
    strategy = create(plan, plan.space(installed_operations()), found, task.seed)
    steps: list[tuple[int, float]] = []
    good = 0
    while strategy.done < strategy.total:
        made = strategy.iterate()
        good += (made.fitness or 0.0) > GOOD
        if not steps or round(made.best, 6) > steps[-1][1]:
            steps.append((strategy.done, round(made.best, 6)))
    fittest = strategy.archive.fittest()
    return {
        "seed": task.seed,
        "fitness": strategy.archive.best,
        "expression": str(fittest[0].expression) if fittest else None,
        "steps": steps,  # (evaluations, largest fitness so far), where it grows
        "evaluated": strategy.evaluated,
        "good": good,
        "pruned": dict(strategy.pruner.counts) if strategy.pruner else {},
        "rejected": dict(strategy.rejections),
        "seconds": round(time.perf_counter() - start, 2),
    }


def enumerated(task: Grids) -> list[tuple[str, str, float]]:
    """(space, aggregation, the largest fitness) of each grid; a grid of long chains holds that of the short ones."""
    found = evaluator(shared(task.base))
    (part,), (stack,) = found.parts, found.tables
    spaces = {name: space(changes["unary"]) for name, changes in BOTH.items()}
    rows = []
    for left, right, op, reduce, aggregate in Exhaustive(space(TABLED), found).grids[task.first :: task.step]:
        if op == "alone":
            scores = stack.alone(left, reduce, aggregate)[:, :, None]
        else:
            scores = stack.grid(left, right, op, reduce, aggregate)
        fitness = part.correlation(scores.movedim(0, -1).contiguous()).abs().nan_to_num(nan=0.0)
        for name, smaller in spaces.items():
            i = [stack.index[left][chain] for chain in smaller.wanted.chains[left]]
            j = [stack.index[right][chain] for chain in smaller.wanted.chains[right]] if right else [0]
            rows.append((name, aggregate, float(fitness[i][:, j].max())))
    return rows
