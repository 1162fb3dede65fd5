"""Scores of expressions by passes over the models, where a space is too large for branch tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpzero_hf.errors import LpzError
from lpzero_hf.executors import Executor
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import Setting, evaluate

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Passes:
    """To those who ask for scores the same as a `Stack`; every batch of new expressions is a pass over every model.

    Args:
        configs: n architectures by any name.
        setting: minibatch, seed, precision and device.
        cache: of scores.
        executor: where to work; by default in this process, with one thread.
        plugins: where operations are looked up.
    """

    def __init__(
        self,
        configs: Mapping[str, PreTrainedConfig],
        setting: Setting,
        plugins: PluginRegistry,
        *,
        cache: ScoreCache | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.configs, self.n = dict(configs), len(configs)
        self.setting, self.plugins, self.cache = setting, plugins, cache
        self.executor = executor
        self._scored: dict[Expression, Tensor] = {}

    def part(self, architectures: Sequence[int]) -> Passes:
        """Some of the architectures."""
        names = list(self.configs)
        some = {names[i]: self.configs[names[i]] for i in architectures}
        return Passes(some, self.setting, self.plugins, cache=self.cache, executor=self.executor)

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures; NaN where there is none.

        Raises:
            LpzError: an architecture cannot be scored.
        """
        if all(branch.dropped for branch in expression.branches):
            return torch.full((self.n,), torch.nan, dtype=torch.float64)
        self.prepare([expression])
        return self._scored[expression]

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Score those that are not scored yet, in one pass over every model."""
        new = [
            e for e in dict.fromkeys(expressions) if e not in self._scored and not all(b.dropped for b in e.branches)
        ]
        if not new:
            return
        proxies = [expression_proxy(expression, operations=self.plugins.operations) for expression in new]
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
