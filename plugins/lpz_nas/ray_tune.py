"""Ray Tune on spaces of language models: a function to train on that trains nothing and reports a proxy's score.

Needs `pip install 'lpzero-hf[ray]'`. See `examples/ray_tune.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import ProxyEvaluator
from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.base import SearchSpace


def param_space(space: SearchSpace) -> dict[str, Any]:
    """A space as Ray Tune's `param_space`: every value drawn uniformly, with the layers of the deepest architecture;
    a shallower one ignores the rest. The names are those of `space.parameters()`."""
    return {name: tune.choice(values) for name, values in space.parameters().items()}


def trainable(evaluator: ProxyEvaluator, budget: Budget | None = None) -> Callable[[Mapping[str, Any]], None]:
    """A function of a configuration for `tune.Tuner`.

    It reports `score` (to be maximised), `params`, `architecture` (the text id) and, where there is no score, `reason`.
    Outside the budget, and where the proxy has no score, the score is minus infinity, which Ray's `get_best_result`
    leaves out; outside the budget the model is never built.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters.

    Raises:
        UsageError: the evaluator has no space.
    """
    space, bounds = evaluator.space, budget or Budget()
    if space is None:
        raise UsageError("Ray Tune searches a space; name it with ProxyEvaluator(..., space=...)")

    def run(config: Mapping[str, Any]) -> None:
        architecture = space.assemble(lambda name, values: config[name])
        built = space.config(architecture)
        params, value, reason = count(built), None, ""
        if bounds.allows(params):
            verdict = evaluator.try_evaluate(built)
            value, reason = verdict.value, verdict.reason
        else:
            reason = f"{params:,} parameters, not {bounds}"
        score = -math.inf if value is None else value
        tune.report({"score": score, "params": params, "architecture": space.text(architecture), "reason": reason})

    return run
