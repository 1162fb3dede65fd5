"""Scores expressions by passes over the models, where a space is too large for branch tables."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpzero_hf.errors import LpzError, ModelWarning
from lpzero_hf.executors.base import Executor
from lpzero_hf.expressions.expression import STATISTIC_NAMES, Expression, Operations
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.stored_scores import Progress, StoredScores

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class DirectScores:
    """A `ScoreSource` in which every batch of new expressions is a pass over every model; of a part of them, the raw
    statistics are stored.

    Args:
        configs: n architectures by any name.
        setting: minibatch, seed, precision and device.
        cache: of scores.
        executor: where to work; by default in this process, with one thread.
        plugins: where operations are looked up.
        statistics: that expressions read.
        progress: of the capture of a part's statistics, see `StoredScores`.
    """

    def __init__(
        self,
        configs: Mapping[str, PreTrainedConfig],
        setting: Setting,
        plugins: PluginRegistry,
        *,
        cache: ScoreCache | None = None,
        executor: Executor | None = None,
        statistics: Collection[str] = STATISTIC_NAMES,
        progress: Progress | None = None,
    ) -> None:
        self.configs = dict(configs)
        self.setting, self.plugins, self.cache = setting, plugins, cache
        self.executor, self.statistics, self.progress = executor, tuple(statistics), progress
        self._scored: dict[Expression, Tensor] = {}

    @property
    def operations(self) -> Operations:
        """Of the expressions, by name."""
        return installed_operations(self.plugins)

    @property
    def n(self) -> int:
        """The number of architectures."""
        return len(self.configs)

    @property
    def device(self) -> torch.device:
        """The device of the scores, wherever they are computed."""
        return torch.device("cpu")

    @property
    def tables(self) -> None:
        """None: there are no tables."""
        return None

    def of(self, architectures: Sequence[int]) -> DirectScores:
        """Some of the architectures, scored in the same way."""
        return DirectScores(
            self._some(architectures), self.setting, self.plugins,
            cache=self.cache, executor=self.executor, statistics=self.statistics, progress=self.progress,
        )  # fmt: skip

    def part(self, architectures: Sequence[int]) -> StoredScores:
        """Some of the architectures, to search on: many expressions are scored on these, so their statistics stay."""
        some = self._some(architectures)
        return StoredScores(some, self.setting, self.plugins, statistics=self.statistics, progress=self.progress)

    def _some(self, architectures: Sequence[int]) -> dict[str, PreTrainedConfig]:
        names = list(self.configs)
        return {names[i]: self.configs[names[i]] for i in architectures}

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures; NaN where there is none.

        Raises:
            LpzError: an architecture cannot be scored.
        """
        if all(branch.dropped for branch in expression.branches):
            return torch.full((self.n,), torch.nan, dtype=torch.float64)
        self.prepare([expression])
        return self._scored[expression]

    @property
    def checks(self) -> bool:
        """True: a scorer refuses what rounding decides."""
        return True

    def scores(self, expressions: Sequence[Expression], *, check: bool = True) -> Tensor:
        """[m, n], in one pass over every model, and always checked. Raises as `score`."""
        self.prepare(expressions)
        return torch.stack([self.score(expression) for expression in expressions])

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Score those that are not scored yet, in one pass over every model."""
        new = [
            e for e in dict.fromkeys(expressions) if e not in self._scored and not all(b.dropped for b in e.branches)
        ]
        if not new:
            return
        proxies = [expression_proxy(expression, operations=self.operations) for expression in new]
        with warnings.catch_warnings():
            if self._scored:  # what the first expressions leave out has been said
                warnings.simplefilter("ignore", ModelWarning)
            rows = evaluate(
                self.configs, proxies, self.setting, cache=self.cache, executor=self.executor, plugins=self.plugins
            )
        for expression, proxy in zip(new, proxies, strict=True):
            made = [row[proxy.name] for row in rows.values()]
            for row in made:
                if row["status"] == "failed":
                    raise LpzError(f"'{expression}' cannot be scored: {row['reason']}")
            values = [float("nan") if row["value"] is None else row["value"] for row in made]
            self._scored[expression] = torch.tensor(values, dtype=torch.float64)
