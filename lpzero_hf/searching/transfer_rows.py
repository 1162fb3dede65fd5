"""The rows of a transfer: what proxies, and what was chosen without a benchmark, are worth on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lpzero_hf.benchmarks.across import FEWEST, BenchmarkColumn, GradeAcross, grade_across
from lpzero_hf.benchmarks.agreement import Vector
from lpzero_hf.benchmarks.grade import BASELINES, Report
from lpzero_hf.benchmarks.held_out import unseen
from lpzero_hf.errors import LpzError
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.scoring.display import Displayed, Panel, by_name, columns, estimated
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.consensus import Consensus
from lpzero_hf.searching.consensus import consensus as consensus_of

Kind = Literal["baseline", "proxy", "searched", "ceiling"]
Signed = tuple[str, int]  # an expression and its orientation


@dataclass(frozen=True)
class TransferRow:
    """One row of the table.

    Args:
        name: of the proxy, or of the search and what it chose.
        kind: a trivial baseline, a proxy, a rule of search (whose choice for each benchmark was made on the others), or
            the fittest on all benchmarks at once: a bound, not a result.
        scores: by benchmark, of every architecture in order; higher is better, None where there is none.
        grade: on every benchmark, and over all.
        unscored: by benchmark, the number of architectures without a score, by reason.
        found: of a search, by held-out benchmark, the expressions whose scores, or summed ranks, these are.
    """

    name: str
    kind: Kind
    scores: dict[str, list[float | None]]
    grade: GradeAcross
    unscored: dict[str, dict[str, int]]
    found: dict[str, list[Signed]]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            **self.grade.to_json(),
            "unscored": self.unscored,
            "found": {name: [list(member) for member in members] for name, members in self.found.items()},
            "scores": self.scores,
        }


@dataclass(frozen=True)
class TransferResult(Displayed):
    """The result of `transfer`. A notebook shows it as a table.

    Args:
        columns: the benchmarks.
        rows: the best mean agreement at matched size first; those that lack benchmarks after the others.
        settings: by benchmark, of the scores of proxies.
        searches: the searches by name; each was run once for every benchmark, on the others.
        left_out: by held-out benchmark and other one, the number of architectures of the other that are in the held-out
            one as well, so that no search saw them.
        seconds: of the proxies, of the searches, and in total.
        versions: of the libraries that determine the numbers.
        text_sha256: of the text of the proxies' scores; None for random tokens, or a text that no proxy needed and that
            cannot be read.
        threads: of each process on the CPU, which decide the last digits.
    """

    columns: list[BenchmarkColumn]
    rows: list[TransferRow]
    settings: dict[str, Setting]
    searches: dict[str, SearchConfig]
    left_out: dict[str, dict[str, int]]
    seconds: dict[str, float]
    versions: dict[str, str]
    text_sha256: str | None = None
    threads: int = 1

    @property
    def title(self) -> str:
        """Between which benchmarks."""
        return f"transfer to {', '.join(column.name for column in self.columns)}"

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows, each with means over the benchmarks and the agreement at equal size on each of them."""
        return [
            columns(
                {"scored by": row.name, "kind": row.kind}
                | estimated("at equal size", row.grade.matched.mean)
                | {"worst at equal size": row.grade.matched.worst, "worst on": row.grade.matched.worst_on}
                | estimated("rho", row.grade.spearman.mean),
                {name: cell.matched and cell.matched.value for name, cell in row.grade.cells.items()},
                "benchmark",
            )
            for row in self.rows
        ]

    def panels(self) -> list[Panel]:
        """The mean and the worst agreement at equal size of every row."""
        rows = self.to_rows()
        measures = {
            label: [row[name] for row in rows]
            for label, name in (("mean", "at equal size"), ("worst", "worst at equal size"))
        }
        return [by_name("agreement at equal size", [row["scored by"] for row in rows], measures)]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data for JSON."""
        sizes = self.columns[0].sizes
        return {
            "matched": {"match": sizes.match, "within": sizes.within},
            "benchmarks": {c.name: c.to_json() | {"setting": self.settings[c.name].to_json()} for c in self.columns},
            "searches": {name: config.to_json() for name, config in self.searches.items()},
            "left_out": self.left_out,
            "rows": [row.to_json() for row in self.rows],
            "seconds": self.seconds,
            "versions": self.versions,
            "text_sha256": self.text_sha256,
            "threads": self.threads,
        }


def vector(scores: Sequence[float | None]) -> Vector:
    """[n], NaN for None."""
    return np.array([math.nan if value is None else value for value in scores], np.float64)


def values(scores: Vector) -> list[float | None]:
    """The reverse of `vector`."""
    return [value if math.isfinite(value) else None for value in scores.tolist()]


def row_of(
    name: str, kind: Kind, columns: Sequence[BenchmarkColumn], scores: dict[str, list[float | None]],
    unscored: dict[str, dict[str, int]] | None = None, found: dict[str, list[Signed]] | None = None,
) -> TransferRow:  # fmt: skip
    """A row with its grade; see `TransferRow`."""
    return TransferRow(name, kind, scores, grade_across(columns, scores), unscored or {}, found or {})


def rows_of(reports: Mapping[str, Report], columns: Sequence[BenchmarkColumn]) -> list[TransferRow]:
    """A row for each proxy."""
    grades = {name: {one.proxy: one for one in report.grades} for name, report in reports.items()}
    rows = []
    for proxy in next(iter(reports.values())).scores:
        scores = {
            name: [None if value is None else value * grades[name][proxy].orientation for value in report.scores[proxy]]
            for name, report in reports.items()
        }
        unscored = {name: of[proxy].unscored for name, of in grades.items() if of[proxy].unscored}
        rows.append(row_of(proxy, "baseline" if proxy in BASELINES else "proxy", columns, scores, unscored))
    return rows


def consensus_rows(
    proxies: Sequence[Proxy],
    scores: Mapping[str, Mapping[str, Vector]],
    columns: Sequence[BenchmarkColumn],
    marks: Mapping[str, Sequence[Set[str]]],
) -> list[TransferRow]:
    """The consensus of proxies, chosen for each benchmark on the others; and on all at once, a bound.

    Args:
        proxies: the candidates; for a benchmark those that score all of its architectures.
        scores: by benchmark and name of a proxy, [n], as the proxy gives them; NaN where it gives none.
        columns: the benchmarks.
        marks: by benchmark, of every architecture, see `lpzero_hf.benchmarks.held_out`.
    """

    def chosen(held: str | None) -> Consensus | str:
        """The consensus without one benchmark, or why there is none."""
        known_marks = set() if held is None else {mark for some in marks[held] for mark in some}
        left = {name: unseen(marks[name], known_marks) for name in scores if name != held}
        rows = {name: some for name, some in left.items() if len(some) >= FEWEST}
        truths = {column.name: column.part(rows[column.name]) for column in columns if column.name in rows}
        known = {name: {proxy: values[rows[name]] for proxy, values in scores[name].items()} for name in truths}
        able = [p for p in proxies if held is None or bool((scores[held][p.name] > 0).all())]
        try:
            return consensus_of(able, known, truths) if truths else f"no other benchmark has {FEWEST} others"
        except LpzError as error:
            return str(error)

    def row(name: str, kind: Kind, made: Mapping[str, Consensus | str]) -> TransferRow:
        found = {held: one for held, one in made.items() if not isinstance(one, str)}
        failed = {held: {f"failed: {why}": len(marks[held])} for held, why in made.items() if isinstance(why, str)}
        scored = {held: values(one.scores(proxies, scores[held])) for held, one in found.items()}
        return row_of(name, kind, columns, scored, failed, {held: [(one.text, 1)] for held, one in found.items()})

    everywhere = chosen(None)
    return [
        row("consensus", "searched", {held: chosen(held) for held in scores}),
        row("consensus: on all", "ceiling", dict.fromkeys(scores, everywhere)),
    ]
