"""Figure 7: with and without pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from studies.search.cases import PRUNING
from studies.search.curves import case_table, curves, rejections
from studies.study import Runs, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Figure7(Study):
    """The curves of both, from the searches of the ablations, and what pruning rejects."""

    name = "figure7"
    title = "Figure 7: with and without pruning"
    figures = ("figure7",)

    def show(self, runs: Runs) -> str:
        """What both reach, and the rejected candidates by reason."""
        found = runs["ablations"]
        return (
            "Pruning rejects a candidate before its evaluation if it is equal to an earlier one, constant or never "
            "valid. Each search evaluates the same number of expressions, pruned or not. In the small space most "
            "candidates are equal to earlier ones, and pruning helps; in the larger one it changes the fitness "
            "little.\n\n" + case_table(found, PRUNING) + "\n\n" + rejections(found, PRUNING)
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Fitness so far, for both spaces."""
        return {"figure7": curves("Figure 7: with and without pruning", runs["ablations"], PRUNING)}
