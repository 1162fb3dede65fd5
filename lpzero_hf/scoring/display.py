"""How results are shown in a notebook: as an HTML table, a data frame and a figure."""

from __future__ import annotations

import html
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lpzero_hf.artifacts.interval_text import is_known
from lpzero_hf.errors import LpzError, printable

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ROWS = 60  # that an HTML table shows
LETTERS = 12  # of a title for each inch of a figure
HEIGHT, LINE = 4.2, 0.17  # inches of a panel at least, and of each name in it
STYLES: dict[str, dict[str, Any]] = {
    "plain": {"linestyle": "", "marker": "o", "markersize": 5, "markeredgewidth": 0},
    "rest": {"linestyle": "", "marker": "o", "markersize": 4, "markeredgewidth": 0, "color": "0.6"},
    "front": {"linestyle": "", "marker": "o", "markersize": 5.5, "markeredgewidth": 0, "color": "tab:red"},
    "steps": {"marker": "o", "markersize": 5, "linewidth": 1.2, "drawstyle": "steps-post", "color": "tab:blue"},
    "winner": {"linestyle": "", "marker": "*", "markersize": 13, "color": "tab:red"},
}


@dataclass(frozen=True)
class Points:
    """Points of one kind in a panel.

    Args:
        label: in the legend.
        x: their places.
        y: likewise.
        style: one of `STYLES`.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "plain"


@dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    Args:
        x: what its horizontal axis shows.
        y: what its vertical axis shows.
        points: drawn in this order.
        names: of the places 0, 1, ... of the vertical axis, from the top; empty where that shows numbers.
        limits: of the horizontal axis, drawn as dashed lines.
        scale: of the horizontal axis.
        whole: whether the horizontal axis has whole numbers with commas.
    """

    x: str
    y: str
    points: Sequence[Points]
    names: Sequence[str] = ()
    limits: Sequence[float] = field(default=())
    scale: Literal["linear", "symlog"] = "linear"
    whole: bool = False


class Estimated(Protocol):
    """An estimate with the ends of its interval."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


class Displayed(ABC):
    """A result that is shown as rows and as a figure."""

    @abstractmethod
    def to_rows(self) -> list[dict[str, Any]]:
        """The rows of its table: plain values by the names of the columns, None where there is no value."""

    @abstractmethod
    def panels(self) -> list[Panel]:
        """The plots of its figure, from the top."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A line above table and figure."""

    @property
    def notes(self) -> list[str]:
        """What the rows do not say: why they may not be comparable, and what is left out. Lines below the table."""
        return []

    def to_dataframe(self) -> pandas.DataFrame:
        """The rows as a data frame of pandas.

        Raises:
            LpzError: pandas is not installed; the message names the extra.
        """
        return data_frame(self.to_rows())

    def plot(self) -> Figure:
        """A figure of matplotlib; a notebook shows it after `%matplotlib inline`, and `savefig` writes it.

        Raises:
            LpzError: matplotlib is not installed (the message names the extra), or there is nothing to draw.
        """
        return drawn(self.panels(), self.title)

    def __str__(self) -> str:
        """The table as plain text, for `print`."""
        return text_table(self.to_rows(), self.title, self.notes)

    def _repr_html_(self) -> str:
        return table(self.to_rows(), self.title, self.notes)


def data_frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Rows as a data frame. Raises `LpzError`, naming the extra to install, if pandas is missing."""
    try:
        import pandas
    except ImportError as error:
        raise LpzError("a data frame needs pandas; install it with `pip install 'lpzero-hf[tables]'`") from error
    return pandas.DataFrame(rows)


def columns(fixed: Mapping[str, Any], named: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """A row of fixed columns and of others, whose names are a user's; one called as a fixed column gets a suffix."""
    return {**fixed, **{f"{name} ({suffix})" if name in fixed else name: value for name, value in named.items()}}


def estimated(name: str, estimate: Estimated | None) -> dict[str, float | None]:
    """The columns of an estimate and of the ends of its interval, which are None where it says nothing."""
    ends: tuple[float | None, ...] = (None, None, None)
    if estimate is not None:
        known = is_known(estimate.low, estimate.high)
        ends = (estimate.value, estimate.low if known else None, estimate.high if known else None)
    return dict(zip((name, f"{name} low", f"{name} high"), ends, strict=True))


def by_name(x: str, names: Sequence[str], measures: Mapping[str, Sequence[float | None]]) -> Panel:
    """A panel with a place for each name, and points for each measure; None has none."""
    points = []
    for label, values in measures.items():
        known = [(value, place) for place, value in enumerate(values) if value is not None]
        points.append(Points(label, [value for value, _ in known], [place for _, place in known]))
    return Panel(x, "", points, names)


