"""The outcome of a search for an architecture: all trials, the best one, and the front of score against size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from lpz_nas.budget import Budget
from lpzero_hf.errors import LpzError
from lpzero_hf.scoring.display import Displayed, Panel, Points

FORMAT, VERSION = "lpzero-hf nas", 1


class NothingScored(LpzError):
    """A search ended without a single score."""


@dataclass(frozen=True)
class Tried:
    """One architecture within the budget.

    Args:
        architecture: its text id in the space.
        params: its parameters, trained or frozen.
        score: of the proxy, higher is better; None if it has none.
        reason: why there is none.
    """

    architecture: str
    params: int
    score: float | None
    reason: str = ""


@dataclass(frozen=True)
class Found(Displayed):
    """The outcome of `find_architecture`. A notebook shows the front as a table.

    Args:
        request: the settings of the search, as plain data.
        trials: the architectures within the budget, each once, in the order tried.
        proposed: number of proposals, including those outside the budget and repetitions.
        seconds: the time that this call took.
        versions: of the libraries that determine the numbers.
        left_out: number of candidates that were left out because the proxy was searched on them.
        prefix: of the space, in the names of architectures as `load_model` takes them; "" for the name of the space.
    """

    request: Mapping[str, Any]
    trials: tuple[Tried, ...]
    proposed: int
    seconds: float
    versions: Mapping[str, str]
    left_out: int = 0
    prefix: str = field(default="", repr=False)

    @cached_property
    def winner(self) -> Tried:
        """The best score; of equal ones the smallest architecture. Raises `ValueError` if nothing was scored."""
        return best(self.trials)

    @cached_property
    def front(self) -> list[Tried]:
        """The Pareto front of score against parameters, the smallest first; the winner is its last member."""
        return pareto(self.trials)

    @property
    def title(self) -> str:
        """Of what the scores are."""
        among = self.request["among"]
        return f"{self.request['space']}{f', among {among}' if among else ''}: score against size"

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every architecture of the front, the winner last."""
        prefix = self.prefix or self.request["space"]
        return [
            {
                "architecture": f"{prefix}:{one.architecture}",
                "params": one.params,
                "score": one.score,
                "winner": one is self.winner,
            }
            for one in self.front
        ]  # fmt: skip

    def panels(self) -> list[Panel]:
        """Every architecture that was scored, the Pareto front among them, and the budget."""
        front, winner = self.front, self.winner
        scored = [tried for tried in self.trials if tried.score is not None]
        kinds = (("scored", scored, "rest"), ("front", front, "steps"), ("winner", [winner], "winner"))
        points = [
            Points(label, [one.params for one in tried], [one.score or 0.0 for one in tried], style)
            for label, tried, style in kinds
        ]
        bounds = (self.request["budget"][bound] for bound in ("max_params", "min_params"))
        limits = [limit for limit in bounds if limit is not None]
        turned = ", sign changed: higher is better" if self.request.get("orientation", 1) < 0 else ""
        name = f"{self.request['proxy']}{turned}"
        return [Panel("parameters (dashed: the budget)", name, points, limits=limits, whole=True)]

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain data for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "request": dict(self.request),
            "winner": asdict(self.winner),
            "front": [asdict(tried) for tried in self.front],
            "proposed": self.proposed,
            "left_out": self.left_out,
            "trials": [asdict(tried) for tried in self.trials],
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }


def best(trials: Iterable[Tried]) -> Tried:
    """The best score; of equal ones that with the fewest parameters, then the first.

    Raises:
        ValueError: none has a score.
    """
    scored = [tried for tried in trials if tried.score is not None]
    return min(scored, key=lambda tried: (-(tried.score or 0.0), tried.params))


def pareto(trials: Iterable[Tried]) -> list[Tried]:
    """Those that score better than everything as small or smaller, the smallest first.

    Example:
        >>> tried = [Tried("a", 10, 1.0), Tried("b", 20, 0.5), Tried("c", 30, 2.0), Tried("d", 30, 1.5)]
        >>> [one.architecture for one in pareto(tried)]
        ['a', 'c']
    """
    front: list[Tried] = []
    scored = [tried for tried in trials if tried.score is not None]
    for tried in sorted(scored, key=lambda tried: (tried.params, -(tried.score or 0.0))):
        if not front or (tried.score or 0.0) > (front[-1].score or 0.0):
            front.append(tried)
    return front


def none_within(budget: Budget, sizes: Iterable[int]) -> NothingScored:
    """The error of a search whose architectures, with these `sizes`, are all outside the budget."""
    seen = sorted(sizes)
    what = f"none of {len(seen):,} architectures has {budget}"
    if budget.max_params is not None and seen[0] > budget.max_params:
        return NothingScored(f"{what}: the smallest has {seen[0]:,}; raise the maximum")
    if budget.min_params is not None and seen[-1] < budget.min_params:
        return NothingScored(f"{what}: the largest has {seen[-1]:,}; lower the minimum")
    return NothingScored(f"{what}: they have {seen[0]:,} to {seen[-1]:,}; widen the budget")


def without_score(proxy: str, tried: Iterable[Tried]) -> NothingScored:
    """The error of a search in which no architecture has a score."""
    made = list(tried)
    return NothingScored(
        f"proxy '{proxy}' has no score of any of {len(made)} architectures ({made[0].reason}); choose another proxy"
    )
