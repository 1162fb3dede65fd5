"""The work of the ablations: single searches, and parts of an exhaustive one, each a task for a worker process."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lpzero_hf.benchmarks.benchmark import Benchmark, Trained
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Table
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.search.config import Plan
from lpzero_hf.search.correlation import Fitness
from lpzero_hf.search.direct_scores import Passes
from lpzero_hf.search.expression_space import ExpressionSpace
from lpzero_hf.search.fitness import Judge, Subject
from lpzero_hf.search.strategies import Exhaustive
from lpzero_hf.search.table_cache import make_tables
from studies.search.cases import BOTH, TABLED

GOOD = 0.6  # the paper's Table 5 counts the candidates above it


@dataclass(frozen=True)
class Search:
    """One search: a plan and a seed."""

    plan: Plan
    seed: int


@dataclass(frozen=True)
class Grids:
    """A part of an exhaustive search: every so many grids from the given one."""

    base: Plan
    first: int
    step: int


@functools.cache
def judge(base: Plan, tabled: bool = True) -> Judge:
    """The judge of all spaces on the architectures to search on, made once in each process."""
    benchmark, entries = chosen(base)
    fitness = Fitness([benchmark.goodness(entry) for entry in entries])
    source: Stack | Passes
    if tabled:
        source = Stack(make_all(base), space(TABLED).wanted)
    else:
        configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
        source = Passes(configs, base.setting, load_plugins())
    return Judge([Subject(source, fitness)], early=base.early)


def shared(plan: Plan) -> Plan:
    """The part of a plan that decides the architectures and their tables."""
    return Plan(
        plan.benchmarks, train=plan.train, seed=plan.seed, limit=plan.limit, early=plan.early, setting=plan.setting
    )


def make_all(base: Plan, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> list[Table]:
    """The branch tables of the architectures to search on."""
    benchmark, entries = chosen(base)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    return make_tables(
        configs, space(TABLED).wanted, base.setting, cache_folder() / "tables",
        workers=workers, plugins=load_plugins(), progress=progress,
    )  # fmt: skip


def chosen(base: Plan) -> tuple[Benchmark, list[Trained]]:
    """The architectures that `lpz search` searches on."""
    benchmark = load_plugins().benchmark(base.benchmarks[0])
    entries = spaced(benchmark.trained(), base.limit)
    part = random.Random(base.seed).sample(range(len(entries)), base.train or len(entries))
    return benchmark, [entries[i] for i in sorted(part)]


def space(unary: tuple[int, int]) -> ExpressionSpace:
    """All expressions with so many unary operations."""
    return ExpressionSpace(unary, operations=load_plugins().operations)


def searched(task: Search) -> dict[str, Any]:
    """The course and the outcome of one search."""
    plan = task.plan
    found = judge(shared(plan), plan.tabled)
    start = time.perf_counter()
    strategy = plan.start(plan.space(load_plugins().operations), found, task.seed)
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
    found = judge(shared(task.base))
    (subject,) = found.subjects
    stack = subject.source
    assert isinstance(stack, Stack)
    spaces = {name: space(changes["unary"]) for name, changes in BOTH.items()}
    rows = []
    for left, right, op, reduce, aggregate in Exhaustive(space(TABLED), found).grids[task.first :: task.step]:
        if op == "alone":
            scores = stack.alone(left, reduce, aggregate)[:, :, None]
        else:
            scores = stack.grid(left, right, op, reduce, aggregate)
        fitness = subject.fitness(scores.movedim(0, -1).contiguous()).abs().nan_to_num(nan=0.0)
        for name, part in spaces.items():
            i = [stack.index[left][chain] for chain in part.wanted.chains[left]]
            j = [stack.index[right][chain] for chain in part.wanted.chains[right]] if right else [0]
            rows.append((name, aggregate, float(fitness[i][:, j].max())))
    return rows
