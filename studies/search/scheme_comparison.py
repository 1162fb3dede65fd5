"""Which scheme of evolution comes nearest to the optimum, at equal evaluations and at equal seconds."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
from studies.study import Progress, Runs, Study

EVALUATIONS = (1_000, 2_000, 5_000, 10_000, 20_000)
CHILD_BY_CHILD = 2_000  # evaluations of `paper` at most, of which one takes as long as fifty of the others
SECONDS = (1, 5, 10, 30, 60)
SPACES = {"flexibert": (2, 20_000), "gpt2-wt103": (1, 5_000)}  # unary operations in each branch, and evaluations
CHOSEN, CONFIRMED = SPACES
Course = Sequence[Sequence[float]]  # evaluations, CPU seconds, largest fitness so far: where it grows, and at the end


class Schemes(Study):
    """Every scheme, on the benchmark that the default was chosen on and on another.

    Args:
        spaces: by benchmark that the schemes search, the unary operations in each branch and the evaluations.
        train: architectures of each.
        seeds: of each scheme.
        schemes: to compare; `paper` is the evolution child by child.
    """

    name = "schemes"
    title = "Schemes of evolution"

    def __init__(
        self,
        spaces: Mapping[str, tuple[int, int]] = SPACES,
        train: int = 50,
        seeds: int = 10,
        schemes: Sequence[str] = ("paper", *SCHEMES),
    ) -> None:
        self.spaces, self.train, self.seeds, self.schemes = spaces, train, seeds, schemes

    def make(self, progress: Progress) -> dict[str, Any]:
        """The courses of all searches."""
        found: dict[str, Any] = {"unary": {}, "train": self.train, "courses": {}, "optimum": {}}
        for name, (unary, evaluations) in self.spaces.items():
            found["unary"][name] = unary
            space, fitness = ground(name, unary, self.train, functools.partial(progress, f"{name}, tables"))
            courses: dict[str, list[Course]] = {}
            for number, scheme in enumerate(self.schemes):
                start = starts(space, fitness, evaluations)[scheme]
                for seed in range(self.seeds):
                    progress(f"{name}, searches", number * self.seeds + seed, len(self.schemes) * self.seeds)
                    courses.setdefault(scheme, []).append(course(start(seed)))
            progress(f"{name}, searches", len(self.schemes) * self.seeds, len(self.schemes) * self.seeds)
            found["courses"][name] = courses
            if unary == 1:
                found["optimum"][name] = course(Exhaustive(space, fitness))[-1][2]
        return found

    def show(self, runs: Runs) -> str:
        """A table for each benchmark."""
        found = runs[self.name]
        seeds = len(next(iter(next(iter(found["courses"].values())).values())))
        parts = [
            f"The largest fitness on {found['train']} architectures: median and extremes of {seeds} seeds, after some "
            "evaluations and after some CPU seconds of one core, tables not included. `paper` is that of LPZero, "
            f"child by child, and shorter; the others propose {GENERATION} at a time. `local search` is the default "
            f"preset, chosen on `{CHOSEN}`; `{CONFIRMED}` confirms it or not, over fewer operations, because tables "
            "of two for its models take hours."
        ]
        optima = {CHOSEN: runs.get("ablations", {}).get("optimum", {}).get("(2,2)")} | found["optimum"]
        heads = ["scheme", "after", "largest fitness, median", "extremes"]
        for name, courses in found["courses"].items():
            rows = [row for scheme, all_ in courses.items() for row in rows_of(scheme, all_)]
            unary, optimum = found["unary"][name], optima.get(name)
            known = f" The optimum, by enumeration, is {optimum:.4f}." if optimum else ""
            parts.append(
                f"### Schemes on `{name}`\n\nUnary operations in each branch: {unary}.{known}\n\n"
                f"{table(heads, rows, left=2)}"
            )
        return "\n\n".join(parts)


def course(strategy: Strategy) -> list[list[float]]:
    """The course of a whole search: where the largest fitness grows, and the end."""
    start, steps = time.process_time(), []
    while strategy.done < strategy.total:
        made = strategy.iterate()
        steps.append([strategy.evaluated, time.process_time() - start, made.best])
    grows = [number == 0 or step[2] > steps[number - 1][2] for number, step in enumerate(steps)]
    return [step for step, kept in zip(steps, grows, strict=True) if kept or step is steps[-1]]


def best(steps: Course, place: int, limit: float) -> float | None:
    """The largest fitness where the number at `place` of a step is within `limit`; None if the search was shorter."""
    within = [step[2] for step in steps if step[place] <= limit]
    return within[-1] if within and steps[-1][place] >= limit else None


def starts(
    space: ExpressionSpace, fitness: FitnessEvaluator, evaluations: int
) -> Mapping[str, Callable[[int], Strategy]]:
    """By name, what starts a search with a seed."""

    def pruner() -> Pruner:
        return Pruner(space.operations, fitness.tables)

    def paper(seed: int) -> Strategy:
        return Evolution(space, fitness, seed, pruner(), iterations=min(evaluations, CHILD_BY_CHILD) - 80)

    def of(name: str) -> Callable[[int], Strategy]:
        return lambda seed: Generations(
            space, fitness, seed, pruner(), scheme=SCHEMES[name], evaluations=evaluations, batch=GENERATION
        )

    return {"paper": paper, **{name: of(name) for name in SCHEMES}}


def ground(
    name: str, unary: int, train: int, progress: Callable[[int, int], None] | None = None
) -> tuple[ExpressionSpace, FitnessEvaluator]:
    """The space, and the fitness on the architectures that a search with the default seed would take."""
    plan = SearchConfig((name,), unary=(unary, unary), train=train)
    benchmark, entries = chosen(plan)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    space = plan.space(installed_operations())
    tables = make_tables(
        configs, space.wanted, plan.setting, cache_folder() / "tables", plugins=load_plugins(), progress=progress
    )
    truth = RankCorrelation([benchmark.target(entry) for entry in entries])
    return space, FitnessEvaluator([SearchPart(Stack(tables, space.wanted), truth)])


def rows_of(name: str, courses: Sequence[Course]) -> list[list[str]]:
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
