"""Scores by several seeds: their mean and deviation, and whether two models differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot
from statistics import fmean, stdev
from typing import Any

BEYOND = 2.0  # deviations of a difference, which another pair of draws passes in about one case of forty


@dataclass(frozen=True)
class Spread:
    """The scores of one model by one proxy in several draws.

    Args:
        mean: of the scores.
        sd: their standard deviation, with n - 1.
        values: of each seed.
    """

    mean: float
    sd: float
    values: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def spread_of(values: Sequence[float | None]) -> Spread | None:
    """Mean and deviation; None where a draw has no score, or there is but one.

    Example:
        >>> spread_of([1.0, 2.0, 3.0])
        Spread(mean=2.0, sd=1.0, values=(1.0, 2.0, 3.0))
    """
    known = tuple(value for value in values if value is not None)
    if len(known) < len(values) or len(known) < 2:
        return None
    return Spread(fmean(known), stdev(known), known)


def beyond_seeds(one: Spread, other: Spread) -> bool:
    """Whether the means differ by more than two deviations of the difference between two single draws.

    Example:
        >>> beyond_seeds(Spread(1.0, 0.1, ()), Spread(1.2, 0.1, ()))
        False
    """
    return abs(one.mean - other.mean) > BEYOND * hypot(one.sd, other.sd)
