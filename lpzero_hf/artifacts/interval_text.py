"""Whether the interval of an estimate says anything, and how it is written."""

from __future__ import annotations

from collections.abc import Callable

LEAST, MOST = -1.0, 1.0  # the ends of an interval that says nothing


def is_known(low: float, high: float) -> bool:
    """Whether an interval says how sure a value is: resamples differ, and are of enough architectures."""
    return low != high and (low, high) != (LEAST, MOST)


def between(low: float, high: float, number: Callable[[float], str]) -> str:
    """`"[+0.12, +0.98]"`; `"[no interval]"` where resamples do not differ, or are of too few architectures to tell.

    Args:
        low: the lower end, -1 if nothing is known.
        high: the upper end, 1 if nothing is known.
        number: writes an end.

    Example:
        >>> between(0.125, 0.5, "{:+.2f}".format), between(-1, 1, str), between(1, 1, str)
        ('[+0.12, +0.50]', '[no interval]', '[no interval]')
    """
    return f"[{number(low)}, {number(high)}]" if is_known(low, high) else "[no interval]"
