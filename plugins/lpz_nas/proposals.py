"""What a tool that knows nothing of architectures proposes, named values, and what it is told: score and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import ProxyEvaluator
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.spaces.base import Architecture, Pick, SearchSpace, Value
from lpzero_hf.spaces.member_text import written


@dataclass(frozen=True)
class ScoredProposal:
    """What is known of a proposal.

    Args:
        architecture: its text id.
        params: its number of parameters; None if it cannot be built.
        score: of the proxy, higher is better; None if there is none.
        reason: why there is none.
    """

    architecture: str
    params: int | None = None
    score: float | None = None
    reason: str = ""


class Proposals:
    """Scores proposals of an evaluator's space; what is outside the budget is counted and never built.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters.

    Raises:
        UsageError: the evaluator has no space.

    Example:
        >>> from lpz_nas import ProxyEvaluator
        >>> proposals = Proposals(ProxyEvaluator("num_heads", space="tiny-gpt2"))
        >>> values = {name: offer[0] for name, offer in proposals.offers.items()}
        >>> proposals.outcome(values).architecture
        'd64.e32.k1-h1.i64'
    """

    def __init__(self, evaluator: ProxyEvaluator, budget: Budget | None = None) -> None:
        if not isinstance(evaluator, ProxyEvaluator):
            raise UsageError(f"{evaluator!r} scores nothing; give a ProxyEvaluator(PROXY, space=SPACE)")
        if not isinstance(budget, Budget | None):
            raise UsageError(f"{budget!r} is no budget; give Budget(max_params=...)")
        if evaluator.space is None:
            raise UsageError("this searches a space; name it with ProxyEvaluator(..., space=...)")
        self.evaluator, self.space, self.budget = evaluator, evaluator.space, budget or Budget()
        self.offers = offers(self.space)

    def outcome(self, values: Mapping[str, Any]) -> ScoredProposal:
        """The score of a proposal.

        Args:
            values: by the names of `offers`, from its lists; what the architecture does not have is ignored.

        Raises:
            UsageError: a value is missing, or none of its list.
        """
        return self.appraise(self.space.assemble(picker(values)))

    def appraise(self, architecture: Architecture) -> ScoredProposal:
        """The score of an architecture of the space."""
        name = self.space.text(architecture)
        try:
            config = self.space.config(architecture)
            params = count(config)
        except LpzError as error:  # it cannot be built
            return ScoredProposal(name, reason=str(error))
        if not self.budget.allows(params):
            return ScoredProposal(name, params, None, f"{params:,} parameters, not {self.budget}")
        verdict = self.evaluator.try_evaluate(config)
        return ScoredProposal(name, params, verdict.value, verdict.reason)


def offers(space: SearchSpace) -> dict[str, list[Any]]:
    """The parameters of a space with their values as other tools take them."""
    return {name: offered(values) for name, values in space.parameters().items()}


def offered(values: Sequence[Value]) -> list[Any]:
    """Values as other tools take them, in their order: lists are written as texts."""
    return [written(value) for value in values] if any(isinstance(value, tuple) for value in values) else list(values)


def picker(values: Mapping[str, Any]) -> Pick:
    """What `SearchSpace.assemble` asks for the values of a proposal.

    Args:
        values: by the names of `offers`, from its lists.

    Returns:
        A function that raises `UsageError` where a value is missing or none of its list.
    """
    if not hasattr(values, "keys"):
        raise UsageError(f"{values!r} is no proposal; give a value for every parameter of the space, by its name")

    def pick(name: str, known: Sequence[Value]) -> Value:
        if name not in values:
            raise UsageError(f"the proposal has no '{name}'; give one of {', '.join(map(str, offered(known)))}")
        try:
            return picked(values[name], known)
        except UsageError as error:
            raise UsageError(f"'{name}': {error}") from error

    return pick


def picked(value: Any, values: Sequence[Value]) -> Value:
    """The value of a space that a tool picked from `offered(values)`. Raises `UsageError` if it is none of them."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy
    if value is None or isinstance(value, bool | int | float | str):
        for ours, theirs in zip(values, offered(values), strict=True):
            if theirs == value and isinstance(theirs, bool) == isinstance(value, bool):
                return ours
    raise UsageError(f"{value!r} is none of the values {', '.join(map(str, values))}")
