"""whittle's `multi_objective_search` on spaces of language models: minus a proxy's score, and the number of parameters.

Needs nothing; whittle asks for transformers before 4.54, so see `docs/how-to/nas-tools.md` for how to install it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.proposals import Proposals


def objective(
    evaluator: ProxyEvaluator, budget: Budget | None = None
) -> Callable[[Mapping[str, Any]], tuple[float, float]]:
    """A function from a configuration of `lpz_nas.syne_tune_search.config_space` to two values to be minimised.

    They are minus the score and the number of parameters, or twice infinity where there is none: outside the budget,
    where the model cannot be built or the proxy does not apply. Such a point is on no Pareto front.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters; what is outside is counted and never built.

    Raises:
        UsageError: the evaluator has no space, or, when called, a value is missing or not of the space.

    Example:
        >>> from lpz_nas import ProxyEvaluator
        >>> from lpzero_hf import load_space
        >>> smallest = {name: values[0] for name, values in load_space("tiny-gpt2").parameters().items()}
        >>> objective(ProxyEvaluator("num_heads", space="tiny-gpt2"))(smallest)
        (-1.0, 172866.0)
    """
    proposals = Proposals(evaluator, budget)

    def run(config: Mapping[str, Any]) -> tuple[float, float]:
        outcome = proposals.outcome(config)
        if outcome.score is None or outcome.params is None:
            return math.inf, math.inf
        return -outcome.score, float(outcome.params)

    return run
