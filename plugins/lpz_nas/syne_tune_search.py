"""Syne Tune on spaces of language models: an objective that is a proxy, and benchmarks as a `Blackbox`.

Needs `pip install 'lpzero-hf[syne-tune]'`. See `examples/syne_tune_search.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syne_tune.config_space import choice, ordinal

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.proposals import Proposals, offers
from lpz_nas.trained_table import TrainedTable
from lpzero_hf.benchmarks.benchmark import Benchmark
from lpzero_hf.scoring.scores import ScoreError
from lpzero_hf.spaces.base import SearchSpace

if TYPE_CHECKING:
    from syne_tune.blackbox_repository.blackbox_offline import BlackboxOffline


def config_space(space: SearchSpace) -> dict[str, Any]:
    """A space as Syne Tune's `config_space`: rising numbers are ordinal, all else is a choice. It has the layers of the
    deepest architecture; a shallower one ignores the rest. The names are those of `space.parameters()`."""
    return {name: _domain(values) for name, values in offers(space).items()}


def _domain(values: list[Any]) -> Any:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return ordinal(values, kind="equal") if numbers and values == sorted(values) else choice(values)


def objective(evaluator: ProxyEvaluator, budget: Budget | None = None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function from a configuration that a scheduler suggests to the metrics that it is told, or that a
    `syne_tune.Reporter` reports: `score` (mode "max"), `params` (mode "min") and `architecture`, a text id.

    The function raises `ScoreError` if there is no score: outside the budget, where the model cannot be built or the
    proxy does not apply. Tell a scheduler with `on_trial_error`; in a `Tuner`, the trial fails.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters; what is outside is counted and never built.

    Raises:
        UsageError: the evaluator has no space, or, when called, a value is missing or not of the space.
    """
    proposals = Proposals(evaluator, budget)

    def run(config: Mapping[str, Any]) -> dict[str, Any]:
        outcome = proposals.outcome(config)
        if outcome.score is None:
            raise ScoreError(f"no score of {outcome.architecture}: {outcome.reason}")
        return {"score": outcome.score, "params": outcome.params, "architecture": outcome.architecture}

    return run


def blackbox(benchmark: Benchmark | str | Path) -> BlackboxOffline:
    """A benchmark as Syne Tune's tabulated `Blackbox`, of one data frame; its objective is called as the metric, and is
    minimised or maximised as `TrainedTable(benchmark).mode` says. It knows the trained architectures alone;
    `add_surrogate` of Syne Tune interpolates.

    Raises:
        LpzError: there is no such benchmark, or it cannot be read.
    """
    from syne_tune.blackbox_repository.blackbox_offline import BlackboxOffline

    table = TrainedTable(benchmark)
    return BlackboxOffline(table.frame(), config_space(table.space), objectives_names=[table.benchmark.metric])
