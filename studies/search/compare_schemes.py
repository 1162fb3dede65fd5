"""Which scheme of evolution comes nearest to the optimum, at equal evaluations and at equal seconds.

    python -m studies.search.compare_schemes BENCH [--unary 2] [--train 50] [--evaluations 50000] [--seeds 10]

Prints a Markdown table: the largest fitness so far after some evaluations and after some CPU seconds of one core, the
median and the extremes of the seeds. The branch tables are taken from the cache, or made first. `--optimum` enumerates
the space, once. The scheme of the default preset was chosen on one benchmark, and looked at on another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch

from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.searching.config import GENERATION, SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.pruning import Pruner
from lpzero_hf.searching.strategies import Evolution, Exhaustive, Generations, Strategy
from lpzero_hf.searching.table_cache import make_tables
from studies.markdown import table
from studies.search.ablation_tasks import chosen
from studies.search.schemes import SCHEMES

EVALUATIONS = (1_000, 5_000, 10_000, 50_000)
SECONDS = (1, 5, 10, 30)
Course = list[tuple[int, float, float]]  # evaluations, CPU seconds and the largest fitness so far, where it grows
Start = Callable[[int], Strategy]


def course(strategy: Strategy) -> Course:
    """The course of a whole search."""
    start, steps = time.process_time(), []
    while strategy.done < strategy.total:
        made = strategy.iterate()
        steps.append((strategy.evaluated, time.process_time() - start, made.best))
    return steps


def best(steps: Course, place: int, limit: float) -> float | None:
    """The largest fitness where the number at `place` of a step is within `limit`; None if the search was shorter."""
    within = [step[2] for step in steps if step[place] <= limit]
    return within[-1] if within and steps[-1][place] >= limit else None


def starts(space: ExpressionSpace, fitness: FitnessEvaluator, evaluations: int) -> dict[str, Start]:
    """By name, what starts a search with a seed; `paper` is the evolution child by child."""

    def pruner() -> Pruner:
        return Pruner(space.operations, fitness.tables)

    def paper(seed: int) -> Strategy:
        return Evolution(space, fitness, seed, pruner(), iterations=evaluations - 80)

    def of(name: str) -> Start:
        return lambda seed: Generations(
            space, fitness, seed, pruner(), scheme=SCHEMES[name], evaluations=evaluations, batch=GENERATION
        )

    return {"paper": paper, **{name: of(name) for name in SCHEMES}}


def ground(name: str, unary: int, train: int) -> tuple[ExpressionSpace, FitnessEvaluator]:
    """The space, and the fitness on the architectures that a search with the default seed would take."""
    plan = SearchConfig((name,), unary=(unary, unary), train=train)
    benchmark, entries = chosen(plan)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    space = plan.space(installed_operations())
    tables = make_tables(configs, space.wanted, plan.setting, cache_folder() / "tables", plugins=load_plugins())
    truth = RankCorrelation([benchmark.target(entry) for entry in entries])
    return space, FitnessEvaluator([SearchPart(Stack(tables, space.wanted), truth)])


def rows(name: str, courses: Sequence[Course]) -> list[list[str]]:
    """A row for each limit that all seeds reached."""
    found = []
    for place, limits, unit in ((0, EVALUATIONS, "evaluations"), (1, SECONDS, "s")):
        for limit in limits:
            values = [value for steps in courses if (value := best(steps, place, limit)) is not None]
            if len(values) == len(courses):
                extremes = f"[{min(values):.4f}, {max(values):.4f}]"
                found.append([name, f"{limit:,} {unit}", f"{statistics.median(values):.4f}", extremes])
    rate = statistics.median(steps[-1][0] / steps[-1][1] for steps in courses)
    found.append([name, "evaluations a second", f"{rate:,.0f}", ""])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", metavar="BENCH")
    parser.add_argument("--unary", type=int, choices=(1, 2), default=2)
    parser.add_argument("--train", type=int, default=50)
    parser.add_argument("--evaluations", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--schemes", nargs="*", default=["paper", *SCHEMES], choices=["paper", *SCHEMES])
    parser.add_argument("--optimum", action="store_true", help="enumerate the space as well")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    space, fitness = ground(asked.benchmark, asked.unary, asked.train)
    made = []
    for name in asked.schemes:
        start = starts(space, fitness, asked.evaluations)[name]
        made += rows(name, [course(start(seed)) for seed in range(asked.seeds)])
        print(f"{name} is done", file=sys.stderr)
    if asked.optimum:
        steps = course(Exhaustive(space, fitness))
        made.append(["optimum", f"{steps[-1][0]:,} evaluations, {steps[-1][1]:.0f} s", f"{steps[-1][2]:.4f}", ""])
    print(table(["scheme", "after", "largest fitness, median", "extremes"], made, left=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