def table(rows: Sequence[Mapping[str, Any]], title: str, notes: Sequence[str] = ()) -> str:
    """Rows as an HTML table with notes below; every text is escaped, and none is read as a formula.

    Example:
        >>> "<td>&lt;b&gt;</td>" in table([{"name": "<b>"}], "one")
        True
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in names)}</tr>" for row in rows[:ROWS])
    if len(rows) > ROWS:
        more = f"and {len(rows) - ROWS:,} more rows: to_dataframe() has them all"
        body += f'<tr><td colspan="{len(names)}">{more}</td></tr>'
    lines = "".join(f'<tr><td colspan="{max(1, len(names))}">{html.escape(note)}</td></tr>' for note in notes)
    foot = f"<tfoot>{lines}</tfoot>" if notes else ""
    return (
        f'<table class="tex2jax_ignore mathjax_ignore"><caption>{html.escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>"
    )


def _cell(value: Any) -> str:
    if _is_number(value):
        return f'<td style="text-align: right">{number(value)}</td>'
    text = "" if value is None else {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    return f"<td>{html.escape(str(text))}</td>"


def text_table(rows: Sequence[Mapping[str, Any]], title: str, notes: Sequence[str] = ()) -> str:
    """Rows as plain text in columns, numbers on the right; columns without a value are left out.

    Example:
        >>> print(text_table([{"proxy": "snip", "score": 1.5, "reason": ""}, {"proxy": "params", "score": 9}], "two"))
        two
        proxy   score
        snip      1.5
        params      9
    """
    shown = rows[:ROWS]
    names = [
        name
        for name in dict.fromkeys(n for row in shown for n in row)
        if any(row.get(name) not in (None, "") for row in shown)
    ]
    cells = {name: [_word(row.get(name)) for row in shown] for name in names}
    widths = {name: max(map(len, (_word(name), *cells[name]))) for name in names}
    right = {name for name in names if any(_is_number(row.get(name)) for row in shown)}

    def line(words: Sequence[str]) -> str:
        placed = zip(names, words, strict=True)
        made = (w.rjust(widths[name]) if name in right else w.ljust(widths[name]) for name, w in placed)
        return "  ".join(made).rstrip()

    body = [line([*map(_word, names)]), *(line([cells[name][place] for name in names]) for place in range(len(shown)))]
    more = [f"... and {len(rows) - ROWS} more"] if len(rows) > ROWS else []
    return "\n".join([_word(title), *body, *more, *map(_word, notes)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: Any) -> str:
    if value is None:
        return ""
    return number(value) if _is_number(value) else printable(str(value)).replace("\n", " ")


def number(value: float) -> str:
    """A number for people: whole ones in full with commas, others with six significant digits.

    Example:
        >>> number(1235814), number(2048.0), number(0.123456789)
        ('1,235,814', '2,048', '0.123457')
    """
    if isinstance(value, int) or (value == value // 1 and abs(value) < 2**53):
        return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}"
    return f"{value:.6g}"


def need_matplotlib() -> None:
    """Raise `LpzError`, naming the extra to install, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LpzError("plots need matplotlib; install it with `pip install 'lpzero-hf[plots]'`") from error


def drawn(panels: Sequence[Panel], title: str) -> Figure:
    """Panels below each other as a figure.

    Raises:
        LpzError: matplotlib is missing, or there is nothing to draw.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    if not any(points.x for panel in panels for points in panel.points):
        raise LpzError("there is nothing to draw: nothing has a value")
    heights = [max(HEIGHT, 1.0 + LINE * len(panel.names)) for panel in panels]
    figure = Figure(figsize=(6.4, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for place, panel in enumerate(panels):
        _draw(figure.add_subplot(grid[place]), panel)
    figure.suptitle(textwrap.fill(_plain(title), int(LETTERS * figure.get_figwidth())), fontsize=10)
    return figure


def _draw(axes: Any, panel: Panel) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xscale(panel.scale)
    for points in panel.points:
        if points.x:
            axes.plot(points.x, points.y, label=_plain(points.label), **STYLES[points.style])
    for limit in panel.limits:
        axes.axvline(limit, color="0.4", linewidth=0.9, linestyle="--", zorder=0)
    if panel.whole:
        axes.xaxis.set_major_formatter("{x:,.0f}")
    if panel.names:
        axes.set_yticks(range(len(panel.names)), [_plain(name) for name in panel.names], fontsize=8)
        axes.set_ylim(len(panel.names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(_plain(panel.x))
    axes.set_ylabel(_plain(panel.y))
    if len(panel.points) > 1:
        axes.legend(fontsize=8, edgecolor="none", framealpha=0.9)


def _plain(text: str) -> str:
    """A text that matplotlib neither reads as a formula nor leaves out of a legend."""
    return (" " + text if text.startswith("_") else text).replace("$", r"\$").replace("\n", " ")
