"""The figures of a search under budgets: score against parameters, or one objective against another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpz_cli.plots.scatter import save

if TYPE_CHECKING:
    from lpz_nas import Explored, Found


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


def draw_objectives(explored: Explored, file: Path) -> Path:
    """Draw every architecture within the limits by the first objective against each other one, the front among them.

    With one objective, against the first cost that is known of all, else in the order tried.

    Args:
        explored: the result of a search.
        file: the PNG to write.

    Raises:
        LpzError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    first, others = explored.goals[0].name, [goal.name for goal in explored.goals[1:]]
    costs = [
        name for name in explored.within[0].costs if name != first and all(name in a.costs for a in explored.within)
    ]
    axes_of = others or costs[:1] or ["order tried"]
    figure = Figure(figsize=(6.4, 4.2 * len(axes_of)), layout="constrained")
    front = {one.architecture for one in explored.front}
    for place, name in enumerate(axes_of, 1):
        axes = figure.add_subplot(len(axes_of), 1, place)
        axes.spines[["top", "right"]].set_visible(False)
        points = [
            (one.values.get(name, one.costs.get(name, float(order))), one.values[first], one.architecture in front)
            for order, one in enumerate(explored.within)
        ]
        for chosen, colour, label in ((False, "0.6", "within the limits"), (True, "tab:red", "front")):
            drawn = [(x, y) for x, y, among in points if among is chosen]
            if drawn:
                x, y = zip(*drawn, strict=True)
                axes.scatter(x, y, s=30 if chosen else 16, color=colour, linewidths=0, label=label, zorder=2 + chosen)
        axes.set_xlabel(name)
        axes.set_ylabel(first)
        axes.legend(fontsize=8, edgecolor="none", framealpha=0.9)
    figure.suptitle(str(explored.request["space"]), fontsize=10)
    return save(figure, file)
