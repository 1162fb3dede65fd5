"""Candidates a second: from a store of raw statistics, from tables, and by passes over the models."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.plugins import load_plugins
from lpzero_hf.searching.config import GENERATION, SHARED, SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.direct_scores import DirectScores
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.stored_scores import StoredScores
from lpzero_hf.searching.strategies import Exhaustive, create
from lpzero_hf.searching.table_cache import make_tables
from studies.cost.large import Keep, timed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lpzero_hf.searching.score_source import ScoreSource
    from lpzero_hf.searching.strategies import Strategy

SINGLE = 2000  # candidates scored one after the other
STORED = 10 * GENERATION  # candidates scored from the store


class CandidateCounter:
    """The architectures of a benchmark, and how fast candidates are scored on them on a device.

    Args:
        name: of the benchmark.
        limit: maximum number of architectures, evenly spaced.
        device: of the statistics, the tables and the fitness.
    """

    def __init__(self, name: str, limit: int, device: torch.device) -> None:
        self.name, self.device, self.plugins = name, device, load_plugins()
        benchmark = load_benchmark(name, self.plugins)
        entries = spaced(benchmark.trained(), limit)
        self.configs: Mapping[str, PreTrainedConfig] = {
            entry.key: benchmark.space.config(entry.architecture) for entry in entries
        }
        self.truth = RankCorrelation([benchmark.target(entry) for entry in entries], device=device)

    def plan(self, unary: int, **settings: Any) -> SearchConfig:
        """The search over so many operations in each branch, on the device."""
        plan = SearchConfig((self.name,), unary=(unary, unary), **settings)
        return replace(plan, setting=replace(plan.setting, device=str(self.device)))

    def _search(self, plan: SearchConfig, source: ScoreSource, seed: int = 42) -> Strategy:
        fitness = FitnessEvaluator([SearchPart(source, self.truth)])
        return create(plan, plan.space(installed_operations(self.plugins)), fitness, seed)

    def _run(self, search: Strategy, left: Callable[[], float]) -> list[tuple[int, float]]:
        """(candidates evaluated, the largest fitness so far) after each generation."""
        course = []
        while search.done < search.total and left() > 0:
            made = search.iterate()
            course.append((search.evaluated, made.best))
        return course

    def stored(self, candidates: int = STORED, left: Callable[[], float] = lambda: math.inf) -> dict[str, float]:
        """An evolution over four operations in each branch, from the store of raw statistics."""
        plan = self.plan(4, iterations=candidates)
        source = StoredScores(self.configs, plan.setting, self.plugins)
        capture, store = timed(self.device, lambda: source.store)
        assert store.n == len(self.configs)
        search = self._search(plan, source)
        seconds, _ = timed(self.device, lambda: self._run(search, left))
        source.close()
        return {"capture": capture, "evaluated": search.evaluated, "seconds": seconds, "best": search.archive.best}

    def passes(self, together: int, sample: int) -> float:
        """Candidates over four operations in each branch a second, `together` in a pass over every model."""
        plan, rng = self.plan(4), random.Random(42)
        space = plan.space(installed_operations(self.plugins))
        drawn = [e for e in (space.draw(rng) for _ in range(3 * sample)) if not any(b.dropped for b in e.branches)]
        some = drawn[: 2 * together]
        source = DirectScores(self.configs, plan.setting, self.plugins)

        def score_all() -> None:
            for first in range(0, len(some), together):
                source.prepare(some[first : first + together])

        return len(some) / timed(self.device, score_all)[0]

    def long(self, candidates: int, sample: int, left: Callable[[], float] = lambda: math.inf) -> dict[str, Any]:
        """Both, by passes with one candidate in each and with as many as a search shares, if the sample allows it."""
        found: dict[str, Any] = {"store": self.stored(candidates, left)}
        for together in (1, SHARED):
            if together <= sample:
                found[f"passes, {together} together"] = self.passes(together, sample)
        return found

    def tables(
        self, unary: int, *, seeds: int = 3, optimum: bool = True, left: Callable[[], float] = lambda: math.inf,
        folder: Path | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Evolutions from tables, with the largest fitness of the space beside them.

        Args:
            unary: operations in each branch.
            seeds: of the evolutions; the course of each is (candidates evaluated, largest fitness so far).
            optimum: whether the space is enumerated.
            left: the seconds that may still be used.
            folder: that keeps the tables; None keeps none.
        """
        plan = self.plan(unary)
        space = plan.space(installed_operations(self.plugins))
        found: dict[str, Any] = {"unary": unary, "evolutions": []}
        with TemporaryDirectory() as other:
            found["capture"], made = timed(
                self.device,
                lambda: make_tables(
                    self.configs, space.wanted, plan.setting, folder or Path(other), plugins=self.plugins
                ),
            )
        found["upload"], stack = timed(self.device, lambda: Stack(made, space.wanted, self.device))
        rng = random.Random(42)
        candidates = [space.draw(rng) for _ in range(SINGLE)]
        fitness = FitnessEvaluator([SearchPart(stack, self.truth)])
        found["one by one"] = len(candidates) / timed(self.device, lambda: list(map(fitness, candidates)))[0]
        found["together"] = len(candidates) / timed(self.device, lambda: fitness.many(candidates))[0]
        if optimum:
            search = self._search(self.plan(unary, strategy="exhaustive"), stack)
            assert isinstance(search, Exhaustive)
            seconds, _ = timed(self.device, lambda: self._run(search, left))
            found["enumeration"] = {
                "seconds": seconds, "evaluated": search.evaluated, "whole": search.done == search.total,
                "best": search.archive.best,
            }  # fmt: skip
        for seed in range(seeds):
            seconds, course = timed(self.device, partial(self._run, self._search(plan, stack, seed), left))
            found["evolutions"].append({"seed": seed, "seconds": seconds, "best": course[-1][1], "course": course})
        return found


def counted(
    name: str, limit: int, device: torch.device, *, unary: int = 2, seeds: int = 3, candidates: int = STORED,
    sample: int = 20, folder: Path | None = None,
    left: Callable[[], float] = lambda: math.inf, keep: Keep = lambda found: None,
) -> dict[str, Any]:  # fmt: skip
    """All of it, on the architectures of one benchmark.

    Args:
        name: of the benchmark.
        limit: maximum number of architectures, evenly spaced.
        device: to work on.
        unary: operations in each branch that tables hold.
        seeds: of the evolutions from tables.
        candidates: to score from the store.
        sample: to score by passes, at most.
        folder: that keeps tables; None keeps none.
        left: the seconds that may still be used.
        keep: called with what is found after each step.
    """
    made = CandidateCounter(name, limit, device)
    found: dict[str, Any] = {"benchmark": name, "architectures": len(made.configs), "device": str(device)}
    found |= made.long(candidates, sample, left)
    keep(found)
    found["tables"] = made.tables(unary, seeds=seeds, left=left, folder=folder)
    keep(found)
    return found
