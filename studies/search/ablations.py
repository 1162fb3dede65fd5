"""What each part of the search contributes, on the architectures that `lpz search flexibert` searches on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lpzero_hf.searching.config import SearchConfig
from studies.search.ablation_tasks import Grids, Search, enumerated, make_all, searched
from studies.search.cases import AGGREGATION, LONGER, OPTIMUM, POPULATION, PRUNING, STRATEGY, UNARY, label
from studies.search.curves import case_table, curves
from studies.study import WORKERS, Progress, Runs, Study, executor_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = 40  # of an exhaustive search
Task = TypeVar("Task")
Result = TypeVar("Result")


class Ablations(Study):
    """Population, aggregation and optimum; Figures 6 and 7 and Table 5 show others of its searches.

    Args:
        base: what all searches share; its one benchmark and its seed draw the architectures.
        seeds: of each search.
        slow: seeds of a search that makes passes over the models; 0 leaves it out.
        workers: processes.
    """

    name = "ablations"
    title = "Population, aggregation, and how near a search comes to the optimum"
    figures = ("ablations-population", "ablations-aggregation", "ablations-optimum")

    def __init__(
        self, base: SearchConfig | None = None, seeds: int = 10, slow: int = 0, workers: int = WORKERS
    ) -> None:
        self.base = replace(base or SearchConfig(("flexibert",)), preset="paper")
        self.seeds, self.slow, self.workers = seeds, slow, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """The course of every search, and the largest fitness in each space by exhaustive search."""
        studies = (STRATEGY, PRUNING, POPULATION, UNARY, AGGREGATION, OPTIMUM)
        cases = {label(changes): changes for study in studies for case in study.values() for changes in case.values()}
        seeds = {name: self.slow if changes == LONGER else self.seeds for name, changes in cases.items()}
        tasks = [
            (name, Search(replace(self.base, **changes), seed))
            for name, changes in cases.items()
            for seed in range(seeds[name])
        ]
        make_all(self.base, self.workers, functools.partial(progress, "tables"))
        outcomes = self._done(searched, [task for _, task in tasks], "searches", progress)
        found: dict[str, Any] = {"benchmark": self.base.benchmarks[0], "train": self.base.train, "searches": {}}
        for (name, _), outcome in zip(tasks, outcomes, strict=True):
            found["searches"].setdefault(name, []).append(outcome)
        optimum: dict[str, float] = {}
        parts = [Grids(self.base, first, PARTS) for first in range(PARTS)]
        for rows in self._done(enumerated, parts, "exhaustive search", progress):
            for name, aggregate, fitness in rows:
                for key in (name, f"{name} {aggregate}"):
                    optimum[key] = max(optimum.get(key, 0.0), fitness)
        return found | {"iterations": self.base.children, "optimum": optimum}

    def show(self, runs: Runs) -> str:
        """Three tables."""
        found = runs["ablations"]
        first = next(iter(found["searches"].values()))
        return "\n\n".join(
            [
                f"The largest fitness on {found['train']} architectures of `{found['benchmark']}`, {len(first)} seeds, "
                f"{found['iterations']} iterations. The optimum is that of the exhaustive search. Figures 6 and 7 and "
                "Table 5 of the [paper](paper.md) show other cases of these searches.",
                "### Population\n\n" + case_table(found, POPULATION),
                "### Aggregation over blocks\n\n" + case_table(found, AGGREGATION),
                "### Optimum\n\n" + case_table(found, OPTIMUM),
                "With one unary operation, evolution finds the optimum with most seeds. With two there are 9.5 million "
                "expressions; 1080 evaluations are few, and the median stays below the optimum.",
            ]
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Curves of all three."""
        found = runs["ablations"]
        named = {"population": POPULATION, "aggregation": AGGREGATION, "optimum": OPTIMUM}
        return {f"ablations-{name}": curves(f"flexibert: {name}", found, cases) for name, cases in named.items()}

    def _done(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], what: str, progress: Progress
    ) -> list[Result]:
        results: dict[int, Result] = {}
        for number, result in executor_of(self.workers).every(function, tasks):
            results[number] = result
            progress(what, len(results), len(tasks))
        return [results[number] for number in range(len(tasks))]
