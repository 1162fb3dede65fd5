"""Lays a table out in a given width, so that no number and no letter of it is lost.

What is wider than the width is folded between words; then numbers of millions are shortened (1.24M); then columns of
numbers go on below, beside their row's name, and a table of mostly text becomes a paragraph for each row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.table import Table
from rich.text import Text

NARROWEST = 20  # of all widths, and of a column of text that is folded
WORD = re.compile(r"\[[-+\d.,e ]+\]\S*|\S+")  # an interval stays on one line
NUMBER = re.compile(r"[(\[]*[-+]?\d[\d,.]*(?:e[-+]?\d+)?\D{0,4}", re.IGNORECASE)
BREAK = re.compile(r"(?<=[-/_.:,()=\[\]])(?![\d.,)\]])")
LONG = re.compile(r"(-?)(\d{1,3}(?:,\d{3}){2,})")
EDGE, BETWEEN = 1, 3  # characters of lines and spaces of a table, and of each column


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Args:
        name: its header.
        cells: its texts.
        right: whether it holds numbers, which are aligned right.
    """

    name: str
    cells: tuple[str, ...]
    right: bool

    @property
    def natural(self) -> int:
        """The width in which nothing is folded."""
        return max(cell_len(line) for text in (self.name, *self.cells) for line in text.split("\n"))

    @property
    def roomy(self) -> int:
        """The width in which only its name is folded, or, of a column of text, all."""
        cells = max(cell_len(line) for text in ("", *self.cells) for line in text.split("\n"))
        return max(cells, self.least) if self.right else self.least

    @property
    def least(self) -> int:
        """The smallest width that parts no number, and no text more than it need be."""
        least = max([1, *map(_least, self.cells)])
        if not self.right:
            least = max(least, min(self.natural, NARROWEST))
        return min(self.natural, max(least, _least(self.name)))

    def short(self) -> TableColumn:
        """The same, with numbers of millions and more in three digits."""
        return TableColumn(self.name, tuple(map(short, self.cells)), True) if self.right else self


def short(text: str) -> str:
    """A whole number of millions or more in three digits and a letter; any other text as it is.

    Example:
        >>> short("1,235,814,400"), short("999,999,999"), short("112,962")
        ('1.24B', '1.00B', '112,962')
    """
    match = LONG.fullmatch(text)
    if match is None:
        return text
    value = float(match[2].replace(",", "")) / 1e6
    for letter in "MBTQ":
        if value < 999.5 or letter == "Q":
            digits = max(0, 2 - (value >= 9.995) - (value >= 99.95))
            return f"{match[1]}{value:.{digits}f}{letter}"
        value /= 1e3
    raise AssertionError


def wrapped(text: str, width: int) -> list[str]:
    """The lines of `text` in at most `width` cells: parted between words, then at punctuation, a number last."""
    lines = []
    for part in text.split("\n"):
        if cell_len(part) <= width:
            lines.append(part)
            continue
        line = ""
        for word in WORD.findall(part):
            for place, piece in enumerate(_pieces(word, width)):
                joined = f"{line}{'' if place or not line else ' '}{piece}"
                if line and cell_len(joined) > width:
                    lines.append(line)
                    joined = piece
                line = joined
        lines.append(line)
    return lines


def _pieces(word: str, width: int) -> Iterator[str]:
    """The word, or the parts of one that is too long."""
    if cell_len(word) <= width:
        yield word
        return
    for piece in BREAK.split(word):
        yield from chop_cells(piece, width) if cell_len(piece) > width else [piece]


def _least(text: str) -> int:
    """The width of the longest piece that should not be parted."""
    widths = [1]
    for word in WORD.findall(text):
        for piece in [word] if NUMBER.fullmatch(word) or word.startswith("[") else BREAK.split(word):
            size = cell_len(piece)
            widths.append(size if NUMBER.fullmatch(piece) or piece.startswith("[") else min(size, NARROWEST))
    return max(widths)


