"""Figure 1: rho of proxies on FlexiBERT, printed and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from studies.paper.comparing import graded
from studies.paper.printed import FIGURE1, FLEXIBERT
from studies.paper.table3 import PAIRS
from studies.study import Runs, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Figure1(Study):
    """Bars, with the number of parameters as a line."""

    name = "figure1"
    title = "Figure 1: which proxies beat the number of parameters on FlexiBERT"
    figures = ("figure1",)

    def show(self, runs: Runs) -> str:
        """How many do."""
        bars = _bars(runs)
        base = bars["No. Params."]
        beaten = [label for label, value in bars.items() if value > base and label not in ("No. Params.", "LPZero")]
        above = [label for label, one in FLEXIBERT.items() if one.rho > FLEXIBERT["No. Params."].rho]
        return (
            f"The printed values are from {FIGURE1}. Apart from LPZero, "
            f"{_named([label for label in above if label != 'LPZero'])} is above the number of parameters there, and "
            f"{_named(beaten)} here. All bars are absolute values, as in the paper. Table 3 has the signs; a negative "
            "one means the wrong order."
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Two bars for each proxy."""
        from matplotlib.figure import Figure

        bars = _bars(runs)
        labels = sorted(bars, key=lambda label: FLEXIBERT[label].rho)
        place = np.arange(len(labels))
        figure = Figure(figsize=(7.2, 5.4), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(place + 0.2, [FLEXIBERT[label].rho for label in labels], 0.38, color="0.7", label="printed")
        axes.barh(place - 0.2, [bars[label] for label in labels], 0.38, color="C0", label="ours")
        for value, colour in ((FLEXIBERT["No. Params."].rho, "0.4"), (bars["No. Params."], "C0")):
            axes.axvline(value, color=colour, linestyle=(0, (2, 2)), linewidth=1)
        axes.set_yticks(place, labels, fontsize=8)
        axes.set_xlabel("|rho| with the GLUE score; dashed: the number of parameters", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, edgecolor="none", loc="lower right")
        return {"figure1": figure}


def _bars(runs: Runs) -> dict[str, float]:
    """Our absolute rho for each bar of the printed figure that we have a proxy for."""
    bars = {}
    for pair in PAIRS:
        one = graded("flexibert", pair.ours, runs)
        if pair.label in FLEXIBERT and one is not None and one.spearman is not None:
            bars[pair.label] = abs(one.spearman.value)
    return bars


def _named(labels: list[str]) -> str:
    return ", ".join(labels) if labels else "none"
