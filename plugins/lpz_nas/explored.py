"""The outcome of a search by any objectives: what is within the limits, and the Pareto front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lpz_nas.appraisal import Appraised
from lpz_nas.goals import Goal, Limit
from lpz_nas.outcome import NothingScored
from lpzero_hf.scoring.display import Displayed, Panel, Points, columns
from lpzero_hf.scoring.quantities import show_quantity

FORMAT, VERSION = "lpzero-hf front", 1


@dataclass(frozen=True)
class Explored(Displayed):
    """The outcome of `explore`. A notebook shows the front as a table.

    Args:
        request: the settings of the search, as plain data.
        goals: the objectives.
        within: the architectures within all limits that have all values, each once, in the order tried.
        outside: those outside a limit.
        failed: those that cannot be built, or have no value.
        seconds: the time that this call took.
        versions: of the libraries that determine the numbers.
        left_out: number of candidates that were left out because a proxy was searched on them.
        prefix: of the space, in the names of architectures as `load_model` takes them; "" for the name of the space.
    """

    request: Mapping[str, Any]
    goals: tuple[Goal, ...]
    within: tuple[Appraised, ...]
    outside: Sequence[Appraised]
    failed: Sequence[Appraised]
    seconds: float
    versions: Mapping[str, str]
    left_out: int = 0
    prefix: str = field(default="", repr=False)

    @cached_property
    def front(self) -> list[Appraised]:
        """The best by one objective, or the Pareto front of several, the best by the first objective first."""
        front = undominated(self.within, self.goals)
        return front[:1] if len(self.goals) == 1 else front

    @property
    def winner(self) -> Appraised:
        """The best by the first objective."""
        return self.front[0]

    @property
    def title(self) -> str:
        """How many were within the limits, and how many of them are on the front."""
        space = self.request["space"]
        return f"{space}: {len(self.front):,} of {len(self.within):,} architectures within the limits are on the front"

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every architecture of the front: its values by all objectives, and the costs known of it."""
        prefix = self.prefix or self.request["space"]
        return [
            columns({"architecture": f"{prefix}:{one.architecture}"}, one.costs | one.values, "cost")
            for one in self.front
        ]

    def panels(self) -> list[Panel]:
        """Every architecture within the limits by the first objective against each other one, the front among them.

        With one objective, against the first cost that is known of all, else in the order tried.
        """
        first, others = self.goals[0].name, [goal.name for goal in self.goals[1:]]
        costs = [
            name for name in self.within[0].costs if name != first and all(name in one.costs for one in self.within)
        ]
        front = {one.architecture for one in self.front}
        panels = []
        for name in others or costs[:1] or ["order tried"]:
            points = [
                (one.values.get(name, one.costs.get(name, float(order))), one.values[first], one.architecture in front)
                for order, one in enumerate(self.within)
            ]
            kinds = (("within the limits", "rest", False), ("front", "front", True))
            series = [
                Points(label, [p[0] for p in points if p[2] is on], [p[1] for p in points if p[2] is on], style)
                for label, style, on in kinds
            ]
            panels.append(Panel(name, first, series))
        return panels

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain data for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "request": dict(self.request),
            "front": [one.to_json() for one in self.front],
            "within": [one.to_json() for one in self.within],
            "outside": len(self.outside),
            "failed": [one.to_json() for one in self.failed],
            "left_out": self.left_out,
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }


def undominated(appraised: Sequence[Appraised], goals: Sequence[Goal]) -> list[Appraised]:
    """Those than which none is at least as good by all objectives and better by one; of equals the first.

    Returns:
        Sorted by the first objective, the best first.
    """

    def key(one: Appraised) -> tuple[float, ...]:
        return tuple(-goal.sign * one.values[goal.name] for goal in goals)

    front: list[tuple[float, ...]] = []
    found = []
    for one in sorted(appraised, key=key):  # nothing later dominates what is before it
        own = key(one)
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) for other in front):
            front.append(own)
            found.append(one)
    return found


def none_inside(limits: Sequence[Limit], outside: Sequence[Appraised]) -> NothingScored:
    """The error of a search in which nothing is within the limits: it names the one that fewest satisfy.

    Args:
        limits: of the search.
        outside: all that was found outside, each with the costs known of it.
    """

    def known(limit: Limit) -> list[float]:
        return [one.costs[limit.cost.name] for one in outside if limit.cost.name in one.costs]

    def satisfied(limit: Limit) -> float:
        values = known(limit)
        return sum(limit.excess(value) <= 0 for value in values) / len(values) if values else 1.0

    def nearest(limit: Limit) -> float:
        return min(known(limit), key=limit.excess)

    seen = [limit for limit in limits if known(limit)]
    tightest = min(seen, key=lambda limit: (satisfied(limit), -limit.excess(nearest(limit))))
    values = known(tightest)
    fit = sum(tightest.excess(value) <= 0 for value in values)
    nearby = show_quantity(nearest(tightest), tightest.cost.unit)
    others = [str(limit) for limit in limits if limit is not tightest]
    together = f", and none of these {' and '.join(others)}" if fit and others else ""
    end = "least" if tightest.upper else "most"
    change = "raise" if tightest.upper else "lower"
    return NothingScored(
        f"none of {len(outside):,} architectures is within the limits; the tightest is {tightest}, which {fit:,} of "
        f"{len(values):,} satisfy{together} (the {end} is {nearby}); {change} it"
    )


def none_valued(failed: Sequence[Appraised]) -> NothingScored:
    """The error of a search in which no architecture has all values."""
    first = failed[0].reason if failed else "there are none"
    return NothingScored(
        f"none of {len(failed):,} architectures that no limit excludes has all values ({first}); choose others"
    )
