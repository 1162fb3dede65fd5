"""Archai's searches on spaces of language models (`lpz_nas.archai_space`): a proxy as the objective.

Archai takes nothing but its own `ModelEvaluator`s; importing this makes `ProxyEvaluator` one of them. How to install
Archai: `docs/how-to/nas-tools.md`. See `examples/archai_search.py`.
"""

# no `from __future__ import annotations`: Archai compares the types of what is overridden
import functools
from collections.abc import Callable
from typing import Any

from archai.discrete_search.api import ArchaiModel, ModelEvaluator, SearchObjectives
from overrides import overrides

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.proposals import Proposals

ModelEvaluator.register(ProxyEvaluator)


def search_objectives(evaluator: ProxyEvaluator, budget: Budget | None = None) -> SearchObjectives:
    """Two objectives, `score` (to be maximised) and `params` (to be minimised), of the models of `LanguageModels`, and
    a constraint: an architecture without a score is not valid. It is outside the budget, where it is counted and never
    built, or the model cannot be built, or the proxy does not apply.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters. Archai's `RandomSearch` never ends where nothing is within.

    Raises:
        UsageError: the evaluator has no space.
    """
    proposals = Proposals(evaluator, budget)
    outcome = functools.cache(lambda text: proposals.appraise(proposals.space.parse(text)))
    objectives = SearchObjectives()
    objectives.add_constraint("scored", _Value(lambda text: float(outcome(text).score is not None)), (1, 1))
    objectives.add_objective("score", _Value(lambda text: outcome(text).score), higher_is_better=True)
    objectives.add_objective("params", _Value(lambda text: outcome(text).params), higher_is_better=False)
    return objectives


class _Value(ModelEvaluator):
    def __init__(self, of: Callable[[str], Any]) -> None:
        self._of = of

    @overrides
    def evaluate(self, arch: ArchaiModel, budget: float | None = None) -> float:
        return float(self._of(arch.metadata["architecture"]))
