"""The configuration of a search: everything that determines its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lpzero_hf.benchmarks.matched import MATCH, WITHIN, Sizes
from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import EVERY_STATISTIC, FOLDS, STATISTIC_NAMES, Operations
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.correlation import KINDS
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import Combine
from lpzero_hf.searching.selection import METHODS

STRATEGY_NAMES = ("evolution", "random", "exhaustive")
LONGEST_TABLED = 2  # unary operations in a branch, for which tables can hold the whole space
LATER = {"match": MATCH, "within": WITHIN, "roles": False}  # settings that version 0.1.0 did not have, and what it did
LISTS = ("benchmarks", "unary", "reduces", "aggregates")


@dataclass(frozen=True)
class SearchConfig:
    """The settings of a search.

    Args:
        benchmarks: names of one or several to search on at once.
        strategy: evolution, random or exhaustive.
        unary: unary operations in the two branches, each 1 to 4.
        reduces: folds over elements to choose from.
        aggregates: folds over blocks to choose from.
        fitness: spearman, kendall, matched (agreement at matched size) or mixed (the mean of spearman and matched).
        match: the proxy whose scores are the sizes that pairs are matched by, in the fitness and in what is reported.
        within: the factor by which the sizes of a pair differ at most.
        combine: of several benchmarks' correlations, mean or worst.
        train: architectures of each benchmark to search on; the rest are held out. None takes all.
        splits: number of searches, each on other architectures.
        select: how the winner is chosen: best (the fittest) or bagging; see `lpzero_hf.searching.selection`.
        prune: whether candidates are rejected beforehand.
        early: architectures evaluated first, so that unfit candidates are rejected early; 0 for none.
        iterations: children of an evolution, or expressions of a random search.
        population: of an evolution; a random search evaluates as many expressions in all.
        elite: the fraction of the population that parents are drawn from.
        crossover: the probability of two parents.
        mutation: the probability that a child of two parents is mutated.
        seed: of the search; the splits have the seeds that follow it.
        setting: minibatch, seed of the weights, precision and device.
        limit: maximum number of architectures of each benchmark, evenly spaced.
        table: how those of the benchmarks are read that are tables.
        roles: whether branches may also read the linear layers by role: W_ffn, J_mixer and so on.

    Raises:
        UsageError: a value is out of range or unknown.
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
    table: TableOptions | None = None
    match: str = MATCH
    within: float = WITHIN
    roles: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("strategy", self.strategy, STRATEGY_NAMES),
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
        Sizes([], self.match, self.within)  # raises if the factor is out of range
        if self.train is not None and self.train < 3:
            raise UsageError(f"{self.train} architectures cannot be ranked; search on at least 3")

    @property
    def tabled(self) -> bool:
        """Whether the space is small enough for branch tables that hold all of it."""
        return max(self.unary) <= LONGEST_TABLED

    def space(self, operations: Operations) -> ExpressionSpace:
        """The space of expressions to search."""
        statistics = EVERY_STATISTIC if self.roles else STATISTIC_NAMES
        return ExpressionSpace(self.unary, self.reduces, self.aggregates, statistics, operations)

    def to_json(self) -> dict[str, Any]:
        """As plain data; a text is named by its path."""
        data = asdict(self)
        data["setting"] = self.setting.to_json()
        for name in LISTS:
            data[name] = list(data[name])
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchConfig:
        """The configuration from the result of `to_json`."""
        setting, table = Setting.from_json(data["setting"]), TableOptions.from_json(data.get("table"))
        return cls(**{**data, **{name: tuple(data[name]) for name in LISTS}, "setting": setting, "table": table})
