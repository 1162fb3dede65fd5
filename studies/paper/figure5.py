"""Figure 5: scores against trained performance, published above and ours below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lpzero_hf.benchmarks.agreement import spearman
from studies.paper import table3, table4
from studies.paper.comparing import PrintedPair, column, scores, target
from studies.study import Runs, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS: Mapping[str, tuple[Sequence[PrintedPair], tuple[str, ...]]] = {
    "flexibert": (
        table3.PAIRS,
        ("Activation Distance", "Synaptic Saliency", "Head Confidence", "No. Params.", "LPZero"),
    ),
    "gpt2-wt103": (table4.PAIRS, ("Activation Distance", "SNIP", "Attention Confidence", "No. Params.", "LPZero")),
}
WIDE = 1000  # positive scores whose largest is so many times the smallest are drawn on a logarithmic axis


class Figure5(Study):
    """One figure for each benchmark."""

    name = "figure5"
    title = "Figure 5: scores against trained performance"
    figures = ("figure5-flexibert", "figure5-gpt2-wt103")

    def show(self, runs: Runs) -> str:
        """What is seen."""
        return (
            "Published scores above, ours below, against the trained performance (larger is better). We could not "
            "check which panels the paper shows; these are proxies whose scores were published. The published "
            "FlexiBERT scores lie in bands, because all their models have one hidden size and one width."
        )

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """Two rows of panels for each benchmark."""
        return {f"figure5-{name}": _page(name, runs) for name in PANELS}


def _page(name: str, runs: Runs) -> Figure:
    from matplotlib.figure import Figure

    pairs, labels = PANELS[name]
    truth = dict(zip(runs["grades"][name]["architectures"], target(name, runs), strict=True))
    figure = Figure(figsize=(2.5 * len(labels), 5), layout="constrained")
    figure.suptitle(name, fontsize=11)
    axes = figure.subplots(2, len(labels), squeeze=False)
    for place, label in enumerate(labels):
        pair = next(pair for pair in pairs if pair.label == label)
        _scatter(axes[0][place], f"{label}, published", column(name, pair, runs), truth, "0.4")
        _scatter(axes[1][place], pair.ours, scores(name, pair.ours, runs), truth, "C0")
    return figure


def _scatter(axes: Any, title: str, made: Mapping[str, float | None], truth: Mapping[str, float], colour: str) -> None:
    points = [(value, truth[key]) for key, value in made.items() if value is not None]
    x, y = zip(*points, strict=True)
    axes.scatter(x, y, s=6, alpha=0.5, linewidths=0, color=colour)
    if min(x) > 0 and max(x) > WIDE * min(x):
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=4)
    axes.set_title(f"{title}\nrho {spearman(x, y):+.3f}", fontsize=8)
    axes.tick_params(labelsize=6)
    axes.xaxis.get_offset_text().set_fontsize(6)
