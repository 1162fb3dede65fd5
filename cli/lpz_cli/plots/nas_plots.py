"""The figure of a search under a budget: score against parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpz_cli.plots.scatter import save

if TYPE_CHECKING:
    from lpz_nas import Found


def draw_front(found: Found, file: Path) -> Path:
    """Draw every architecture that was scored, the Pareto front among them, and the budget.

    Args:
        found: the result of a search.
        file: the PNG to write.

    Raises:
        LpzError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    points = [(tried.params, tried.score) for tried in found.trials if tried.score is not None]
    sizes, scores = zip(*points, strict=True)
    axes.scatter(sizes, scores, s=16, color="0.6", linewidths=0, label="scored")
    front = [(tried.params, tried.score) for tried in found.front if tried.score is not None]
    x, y = zip(*front, strict=True)
    axes.plot(x, y, "o-", drawstyle="steps-post", color="tab:blue", markersize=5, linewidth=1.2, label="front")
    axes.plot(x[-1:], y[-1:], "*", color="tab:red", markersize=13, label="winner")
    for bound in ("max_params", "min_params"):
        limit = found.request["budget"][bound]
        if limit is not None:
            axes.axvline(limit, color="0.4", linewidth=0.9, linestyle="--", zorder=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("parameters (dashed: the budget)")
    axes.set_ylabel(found.request["proxy"])
    among = found.request["among"]
    axes.set_title(f"{found.request['space']}{f', among {among}' if among else ''}: score against size", fontsize=10)
    axes.legend(fontsize=8, loc="lower right", edgecolor="none", framealpha=0.9)
    return save(figure, file)
