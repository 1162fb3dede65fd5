"""Whether several expressions together rank better than one."""

from __future__ import annotations

from studies.markdown import interval, table
from studies.search.searched import SEARCHES, TOPS, both
from studies.study import Runs, Study


class Ensembles(Study):
    """The chosen winner and five, and the fittest few with their ranks summed, held out."""

    name = "ensembles"
    title = "One expression, or the ranks of several"

    def show(self, runs: Runs) -> str:
        """A row for each search and benchmark."""
        rows = []
        for study in SEARCHES:
            splits = runs[study.name]["splits"]
            for name in study.plan.benchmarks:
                chosen = [interval(both(splits, kind, "held_out", name)[0]) for kind in ("winner", "ensemble")]
                fittest = [interval(both(splits, "tops", str(count), name)[0]) for count in TOPS]
                rows.append([study.name, name, *chosen, *fittest])
        heads = ["search", "benchmark", "winner", "five", *(f"fittest {count}" for count in TOPS)]
        return (
            "Held-out rho over ten splits. `lpz search` reports `winner` and `five`: `winner` is the candidate nearest "
            "to the mean of the fittest of 1,000 resamples, and `five` are five that together come near that mean "
            "(`lpzero_hf/searching/selection.py`). `fittest n` sums the ranks of the n fittest on the architectures "
            f"searched on.\n\n{table(heads, rows, 2)}"
        )
