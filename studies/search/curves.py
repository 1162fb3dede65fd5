"""Searches compared: tables of their largest fitness, and curves of the fitness so far."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.markdown import table
from studies.search.cases import Cases, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Searches = Sequence[Mapping[str, Any]]  # of one case, one for each seed
HEADS = ("space", "case", "fitness: median [quartiles]", "optimum", "gap of the median", "reached", "evaluated")


def searches(found: Mapping[str, Any], cases: Cases) -> dict[str, dict[str, Searches]]:
    """The searches of each case, by space and by name; cases that were not made are left out."""
    made = found["searches"]
    named = {part: {name: made.get(label(case)) for name, case in of.items()} for part, of in cases.items()}
    return {part: {name: runs for name, runs in of.items() if runs} for part, of in named.items()}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def finals(runs: Searches) -> list[float]:
    """The largest fitness of each search."""
    return [run["fitness"] for run in runs]


def bound(optimum: Mapping[str, float], part: str, case: str) -> float | None:
    """The largest fitness that a case can reach, if it is known."""
    keys = (f"{part} {case}", case.rpartition(" = ")[2], part)
    return next((optimum[key] for key in keys if key in optimum), None)


def case_table(found: Mapping[str, Any], cases: Cases) -> str:
    """Median and quartiles of every case as a Markdown table."""
    rows = []
    for part, of in searches(found, cases).items():
        for case, runs in of.items():
            low, middle, high = quartiles(finals(runs))
            best = bound(found["optimum"], part, case)
            compared = ["—"] * 3
            if best is not None:
                reached = sum(value > best - 1e-9 for value in finals(runs))
                compared = [f"{best:.4f}", f"{best - middle:.4f}", f"{reached} of {len(runs)}"]
            evaluated = statistics.median(run["evaluated"] for run in runs)
            fitness = f"{middle:.4f} [{low:.4f}, {high:.4f}]"
            rows.append([part, case, fitness, *compared, f"{evaluated:.0f}"])
    return table(HEADS, rows, left=2)


def rejections(found: Mapping[str, Any], cases: Cases) -> str:
    """Mean counts of rejected candidates by reason as a Markdown table."""
    columns = {f"{part} {case}": runs for part, of in searches(found, cases).items() for case, runs in of.items()}
    rows = []
    for kind, when in (("pruned", "before"), ("rejected", "after")):
        for reason in sorted({reason for runs in columns.values() for run in runs for reason in run[kind]}):
            counts = [statistics.mean(run[kind].get(reason, 0) for run in runs) for runs in columns.values()]
            rows.append([f"{when} evaluation: {reason}", *(f"{count:.1f}" for count in counts)])
    return table(["rejected, mean of a search", *columns], rows)


def curves(title: str, found: Mapping[str, Any], cases: Cases) -> Figure:
    """A row for each space: fitness so far against evaluations, and the final fitness of every seed."""
    from matplotlib.figure import Figure

    made = searches(found, cases)
    figure = Figure(figsize=(8.4, 0.5 + 2.9 * len(made)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    rows = figure.subplots(len(made), 2, squeeze=False, width_ratios=[2, 1])
    for (course, final), (part, of) in zip(rows, made.items(), strict=True):
        _course(course, part, of)
        _finals(final, part, of, found["optimum"])
    return figure


def _course(axes: Any, part: str, of: Mapping[str, Searches]) -> None:
    most, bottom = 0, 1.0
    for number, (case, runs) in enumerate(of.items()):
        x, low, middle, high = band(runs)
        most, bottom = max(most, len(x)), min(bottom, low[len(x) // 20])  # the first steps show nothing
        axes.fill_between(x, low, high, step="post", color=f"C{number}", alpha=0.2, linewidth=0)
        axes.plot(x, middle, drawstyle="steps-post", color=f"C{number}", linewidth=1.4, label=case)
    axes.set_xlim(0, most)
    axes.set_ylim(bottom=bottom - 0.15 * (1 - bottom))
    axes.set_title(part, fontsize=9, loc="left")
    _labelled(axes, "expressions evaluated", "largest |rho| so far")
    axes.legend(fontsize=8, edgecolor="none", framealpha=0.8, loc="lower right")


def _finals(axes: Any, part: str, of: Mapping[str, Searches], optimum: Mapping[str, float]) -> None:
    for number, (case, runs) in enumerate(of.items()):
        values = sorted(finals(runs))
        aside = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(number + aside, values, s=14, color=f"C{number}", alpha=0.6, linewidths=0)
        axes.hlines(quartiles(values)[1], number - 0.3, number + 0.3, color=f"C{number}", linewidth=2)
        best = bound(optimum, part, case)
        if best is not None:
            axes.hlines(best, number - 0.4, number + 0.4, color="0.3", linestyle=(0, (2, 2)), linewidth=1)
    axes.set_xticks(range(len(of)), list(of))
    axes.set_xlim(-0.6, len(of) - 0.4)
    known = any(bound(optimum, part, case) is not None for case in of)
    _labelled(axes, "dashed: the optimum" if known else "", "final |rho| of each seed")


def _labelled(axes: Any, x: str, y: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def band(runs: Searches) -> tuple[np.ndarray, ...]:
    """Evaluations, and the first quartile, the median and the third quartile of the largest fitness so far."""
    x = np.arange(1, max(run["evaluated"] for run in runs) + 1)
    reached = np.zeros((len(runs), len(x)))
    for curve, run in zip(reached, runs, strict=True):
        for at, best in run["steps"]:
            curve[at - 1 :] = best
    return x, *np.quantile(reached, [0.25, 0.5, 0.75], axis=0)
