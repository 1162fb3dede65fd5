"""The built-in costs, registered through the same hook as third-party ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from lpzero_hf.scoring.costs import Cost


@hookimpl
def lpz_costs() -> Iterable[Cost]:
    """Every built-in cost, the cheapest to find out first."""
    from lpz_costs import latency, passes, sizes

    return [cost for module in (sizes, passes, latency) for cost in module.COSTS]