def laid_out(
    header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int], width: int
) -> list[Table | Text]:
    """What to print for a table, line by line no wider than `width`.

    Args:
        header: the names of the columns.
        rows: the cells.
        numbers: the columns of numbers.
        width: in cells of a terminal; less than 20 is taken as 20.
    """
    width, right, rows = max(width, NARROWEST), set(numbers), [list(row) for row in rows]
    columns = [TableColumn(name, tuple(row[i] for row in rows), i in right) for i, name in enumerate(header)]
    for tried in (columns, [column.short() for column in columns]):
        if (widths := _widths(tried, width)) is not None:
            return [_table(tried, widths)]
    names = _names(columns)
    others = columns[names:]
    if 2 * sum(column.right for column in others) >= len(others) > 0:
        groups = _groups(columns[:names], others, width) or _groups(columns[:1], columns[1:], width)
        if groups is not None:
            return [_table(group, _widths(group, width) or []) for group in groups]
    return [Text(line) for i in range(len(rows)) for line in _paragraph(columns, i, width)]


def _widths(columns: Sequence[TableColumn], width: int) -> list[int] | None:
    """The widths of the columns of a table; None if it is too narrow for them."""
    widths = [column.roomy if _roomy(columns, width) else column.least for column in columns]
    free = width - EDGE - BETWEEN * len(columns) - sum(widths)
    if free < 0:
        return None
    wanting = sorted(range(len(columns)), key=lambda i: columns[i].natural - widths[i])
    for place, i in enumerate(wanting):  # those that want least get all of it
        more = min(columns[i].natural - widths[i], free // (len(wanting) - place))
        widths[i] += more
        free -= more
    return widths


def _names(columns: Sequence[TableColumn]) -> int:
    """How many columns at the left name a row: those of text, after one of numbers at most."""
    first = next((i for i, column in enumerate(columns) if not column.right), 0)
    if first > 1:
        return 1
    return next((i for i in range(first, len(columns)) if columns[i].right), first + 1)


def _groups(names: Sequence[TableColumn], others: Sequence[TableColumn], width: int) -> list[list[TableColumn]] | None:
    """The columns in groups that fit, each with the names; None if one does not fit beside these."""
    groups: list[list[TableColumn]] = []
    for column in others:
        wanted = [*groups[-1], column] if groups else []
        if wanted and _roomy(wanted, width):
            groups[-1].append(column)
        elif _widths(alone := [*names, column], width) is not None:
            groups.append(alone)
        else:
            return None
    return groups


def _roomy(columns: Sequence[TableColumn], width: int) -> bool:
    """Whether no cell of numbers need be folded."""
    return sum(column.roomy for column in columns) + EDGE + BETWEEN * len(columns) <= width


def _table(columns: Sequence[TableColumn], widths: Sequence[int]) -> Table:
    table = Table()
    for column, width in zip(columns, widths, strict=True):
        align = "right" if column.right else "left"
        name = Text("\n".join(wrapped(column.name, width)))
        table.add_column(name, justify=align, width=width, no_wrap=True, overflow="fold")  # type: ignore[arg-type]  # of two words
    for i in range(len(columns[0].cells) if columns else 0):
        table.add_row(*(Text("\n".join(wrapped(c.cells[i], width))) for c, width in zip(columns, widths, strict=True)))
    return table


def _paragraph(columns: Sequence[TableColumn], row: int, width: int) -> Iterator[str]:
    """The lines of a row: its first cell, and below it each other one that is not empty, all with their names."""
    first, *others = columns
    yield from wrapped(f"{first.name} {first.cells[row] or '—'}".lstrip(), width)
    line = ""
    for column in others:
        cell = column.cells[row]
        if not cell:
            continue
        part = f"{column.name}: {cell}" if column.name else cell
        joined = f"{line} · {part}" if line else part
        if line and ("\n" in joined or cell_len(joined) > width - 2):
            yield from _indented(line, width)
            joined = part
        line = joined
    if line:
        yield from _indented(line, width)


def _indented(text: str, width: int) -> Iterator[str]:
    for place, line in enumerate(wrapped(text, width - 4)):
        yield f"{'    ' if place else '  '}{line}"
