"""NePS on spaces of language models: `evaluate_pipeline` returns a proxy's score and trains nothing.

Needs `pip install 'neural-pipeline-search>=0.17'`, which asks for pandas before 3. See `examples/neps_search.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import neps

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.proposals import Proposals, offers
from lpzero_hf.scoring.scores import ScoreError
from lpzero_hf.spaces.base import SearchSpace


def pipeline_space(space: SearchSpace) -> neps.PipelineSpace:
    """A space as NePS's `pipeline_space`: all parameters categorical, with the layers of the deepest architecture; a
    shallower one ignores the rest. The names are those of `space.parameters()`, with `__` for a dot or a blank."""
    choices = {_name(name): neps.Categorical(choices=tuple(values)) for name, values in offers(space).items()}
    made: neps.PipelineSpace = type("LanguageModels", (neps.PipelineSpace,), choices)()
    return made


def evaluate_pipeline(evaluator: ProxyEvaluator, budget: Budget | None = None) -> Callable[..., dict[str, Any]]:
    """The function of this name that `neps.run` takes.

    It returns minus the score, which NePS minimises, and the text id and the number of parameters as `info_dict`. It
    raises `ScoreError` if there is no score: outside the budget, where the model cannot be built or the proxy does not
    apply. `neps.run(..., ignore_errors=True)` counts that trial as crashed and goes on.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters; what is outside is counted and never built.

    Raises:
        UsageError: the evaluator has no space, or, when called, a value is missing or not of the space.
    """
    proposals = Proposals(evaluator, budget)
    names = {_name(name): name for name in proposals.offers}

    def run(**config: Any) -> dict[str, Any]:
        outcome = proposals.outcome({names.get(given, given): value for given, value in config.items()})
        facts = {"architecture": outcome.architecture, "params": outcome.params}
        if outcome.score is None:
            raise ScoreError(f"no score of {outcome.architecture}: {outcome.reason}")
        return {"objective_to_minimize": -outcome.score, "info_dict": facts}

    return run


def _name(name: str) -> str:
    """The name of a parameter as a keyword argument."""
    return name.replace(".", "__").replace(" ", "__")
