"""The parts of a page, as plain data: chapters, their parts, tables, figures and drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lpzero_hf.benchmarks.agreement import Agreement, Estimate


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: shown to the reader.
        value: by which a column is sorted; None sorts last.
        kind: text, a number, or code.
    """

    text: str
    value: float | str | None
    kind: Literal["text", "number", "code"] = "text"


def words(text: str) -> Cell:
    """A cell of text."""
    return Cell(text, text.lower())


def code(text: str) -> Cell:
    """A cell of code, for example an expression."""
    return Cell(text, text.lower(), "code")


def number(value: float | None, form: str = ",.0f", text: str | None = None) -> Cell:
    """A cell of a number.

    Args:
        value: None where there is none.
        form: its format.
        text: shown instead of the number.
    """
    if value is None:
        return Cell("—", None, "number")
    return Cell(signed(value, form) if text is None else text, value, "number")


def signed(value: float, form: str = "+.3f") -> str:
    """A number with a true minus sign."""
    return format(value, form).replace("-", "\N{MINUS SIGN}")


def estimates(agreement: Agreement | None) -> list[Cell]:
    """Rho, its interval, tau-b and its interval; an interval is sorted by its lower end."""
    pair = (None, None) if agreement is None else (agreement.spearman, agreement.kendall)
    return [cell for estimate in pair for cell in interval(estimate)]


def matched(agreement: Agreement | None) -> list[Cell]:
    """The agreement at matched size, its interval and the number of pairs."""
    found = None if agreement is None else agreement.matched
    if found is None:
        return [*interval(None), number(None)]
    return [*interval(found.agreement), number(found.pairs)]


def interval(estimate: Estimate | None) -> list[Cell]:
    """A statistic and its interval."""
    if estimate is None:
        return [number(None), number(None)]
    return [number(estimate.value, "+.3f"), number(estimate.low, text=estimate.between(signed))]


@dataclass(frozen=True)
class ReportTable:
    """A table that can be sorted by its columns.

    Args:
        caption: what it shows.
        header: the names of the columns.
        rows: the cells.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def kinds(self) -> list[str]:
        """Of each column."""
        return [self.rows[0][i].kind if self.rows else "text" for i in range(len(self.header))]


@dataclass(frozen=True)
class Figure:
    """An interactive plot.

    Args:
        caption: what it shows, in a sentence or two.
        spec: see `lpz_report.figures`.
    """

    caption: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """An expression drawn as a tree.

    Args:
        svg: the drawing, trusted markup.
        text: the expression.
        note: where it was found, and the expression in words.
    """

    svg: str
    text: str
    note: str


@dataclass(frozen=True)
class Tile:
    """One main number with what it is, and a remark."""

    number: str
    what: str
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a chapter under a heading of its own."""

    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[ReportTable] = ()
    drawings: Sequence[Drawing] = ()
    listing: str = ""


@dataclass(frozen=True)
class Chapter:
    """All about one run.

    Args:
        title: its heading.
        source: where the run lies.
        lead: the summary in words, by paragraph.
        tiles: the main numbers.
        parts: what follows.
        facts: the main numbers as plain data.
        comparison: rows for the table that compares all runs; see `COMPARED`.
    """

    title: str
    source: str
    lead: Sequence[str]
    tiles: Sequence[Tile]
    parts: Sequence[Part]
    facts: dict[str, Any]
    comparison: Sequence[Sequence[Cell]]


COMPARED = ("run", "benchmark", "ranked by", "Spearman's rho", "Kendall's tau-b", "measured on")
