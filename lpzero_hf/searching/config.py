"""The configuration of a search: everything that determines its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

from lpzero_hf.benchmarks.matched import MATCH, WITHIN, Sizes
from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import BUILT_IN, EVERY_STATISTIC, FOLDS, STATISTIC_NAMES, Operations
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.correlation import KINDS
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import Combine
from lpzero_hf.searching.selection import METHODS

STRATEGY_NAMES = ("evolution", "random", "exhaustive")
LONGEST_TABLED = 2  # unary operations in a branch, for which tables can hold the whole space
PRESETS = ("default", "paper")
ITERATIONS = {"paper": 1000, "default": 50_000}  # children of an evolution
UNTABLED = 5_000  # the same of the default preset, where a candidate costs more than a look into tables
GENERATION = 200  # candidates proposed and scored together
SHARED = 20  # the same where they are evaluated one by one, and share what they need to score
LISTS = ("benchmarks", "unary", "reduces", "aggregates")
SEVERAL = ("minibatches", "init_seeds")  # of the setting
MOST_SETTINGS = 64
LATER = {
    "match": MATCH, "within": WITHIN, "minibatches": [], "init_seeds": [], "over_settings": "mean", "roles": False,
    "preset": "paper", "batch": None, "starts": [], "saw": [],
}  # fmt: skip
"""What a search of version 0.1.0 did, of the settings that it did not have."""


@dataclass(frozen=True)
class SearchConfig:
    """The settings of a search.

    Args:
        benchmarks: names or paths of one or several to search on at once.
        strategy: evolution, random or exhaustive.
        unary: unary operations in the two branches, each 1 to 4; one number stands for both.
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
        iterations: children of an evolution, or expressions of a random search; None for as many as the preset makes.
        population: of an evolution; a random search evaluates as many expressions in all.
        elite: the fraction of the population that parents are drawn from.
        crossover: the probability of two parents.
        mutation: the probability that a child of two parents is mutated.
        seed: of the search; the splits have the seeds that follow it.
        setting: minibatch, seed of the weights, precision and device. Where there are several minibatches or seeds of
            the weights, it becomes the first.
        limit: maximum number of architectures of each benchmark, evenly spaced.
        table: how those of the benchmarks are read that are tables.
        minibatches: (sequences, tokens of each), one or several in place of the setting's. Every architecture is scored
            under each minibatch with the weights of each seed, and an expression must do well under all.
        init_seeds: of the weights, one or several in place of the setting's; the tokens stay the same.
        over_settings: of a benchmark's correlations under these settings, mean or worst; then benchmarks are combined.
        roles: whether branches may also read the linear layers by role: W_ffn, J_mixer and so on.
        preset: of an evolution: default (in generations), or paper (that of LPZero, one child at a time).
        batch: candidates that are proposed before the first is evaluated; None for as many as the preset proposes.
        starts: of an evolution of the default preset, by split, expressions to begin with; see `searching.starts`.
        saw: by split, the marks of the architectures that these were found on; as many as `starts`.

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
    iterations: int | None = None
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
    minibatches: tuple[tuple[int, int], ...] = ()
    init_seeds: tuple[int, ...] = ()
    over_settings: Combine = "mean"
    roles: bool = False
    preset: str = "default"
    batch: int | None = None
    starts: tuple[tuple[str, ...], ...] = ()
    saw: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        lengths = cast("int | tuple[int, int]", self.unary)
        object.__setattr__(self, "unary", (lengths, lengths) if isinstance(lengths, int) else lengths)
        single = isinstance(self.benchmarks, str | Path) or not isinstance(self.benchmarks, Iterable)
        names = (self.benchmarks,) if single else tuple(self.benchmarks)
        if not all(isinstance(name, str | Path) for name in names):
            raise UsageError(
                "a SearchConfig names its benchmarks; give objects to `search`, and its settings beside them"
            )
        object.__setattr__(self, "benchmarks", tuple(map(str, names)))
        for what, value, known in (
            ("strategy", self.strategy, STRATEGY_NAMES),
            ("fitness", self.fitness, KINDS),
            ("way to combine benchmarks", self.combine, ("mean", "worst")),
            ("way to combine settings", self.over_settings, ("mean", "worst")),
            ("way to select", self.select, METHODS),
            ("preset", self.preset, PRESETS),
        ):
            if value not in known:
                raise UsageError(f"unknown {what} '{value}'; there are {', '.join(known)}")
        if not self.benchmarks or len(set(self.benchmarks)) < len(self.benchmarks):
            raise UsageError("a search needs one benchmark or several different ones")
        if self.splits < 1 or self.children < 1 or self.population < 2 or self.early < 0 or self.seed < 0:
            raise UsageError("splits and iterations are at least 1, population 2, early and seed 0")
        if self.together < 1:
            raise UsageError(f"{self.batch} candidates cannot be proposed together; `batch=` is at least 1")
        if self.starts and (not self.in_generations or not len(self.starts) == len(self.saw) == self.splits):
            raise UsageError("only an evolution of the default preset starts from expressions, each split from its own")
        if not all(0 <= share <= 1 for share in (self.elite, self.crossover, self.mutation)):
            raise UsageError("elite, crossover and mutation are fractions between 0 and 1")
        Sizes([], self.match, self.within)  # raises if the factor is out of range
        if self.train is not None and self.train < 3:
            raise UsageError(f"{self.train} architectures cannot be ranked; search on at least 3")
        self._settle()

    def _settle(self) -> None:
        """Let `setting` be the first, and what there is one of be its own."""
        sizes, seeds = _minibatches(self.minibatches), _seeds(self.init_seeds)
        setting = self.setting
        if sizes:
            setting = replace(setting, batch_size=sizes[0][0], seq_len=sizes[0][1])
        if seeds:
            setting = replace(setting, init_seed=None if seeds[0] == setting.seed else seeds[0])
        for name, value in (
            ("setting", setting),
            ("minibatches", sizes if len(sizes) > 1 else ()),
            ("init_seeds", seeds if len(seeds) > 1 else ()),
        ):
            object.__setattr__(self, name, value)
        if (count := len(self.settings)) > MOST_SETTINGS:
            raise UsageError(f"{count} settings (minibatches times seeds of the weights) are more than {MOST_SETTINGS}")

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All settings that every architecture is scored under, `setting` first: minibatch by minibatch, each with all
        seeds of the weights."""
        sizes = self.minibatches or ((self.setting.batch_size, self.setting.seq_len),)
        seeds = [None if seed == self.setting.seed else seed for seed in self.init_seeds or (self.setting.init_seed,)]
        return tuple(
            replace(self.setting, batch_size=sequences, seq_len=tokens, init_seed=seed)
            for (sequences, tokens), seed in product(sizes, seeds)
        )

    @property
    def several(self) -> range:
        """The places of the `settings` if there are several; none if there is one."""
        return range(len(self.settings) if self.minibatches or self.init_seeds else 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of each of the `settings`, what distinguishes it: "4x32", "weights 43" or "4x32, weights 43"."""
        return tuple(
            ", ".join(
                [f"{one.batch_size}x{one.seq_len}"] * bool(self.minibatches)
                + [f"weights {one.weights_seed}"] * bool(self.init_seeds)
            )
            for one in self.settings
        )

    @property
    def tabled(self) -> bool:
        """Whether the space is small enough for branch tables that hold all of it."""
        return max(self.unary) <= LONGEST_TABLED

    @property
    def tabled_everywhere(self) -> bool:
        """Whether tables cost so little that architectures held out have them too; if not, these are scored directly,
        by what was found."""
        return max(self.unary) < LONGEST_TABLED

    @property
    def in_generations(self) -> bool:
        """Whether it is an evolution that scores whole generations."""
        return self.strategy == "evolution" and self.preset == "default"

    @property
    def children(self) -> int:
        """The children of an evolution, or the expressions of a random search."""
        if self.iterations is not None:
            return self.iterations
        if not self.in_generations:
            return ITERATIONS["paper"]
        most = ITERATIONS["default"] if self.tabled else UNTABLED
        return max(GENERATION, min(most, self.space(BUILT_IN).size // 10))  # a small space is soon known

    @property
    def together(self) -> int:
        """The candidates that are proposed before the first is evaluated."""
        if self.batch is not None:
            return self.batch
        return GENERATION if self.in_generations else 1 if self.tabled else SHARED

    def space(self, operations: Operations) -> ExpressionSpace:
        """The space of expressions to search."""
        statistics = EVERY_STATISTIC if self.roles else STATISTIC_NAMES
        return ExpressionSpace(self.unary, self.reduces, self.aggregates, statistics, operations)

    def to_json(self) -> dict[str, Any]:
        """As plain data; a text is named by its path."""
        data = asdict(self)
        data["setting"], data["iterations"] = self.setting.to_json(), self.children
        for name in LISTS:
            data[name] = list(data[name])
        data["minibatches"] = [list(size) for size in self.minibatches]
        data["init_seeds"] = list(self.init_seeds)
        data["starts"], data["saw"] = [list(texts) for texts in self.starts], [list(marks) for marks in self.saw]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchConfig:
        """The configuration from the result of `to_json`."""
        setting, table = Setting.from_json(data["setting"]), TableOptions.from_json(data.get("table"))
        lists = {name: tuple(data[name]) for name in LISTS} | {name: tuple(data.get(name, ())) for name in SEVERAL}
        lists |= {name: tuple(map(tuple, data.get(name, ()))) for name in ("starts", "saw")}
        return cls(**{**LATER, **data, **lists, "setting": setting, "table": table})


def _minibatches(given: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Raises `UsageError` unless all are two numbers, and different."""
    sizes: list[tuple[int, int]] = []
    for size in _several(given, "minibatches"):
        if not isinstance(size, Sequence) or len(size) != 2 or not all(map(_whole, size)):
            raise UsageError(f"a minibatch is (sequences, tokens of each), such as (4, 32), not {size!r}")
        sequences, tokens = size
        if sequences < 1 or tokens < 2:
            raise UsageError(f"a minibatch has at least 1 sequence of 2 tokens, not {sequences}x{tokens}")
        if (sequences, tokens) in sizes:
            raise UsageError(f"the minibatch {sequences}x{tokens} is given twice; give each once")
        sizes.append((sequences, tokens))
    return tuple(sizes)


def _seeds(given: Sequence[int]) -> tuple[int, ...]:
    """Raises `UsageError` unless all are numbers, and different."""
    for number, seed in enumerate(_several(given, "seeds of the weights")):
        if not _whole(seed):
            raise UsageError(f"a seed of the weights is a whole number, not {seed!r}")
        if seed in given[:number]:
            raise UsageError(f"the seed {seed} of the weights is given twice; give each once")
    return tuple(given)


def _several(given: object, what: str) -> Sequence[Any]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        return given
    raise UsageError(f"{what} are several in a list, not {given!r}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
