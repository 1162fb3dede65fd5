"""Ray Tune on spaces of language models: a function to train on that trains nothing and reports a proxy's score.

Needs `pip install 'lpzero-hf[ray]'`. See `examples/ray_tune.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray import tune

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.proposals import Proposals, offers
from lpzero_hf.spaces.base import SearchSpace


def param_space(space: SearchSpace) -> dict[str, Any]:
    """A space as Ray Tune's `param_space`: every value drawn uniformly, with the layers of the deepest architecture;
    a shallower one ignores the rest. The names are those of `space.parameters()`; lists are written as texts."""
    return {name: tune.choice(values) for name, values in offers(space).items()}


def trainable(evaluator: ProxyEvaluator, budget: Budget | None = None) -> Callable[[Mapping[str, Any]], None]:
    """A function of a configuration for `tune.Tuner`.

    It reports `score` (to be maximised), `params`, `architecture` (the text id) and, where there is no score, `reason`.
    Outside the budget, where the model cannot be built (`params` is None), and where the proxy has no score, the score
    is minus infinity, which Ray's `get_best_result` leaves out; outside the budget the model is never built.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters.

    Raises:
        UsageError: the evaluator has no space, or, when called, a value is missing or not of the space.
    """
    proposals = Proposals(evaluator, budget)

    def run(config: Mapping[str, Any]) -> None:
        outcome = asdict(proposals.outcome(config))
        tune.report(outcome | {"score": -math.inf if outcome["score"] is None else outcome["score"]})

    return run
