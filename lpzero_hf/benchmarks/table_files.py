"""Reads tables: from CSV, TSV, JSON Lines, JSON and Parquet files, data frames, and lists of dicts."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lpzero_hf.errors import LpzError, UsageError, one_line, printable
from lpzero_hf.files import parse_json, read_bytes

LARGEST = 2**30  # bytes of a table
LINES = {".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".jsonlines": "JSON Lines"}
SEPARATED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = (*SEPARATED, *LINES, ".json", *PARQUET)
REMEDY = "correct it, or skip such rows with `skip_bad_rows=True`"
SAVE_AGAIN = "save the table again"


class BadCell(Exception):
    """Raised for a cell that cannot be used.

    Args:
        reason: the kind of fault, under which such rows are counted: "with no metric" for example.
        message: what is wrong with this one.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class BadRows:
    """What to do about rows that cannot be used: stop at the first one, or count them.

    Args:
        source: of the rows, for messages.
        unit: of what is counted from 1 in it: a line, a record, a row.
        skip: whether to count them.

    Attributes:
        counts: of the rows left out, by reason.
    """

    source: str
    unit: str = "row"
    skip: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def at(self, place: int) -> str:
        """The place of a row, for messages."""
        return f"{self.unit} {place} of {self.source}"

    def add(self, place: int, reason: str, message: str) -> None:
        """One bad row.

        Args:
            place: where it is.
            reason: its kind, under which it is counted.
            message: what is wrong with this one.

        Raises:
            LpzError: such rows are not to be skipped.
        """
        if not self.skip:
            raise LpzError(f"{self.at(place)}: {printable(message)}; {REMEDY}")
        self.counts[reason] += 1


@dataclass(frozen=True)
class RowTable:
    """Rows with named cells.

    Args:
        columns: all names, in order.
        rows: each a dict of cells; a missing cell is absent, or None.
        places: of each row: what a person counts in the file.
        bad: where rows that cannot be used are reported.
        folder: that relative paths in cells start from.
    """

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[int]
    bad: BadRows
    folder: Path


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name; a JSON document is one if it is a list."""
    suffix = path.suffix.lower()
    if suffix != ".json":
        return suffix in SUFFIXES
    try:
        with path.open("rb") as file:
            return file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def read_table(source: Any, skip: bool = False) -> RowTable:
    """The rows of a file, of a data frame, or of a list of dicts.

    Args:
        source: a path, a pandas data frame, or a sequence of mappings.
        skip: leave out rows that cannot be read, and count them, instead of raising.

    Raises:
        UsageError: it is none of these, or its format is unknown.
        LpzError: it cannot be read, or holds no rows; the message names the line or row.
    """
    if isinstance(source, str | Path):
        table = _file(Path(source).expanduser(), skip)
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        columns = _columns([str(name) for name in source.columns], "the data frame")
        rows = source.set_axis(list(columns), axis=1).to_dict("records")
        table = RowTable(columns, rows, range(1, len(rows) + 1), BadRows("the data frame", "row", skip), Path())
    elif isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        table = _records(source, BadRows("the list", "row", skip), Path())
    else:
        raise UsageError(f"a table is a path, a data frame or a list of dicts, not a {type(source).__name__}")
    if not table.rows:
        left_out = f" that can be read ({listed_counts(table.bad.counts)})" if table.bad.counts else ""
        raise LpzError(f"{table.bad.source} holds no rows{left_out}; give one row for each trained architecture")
    return table


def listed_counts(counts: Mapping[str, int]) -> str:
    """Counts by reason, for people: "2 with no metric, 1 with another number of cells"."""
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())


def _file(path: Path, skip: bool) -> RowTable:
    suffix, source = path.suffix.lower(), f"'{path}'"
    if path.is_dir():
        raise UsageError(f"{source} is a folder; name the file of the table in it ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise UsageError(f"there is no table {source}; give the path of a file ({', '.join(SUFFIXES)})")
    if suffix not in SUFFIXES:
        raise UsageError(
            f"the format of {source} is unknown; save it as CSV, TSV, JSON Lines, JSON or Parquet, with its suffix "
            f"({', '.join(SUFFIXES)})"
        )
    if suffix in PARQUET:
        return _parquet(path, skip)
    text = _text(path)
    if suffix in SEPARATED:
        return _separated(text, SEPARATED[suffix], BadRows(source, "line", skip), path.parent)
    if suffix in LINES:
        return _json_lines(text, BadRows(source, "line", skip), path.parent)
    records = parse_json(text, source, SAVE_AGAIN, strict=False)
    if not isinstance(records, list):
        raise LpzError(f"{source} holds no list of records, but {_kind(records)}; save one object for each row")
    return _records(records, BadRows(source, "record", skip), path.parent)


def _text(path: Path) -> str:
    content = read_bytes(path, SAVE_AGAIN, LARGEST).removeprefix(b"\xef\xbb\xbf")
    if (place := content.find(0)) >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise LpzError(f"line {line} of '{path}' is no text (it holds a NUL byte); save the table as UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LpzError(
            f"line {line} of '{path}' is not UTF-8 text (byte {content[error.start]:#04x}); save the table as UTF-8"
        ) from error


# CSV -------------------------------------------------------------------------------------------------------


def _separated(text: str, separator: str, bad: BadRows, folder: Path) -> RowTable:
    lines = _split(text, separator, bad)
    try:
        _, header = next(lines)
    except StopIteration:
        raise LpzError(f"{bad.source} is empty; its first line names the columns") from None
    if len(header) == 1 and separator == ",":  # as spreadsheets write it where the comma stands in numbers
        for other in ";\t|":
            if other in header[0]:
                return _separated(text, other, bad, folder)
    columns = _columns(header, f"the header of {bad.source}")
    rows, places = [], []
    for place, cells in lines:
        if len(cells) != len(columns):
            text_of = f"{len(cells)} cell{'s' * (len(cells) != 1)}, but the header names {len(columns)} columns"
            bad.add(place, "with another number of cells", f"{text_of} (a cell that holds commas needs quotes)")
            continue
        rows.append({name: literal(cell) for name, cell in zip(columns, cells, strict=True) if name})
        places.append(place)
    return RowTable(tuple(filter(None, columns)), rows, places, bad, folder)


def _split(text: str, separator: str, bad: BadRows) -> Iterator[tuple[int, list[str]]]:
    """Each line that holds something, with its number: the first one of a row whose quoted cells hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        place = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad.add(place, "with broken quotes", f"its quotes are broken ({error})")
            continue
        if any(cell.strip() for cell in cells):
            yield place, cells


