"""What a search is asked to do: everything that decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import FOLDS, Operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.scoring.evaluate import Setting
from lpzero_hf.search.correlation import KINDS
from lpzero_hf.search.expression_space import ExpressionSpace
from lpzero_hf.search.fitness import Combine, Judge
from lpzero_hf.search.pruning import Pruner
from lpzero_hf.search.selection import METHODS
from lpzero_hf.search.strategies import Evolution, Exhaustive, RandomSearch, Strategy

STRATEGIES: tuple[type[Strategy], ...] = (Evolution, RandomSearch, Exhaustive)
LISTS = ("benchmarks", "unary", "reduces", "aggregates")
BROOD = 20  # children drawn at once where each evaluation is a pass over every model


@dataclass(frozen=True)
class Plan:
    """What a search is asked to do.

    Args:
        benchmarks: names of one or several to search on at once.
        strategy: evolution, random or exhaustive.
        unary: unary operations in the two branches, each 1 to 4.
        reduces: folds over elements to choose from.
        aggregates: folds over blocks to choose from.
        fitness: spearman or kendall.
        combine: of several benchmarks' correlations, mean or worst.
        train: architectures of each benchmark to search on; the rest are held out. None takes all.
        splits: how often to search, each time on other architectures.
        select: how the winner is chosen: best (the fittest) or bagging; see `lpzero_hf.search.selection.select`.
        prune: whether candidates are rejected beforehand.
        early: architectures looked at first, so that hopeless candidates cost no more; 0 for none.
        iterations: children of an evolution, or expressions of a random search.
        population: of an evolution; a random search evaluates as many expressions in all.
        elite: the fraction of the population that parents are drawn from.
        crossover: the probability of two parents.
        mutation: the probability that a child of two parents is mutated.
        seed: of the search; the splits have the seeds that follow it.
        setting: minibatch, seed of the weights, precision and device.
        limit: only so many architectures of each benchmark, evenly spaced.

    Raises:
        UsageError: a value that makes no sense.
    """

    benchmarks: tuple[str, ...]
    strategy: str = "evolution"
    unary: tuple[int, int] = (1, 1)
    reduces: tuple[str, ...] = FOLDS
    aggregates: tuple[str, ...] = FOLDS
    fitness: str = "spearman"
    combine: Combine = "mean"
    train: int | None = 50
    splits: int = 1
    select: str = "bagging"
    prune: bool = True
    early: int = 10
    iterations: int = 1000
    population: int = 80
    elite: float = 0.1
    crossover: float = 0.5
    mutation: float = 0.5
    seed: int = 42
    setting: Setting = field(default_factory=lambda: Setting(batch_size=4, seq_len=32))
    limit: int | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("strategy", self.strategy, [strategy.name for strategy in STRATEGIES]),
            ("fitness", self.fitness, KINDS),
            ("way to combine benchmarks", self.combine, ("mean", "worst")),
            ("way to select", self.select, METHODS),
        ):
            if value not in known:
                raise UsageError(f"unknown {what} '{value}'; there are {', '.join(known)}")
        if not self.benchmarks or len(set(self.benchmarks)) < len(self.benchmarks):
            raise UsageError("a search needs one benchmark or several different ones")
        if self.splits < 1 or self.iterations < 1 or self.population < 2 or self.early < 0 or self.seed < 0:
            raise UsageError("splits and iterations are at least 1, population 2, early and seed 0")
        if not all(0 <= share <= 1 for share in (self.elite, self.crossover, self.mutation)):
            raise UsageError("elite, crossover and mutation are fractions between 0 and 1")
        if self.train is not None and self.train < 3:
            raise UsageError(f"{self.train} architectures cannot be ranked; search on at least 3")

    @property
    def tabled(self) -> bool:
        """Whether the space is small enough for branch tables that hold all of it."""
        return max(self.unary) <= Exhaustive.longest

    def space(self, operations: Operations) -> ExpressionSpace:
        """The expressions to look through."""
        return ExpressionSpace(self.unary, self.reduces, self.aggregates, operations=operations)

    def start(self, space: ExpressionSpace, judge: Judge, seed: int) -> Strategy:
        """The search, before its first iteration."""
        pruner = None
        if self.prune:
            pruner = Pruner(space.operations, [s.source for s in judge.subjects if isinstance(s.source, Stack)])
        if self.strategy == Exhaustive.name:
            return Exhaustive(space, judge, seed)
        if self.strategy == RandomSearch.name:
            total = self.population + self.iterations
            return RandomSearch(space, judge, seed, pruner, iterations=total, brood=1 if self.tabled else BROOD)
        return Evolution(
            space, judge, seed, pruner,
            iterations=self.iterations, population=self.population, elite=self.elite,
            crossover=self.crossover, mutation=self.mutation, brood=1 if self.tabled else BROOD,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As plain data; a text is named by its path."""
        data = asdict(self)
        data["setting"]["text"] = None if self.setting.text is None else str(self.setting.text)
        for name in LISTS:
            data[name] = list(data[name])
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """What `to_json` made."""
        text = data["setting"]["text"]
        setting = Setting(**{**data["setting"], "text": None if text is None else Path(text)})
        return cls(**{**data, **{name: tuple(data[name]) for name in LISTS}, "setting": setting})
