"""Table 5: the number of unary operations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from studies.markdown import table
from studies.search.cases import UNARY
from studies.search.curves import bound, curves, finals, quartiles, searches
from studies.study import Runs, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table5(Study):
    """Both quantities that the paper reports, from the searches of the ablations."""

    name = "table5"
    title = "Table 5: the number of unary operations"
    figures = ("table5",)

    def show(self, runs: Runs) -> str:
        """The largest rho and the share of good candidates."""
        found = runs["ablations"]
        rows = []
        for part, of in searches(found, UNARY).items():
            for case, made in of.items():
                best = bound(found["optimum"], part, case)
                low, middle, high = quartiles(finals(made))
                good = statistics.mean(run["good"] / run["evaluated"] for run in made)
                rows.append(
                    [
                        case,
                        f"{max(finals(made)):.4f}",
                        f"{middle:.4f} [{low:.4f}, {high:.4f}]",
                        "—" if best is None else f"{best:.4f}",
                        f"{100 * good:.1f}%",
                        str(len(made)),
                    ]
                )
        heads = (
            "unary operations",
            "largest rho",
            "median [quartiles] of seeds",
            "optimum",
            "rho above 0.6",
            "seeds",
        )
        return (
            "For 2, 3, 4 and 5 unary operations the paper reports the largest Spearman's rho and the share of "
            "candidates with a rho above 0.6, each of one run (the authors' code, `lpzero/runner/plot_ablation.py`). "
            "The printed values were not available to us. Ours are absolute values of rho, over all candidates that "
            "were evaluated.\n\n" + table(heads, rows) + "\n\n" + _longer(rows)
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Fitness so far."""
        return {"table5": curves("Table 5: unary operations", runs["ablations"], UNARY)}


def _longer(rows: list[list[str]]) -> str:
    if any(row[0].startswith("5") for row in rows):
        return "Five were searched by passes over the models, because their branch tables do not fit in memory."
    return (
        "Five, (3,2), are left out: the branch tables would take 0.5 GB for each model, which is too much. By passes "
        "over the models, a search of one seed would take about 28 CPU-minutes (20 of its 1080 evaluations took 31 s)."
    )