_LITERALS: dict[str, Any] = {"true": True, "false": False} | dict.fromkeys(("", "null", "none", "na", "n/a"))
_NUMERIC = frozenset("0123456789+-.eEinfatyINFATY")


@lru_cache(maxsize=2**17)
def literal(text: str) -> Any:
    """The value that a cell of a text shows: a number, a truth value, None where it is empty, else the text itself."""
    text = text.strip()
    lowered = text.lower()
    if lowered in _LITERALS:
        return _LITERALS[lowered]
    if _NUMERIC.issuperset(text):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


# JSON and Parquet ------------------------------------------------------------------------------------------


def _json_lines(text: str, bad: BadRows, folder: Path) -> RowTable:
    rows: list[Any] = []
    places = []
    for place, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line, "it", "", strict="\\u" in line))
            places.append(place)
        except LpzError as error:
            bad.add(place, "with broken JSON", str(error).removesuffix("; "))
    return _records(rows, bad, folder, places)


def _records(records: Sequence[Any], bad: BadRows, folder: Path, places: Sequence[int] | None = None) -> RowTable:
    columns: dict[str, None] = {}
    rows, kept = [], []
    for place, record in zip(places or range(1, len(records) + 1), records, strict=True):
        if not isinstance(record, Mapping):
            bad.add(place, "that are no objects", f"{_kind(record)} stands there, and no object with a cell per column")
            continue
        rows.append(record)
        kept.append(place)
        columns.update(dict.fromkeys(record))
    return RowTable(tuple(map(str, columns)), rows, kept, bad, folder)


def _parquet(path: Path, skip: bool) -> RowTable:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise LpzError("reading Parquet needs pyarrow; install it with `pip install 'lpzero-hf[tables]'`") from error
    try:
        data = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise LpzError(f"'{path}' is not readable Parquet ({one_line(error)}); {SAVE_AGAIN}") from error
    columns = _columns(data.column_names, f"'{path}'")
    rows = [{name: _without_gaps(cell) for name, cell in row.items()} for row in data.to_pylist()]
    return RowTable(columns, rows, range(1, len(rows) + 1), BadRows(f"'{path}'", "row", skip), path.parent)


def _without_gaps(cell: Any) -> Any:
    """A cell without the entries that Parquet adds to an object because those of other rows have them."""
    if isinstance(cell, dict):
        return {name: _without_gaps(inner) for name, inner in cell.items() if inner is not None}
    return cell


def _columns(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of columns, without spaces around them. Raises `LpzError` if one appears twice."""
    stripped = tuple(name.strip() for name in names)
    for place, name in enumerate(stripped):
        if name and name in stripped[:place]:
            raise LpzError(f"{where} names column '{printable(name)}' twice; rename one")
    return stripped


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"'{printable(str(value))[:40]}'"
