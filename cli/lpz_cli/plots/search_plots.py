"""Figures of a search: its progress, fitness against complexity, and how the winners rank held-out architectures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpz_cli.plots.scatter import save
from lpzero_hf.searching.run_folder import read_history

if TYPE_CHECKING:
    from lpzero_hf.benchmarks.agreement import Estimate
    from lpzero_hf.searching.config import SearchConfig
    from lpzero_hf.searching.result import SearchResult

NAMED = 10  # more splits are drawn in one colour, without a legend
OURS, BASELINE = "tab:blue", "0.45"
MEASURES = {
    "spearman": "|Spearman's rho|",
    "kendall": "|Kendall's tau|",
    "matched": "|agreement at matched size|",
    "mixed": "|mean of rho and agreement at matched size|",
}


def draw_search(folder: Path, result: SearchResult) -> list[Path]:
    """Draw the figures of a search in `folder`/plots.

    `progress.png` (as Figure 6 of the LPZero paper), `pareto.png`, and for each benchmark with architectures that the
    first split held out, `held_out_<benchmark>.png`.

    Args:
        folder: of the search.
        result: of the search.

    Returns:
        The files written.

    Raises:
        LpzError: a history cannot be read, or a file not written.
    """
    plots = folder / "plots"
    files = [
        save(_progress(read_history(folder)[: result.config.splits], result.config), plots / "progress.png"),
        save(_pareto(result), plots / "pareto.png"),
    ]
    for name in result.config.benchmarks:
        rows = _held_out(result, name)
        if rows:
            file = re.sub(r"[^\w-]+", "_", name).strip("_")[-80:]
            n = result.splits[0].winner.held_out[name].n
            title = f"{name}: {n} architectures held out" + (", split 0" if result.config.splits > 1 else "")
            files.append(save(_intervals(rows, title), plots / f"held_out_{file}.png"))
    return files


def _progress(histories: list[list[dict[str, Any]]], config: SearchConfig) -> Any:
    """Fitness so far against iteration, a line per split; a dot for each expression, if it is one of few."""
    figure, axes = _page(6.4, 4.2)
    for number, history in enumerate(histories):
        colour = _colour(number, len(histories))
        steps = [line["iteration"] + 1 for line in history]
        axes.plot(
            steps, [line["best"] for line in history], drawstyle="steps-post",
            color=colour, linewidth=1.3, label=f"split {number}", zorder=3,
        )  # fmt: skip
        valued = [line for line in history if line["fitness"] is not None]
        if config.strategy != "exhaustive":
            axes.scatter(
                [line["iteration"] + 1 for line in valued], [line["fitness"] for line in valued],
                s=6, alpha=0.4 / len(histories) ** 0.5, linewidths=0, color=colour, zorder=2,
            )  # fmt: skip
    axes.set_xlim(0, max(len(history) for history in histories))
    axes.set_xlabel("grids of expressions" if config.strategy == "exhaustive" else "iteration")
    axes.set_ylabel(_fitness(config))
    axes.set_title(
        f"{' and '.join(config.benchmarks)}: highest fitness so far, {config.strategy}", fontsize=10, wrap=True
    )
    _legend(axes, len(histories))
    return figure


def _pareto(result: SearchResult) -> Any:
    """The fittest expression of each complexity that no simpler one beats, a line per split, side by side."""
    figure, axes = _page(6.4, 4.2)
    count = len(result.splits)
    fronts = [[(c.expression.complexity, c.fitness) for c in split.pareto] for split in result.splits]
    end = max(front[-1][0] for front in fronts) + 0.5
    for number, front in enumerate(fronts):
        aside = 0.3 * (number - (count - 1) / 2) / count  # so that no split hides another
        x, y = [place + aside for place, _ in front], [fitness for _, fitness in front]
        colour = _colour(number, count)
        axes.plot([*x, end], [*y, y[-1]], drawstyle="steps-post", color=colour, linewidth=1, alpha=0.5)
        axes.plot(x, y, "o", color=colour, markersize=5, label=f"split {number}")
    axes.set_xlim(min(front[0][0] for front in fronts) - 0.5, end)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("complexity")
    axes.set_ylabel(_fitness(result.config))
    axes.set_title(f"{' and '.join(result.config.benchmarks)}: fitness against complexity", fontsize=10, wrap=True)
    _legend(axes, count)
    return figure


def _held_out(result: SearchResult, benchmark: str) -> dict[str, Estimate]:
    """Spearman's rho on the held-out architectures of the first split, by the name of what ranks them."""
    split = result.splits[0]
    agreements = {
        "winner": split.winner.held_out.get(benchmark),
        "ensemble": split.ensemble.held_out.get(benchmark),
        **split.baselines.get(benchmark, {}),
    }
    return {what: found.spearman for what, found in agreements.items() if found is not None and found.spearman}


def _intervals(rows: dict[str, Estimate], title: str) -> Any:
    """A dot and a 95% interval for each row, the first at the top."""
    figure, axes = _page(6.4, 1.2 + 0.36 * len(rows))
    for place, (what, rho) in enumerate(rows.items()):
        ours = what in ("winner", "ensemble")
        if rho.known:
            axes.plot([rho.low, rho.high], [place, place], color=OURS if ours else BASELINE, linewidth=1.6)
        axes.plot(rho.value, place, "o", color=OURS if ours else BASELINE, markersize=6)
        text = f"{rho.value:+.3f}".replace("-", "\N{MINUS SIGN}")
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("Spearman's rho, 95% interval")
    axes.set_title(title, fontsize=10, wrap=True)
    return figure


def _page(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(number: int, splits: int) -> str:
    return f"C{number}" if splits <= NAMED else "C0"


def _legend(axes: Any, splits: int) -> None:
    if 1 < splits <= NAMED:
        axes.legend(fontsize=8, loc="lower right", edgecolor="none", framealpha=0.9)


def _fitness(config: SearchConfig) -> str:
    several = f", {config.combine} of {len(config.benchmarks)} benchmarks" if len(config.benchmarks) > 1 else ""
    count = len(config.several)
    under = f", {config.over_settings} of {count} settings" if count else ""
    return f"fitness: {MEASURES[config.fitness]}{under}{several}"
