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
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.spaces.base import SearchSpace


def param_space(space: SearchSpace) -> dict[str, Any]:
    """A space as Ray Tune's `param_space`: every value drawn uniformly, with the layers of the deepest architecture;
    a shallower one ignores the rest. The names are those of `space.parameters()`."""
    return {name: tune.choice(values) for name, values in space.parameters().items()}


def trainable(evaluator: ProxyEvaluator, budget: Budget | None = None) -> Callable[[Mapping[str, Any]], None]:
    """A function of a configuration for `tune.Tuner`.

    It reports `score` (to be maximised), `params`, `architecture` (the text id) and, where there is no score, `reason`.
    Outside the budget, where the model cannot be built (`params` is None), and where the proxy has no score, the score
    is minus infinity, which Ray's `get_best_result` leaves out; outside the budget the model is never built.

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
        found: dict[str, Any] = {"score": -math.inf, "params": None, "architecture": "", "reason": ""}
        try:
            architecture = space.assemble(lambda name, values: config[name])
            found["architecture"] = space.text(architecture)
            built = space.config(architecture)
            found["params"] = params = count(built)
        except LpzError as error:  # no architecture, or none that can be built
            tune.report(found | {"reason": str(error)})
            return
        if bounds.allows(params):
            verdict = evaluator.try_evaluate(built)
            found["reason"] = verdict.reason
            if verdict.value is not None:
                found["score"] = verdict.value
        else:
            found["reason"] = f"{params:,} parameters, not {bounds}"
        tune.report(found)

    return run
