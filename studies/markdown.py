"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from lpzero_hf.benchmarks.agreement import Estimate


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns are flush left and the others flush right."""
    rule = "|".join("---" if place < left else "--:" for place in range(len(heads)))
    return "\n".join([row(*heads), f"|{rule}|", *(row(*cells) for cells in rows)])


def signed(value: float) -> str:
    """With sign and three digits."""
    return f"{value:+.3f}"


def plain(value: float) -> str:
    """With three digits."""
    return f"{value:.3f}"


def interval(estimate: Estimate | None, number: Callable[[float], str] = plain) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return "—"
    return f"{number(estimate.value)} {estimate.between(number)}"


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard deviation of several splits or seeds."""
    if not values:
        return "—"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.pstdev(values):.{digits}f}"


def pooled(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The mean over splits, with a 95% interval for what one split gives.

    Its variance is that over splits plus the mean of the splits' own variances, which follow from their bootstrap
    intervals over the held-out architectures (the law of total variance, taken as normal). Splits that hold out
    different architectures differ by that as well, so the interval is a little too wide rather than too narrow.
    """
    good = [estimate for estimate in estimates if estimate is not None]
    if not good:
        return None
    mean = statistics.mean(estimate.value for estimate in good)
    within = statistics.mean(((estimate.high - estimate.low) / 3.92) ** 2 for estimate in good)
    between = statistics.variance([estimate.value for estimate in good]) if len(good) > 1 else 0.0
    half = 1.96 * math.sqrt(between + within)
    return Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half))
