"""Benchmarks as OptunaHub's problems, on which Optuna's samplers are compared.

Needs `pip install 'lpzero-hf[optunahub]'`. See `examples/optunahub_problem.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optunahub.benchmarks import BaseProblem

from lpz_nas.trained_table import TrainedTable
from lpzero_hf.benchmarks.benchmark import Benchmark


class BenchmarkProblem(BaseProblem):
    """The trained performance of an architecture: of itself where it was trained, else of the nearest that was.

    Args:
        benchmark: a `Benchmark`, or an argument of `load_benchmark`.

    Raises:
        LpzError: there is none of that name, or it cannot be read.

    Example:
        >>> import optuna
        >>> problem = BenchmarkProblem("tiny-gpt2")
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(directions=problem.directions)
        >>> study.optimize(problem, n_trials=5)
        >>> study.best_value >= problem.optimum
        True
    """

    def __init__(self, benchmark: Benchmark | str | Path) -> None:
        self.table = TrainedTable(benchmark)
        self._space = {name: _distribution(values) for name, values in self.table.offers.items()}

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """The parameters of the benchmark's space: numbers in equal steps are integers, all else is categorical."""
        return dict(self._space)

    @property
    def directions(self) -> list[StudyDirection]:
        """Whether the metric is maximised or minimised."""
        return [StudyDirection.MAXIMIZE if self.table.mode == "max" else StudyDirection.MINIMIZE]

    @property
    def optimum(self) -> float:
        """The best trained performance, by which the regret of a search is known."""
        return (max if self.table.mode == "max" else min)(self.table.trained.values())

    def evaluate(self, params: Mapping[str, Any]) -> float:
        """The trained performance, in the unit of the benchmark's metric.

        Args:
            params: a value for every parameter; those of layers that the architecture does not have are ignored.
        """
        return self.table.performance(params)


def _distribution(values: list[Any]) -> BaseDistribution:
    steps = {b - a for a, b in pairwise(values)} if all(type(value) is int for value in values) else set()
    if len(steps) == 1 and min(steps) > 0:
        return IntDistribution(values[0], values[-1], step=steps.pop())
    return CategoricalDistribution(values)
