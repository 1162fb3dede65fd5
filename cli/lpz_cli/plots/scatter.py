"""Scatter plots of scores against trained performance, as in the LPZero paper's Figure 5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.files import replacing

if TYPE_CHECKING:
    from lpzero_hf.benchmarks.benchmark import Benchmark
    from lpzero_hf.benchmarks.grade import Grade, Report

COLUMNS = 4
WIDE = 1000  # positive scores are drawn on a logarithmic axis if the largest is more than 1000 times the smallest


def draw(report: Report, benchmark: Benchmark, folder: Path) -> list[Path]:
    """Draw one scatter plot per proxy, and all of them on one page, `all.png`.

    Returns:
        The files written.
    """
    from matplotlib.figure import Figure

    grades = [grade for grade in report.grades if grade.agreement is not None]
    files = []
    rows = -(-len(grades) // COLUMNS)
    page = Figure(figsize=(3.2 * COLUMNS, 2.8 * rows), layout="constrained")
    page.suptitle(f"{report.benchmark}: {len(report.trained)} architectures")
    for index, grade in enumerate(grades):
        _scatter(page.add_subplot(rows, COLUMNS, index + 1), report, benchmark, grade)
        single = Figure(figsize=(5, 4), layout="constrained")
        _scatter(single.add_subplot(), report, benchmark, grade)
        files.append(save(single, folder / f"{grade.proxy}.png"))
    return [save(page, folder / "all.png"), *files]


def _scatter(axes: Any, report: Report, benchmark: Benchmark, grade: Grade) -> None:
    scores = report.scores[grade.proxy]
    points = [(s, e.quality) for s, e in zip(scores, report.trained, strict=True) if s is not None]
    x, y = zip(*points, strict=True)
    axes.scatter(x, y, s=8, alpha=0.6, linewidths=0)
    if min(x) > 0 and max(x) > WIDE * min(x):
        axes.set_xscale("log")
    agreement = grade.agreement
    rho = f"{agreement.spearman.value:+.3f}" if agreement and agreement.spearman else "undefined"
    tau = f"{agreement.kendall.value:+.3f}" if agreement and agreement.kendall else "undefined"
    axes.set_title(f"{grade.proxy}\nrho {rho}, tau {tau}", fontsize=9)
    axes.set_xlabel("score" if grade.orientation == 1 else "score (lower is better)", fontsize=8)
    better = "" if benchmark.larger_is_better else " (lower is better)"
    axes.set_ylabel(f"{benchmark.metric}{better}", fontsize=8)
    if grade.orientation < 0:  # better is to the right and up, so that points rise where rho is positive
        axes.invert_xaxis()
    if not benchmark.larger_is_better:
        axes.invert_yaxis()
    axes.tick_params(labelsize=7)


def save(figure: Any, file: Path) -> Path:
    """Write a figure, completely or not at all. Raises `LpzError` if it cannot be written."""
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=150)
    return file
