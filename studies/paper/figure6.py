"""Figure 6: evolution against random search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from studies.search.cases import STRATEGY
from studies.search.curves import case_table, curves
from studies.study import Runs, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Figure6(Study):
    """The curves of both, from the searches of the ablations."""

    name = "figure6"
    title = "Figure 6: evolution against random search"
    figures = ("figure6",)

    def show(self, runs: Runs) -> str:
        """What both reach."""
        found = runs["ablations"]
        return (
            "Both evaluate the same number of expressions on the same "
            f"{found['train']} architectures of `{found['benchmark']}`. Median and quartiles are over seeds. Both "
            "spaces were also searched exhaustively, so the optimum (dashed in the figure) is known. The printed "
            "curves of this figure and the next were not available to us as numbers.\n\n" + case_table(found, STRATEGY)
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Fitness so far, for both spaces."""
        return {"figure6": curves("Figure 6: evolution and random search", runs["ablations"], STRATEGY)}
