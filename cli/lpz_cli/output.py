"""Prints results on standard output, as one JSON document, CSV, or tables for people, and messages on standard error.

All that `lpz` prints passes through here: text of names, files and errors never reaches a terminal as it is, but with
its control characters shown.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from json import dumps  # of now: a plugin may put another one there
from pathlib import Path
from typing import Any, TextIO

from lpz_cli.wording import all_as_options, as_options
from lpzero_hf.errors import UsageError, printable
from lpzero_hf.files import refuse_unwritable
from lpzero_hf.foreign import stdout_kept

LONGEST = 2000  # characters of a message
WIDEST = 240  # characters of a line of a table, where the width of its place is unknown
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # at the start of a cell, a spreadsheet computes or runs it


@contextmanager
def _results() -> Iterator[TextIO]:
    with stdout_kept() as stream:
        yield stream
        stream.flush()


def say(*lines: str) -> None:
    """Print lines of a result for people."""
    with _results() as stream:
        for line in lines:
            stream.write(printable(as_options(line)).replace("\n", r"\n") + "\n")


def tell(line: str) -> None:
    """Print a line about the work, a warning for example, on standard error."""
    text = printable(" ".join(as_options(line).split()))
    sys.stderr.write(f"{text if len(text) <= LONGEST else f'{text[:LONGEST]} ...'}\n")
    sys.stderr.flush()


def refuse_existing(file: Path, option: str) -> None:
    """Raise `LpzError` if a result cannot be written to a file, or there is anything at its place.

    Args:
        file: to be written.
        option: that names it.
    """
    if file.is_dir():
        raise UsageError(f"'{file}' is a folder; name a file with {option}")
    if file.exists():
        raise UsageError(f"'{file}' exists already; choose another {option}, or remove it")
    refuse_unwritable(file)


def tell_error(error: Exception, name: str) -> None:
    """Print the error of one of several things, with its name; its traceback too, where these are wanted."""
    logging.getLogger("lpzero_hf").debug("%s", name, exc_info=error)
    tell(f"error: {error}" if f"'{name}'" in str(error) else f"error: {name}: {error}")


def print_json(document: Any) -> None:
    """Print one JSON document. Scores are finite or null by contract, so it is strict JSON."""
    with _results() as stream:
        stream.write(dumps(all_as_options(document), indent=2, allow_nan=False) + "\n")


def print_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a header and rows as CSV."""
    with _results() as stream:
        stream.write(csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A header and rows as CSV, without control characters.

    A text that a spreadsheet would take for a formula has an apostrophe before it; numbers stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    formula = value.lstrip(" ").startswith(FORMULA) and not _is_number(value)
    return ("'" if formula else "") + printable(as_options(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> None:
    """Print a table as wide as COLUMNS says, or the terminal; where output is no terminal, as its content, up to 240.

    What is too wide is folded or goes on below, see `lpz_cli.tables`; no number is cut.

    Args:
        title: above the table.
        header: the names of the columns.
        rows: the cells; printed without markup.
        numbers: the columns to align right.
    """
    from rich.console import Console
    from rich.text import Text

    from lpz_cli.tables import laid_out, wrapped

    def plain(text: str) -> str:
        return printable(as_options(text)).expandtabs()

    with _results() as stream:
        told = os.environ.get("COLUMNS", "")
        width = int(told) if told.isdecimal() and 0 < int(told) < 10**6 else None
        console = Console(file=stream, width=width or (None if stream.isatty() else WIDEST))
        made = laid_out([*map(plain, header)], [[*map(plain, row)] for row in rows], numbers, console.width)
        for line in [*(Text(line, "italic") for line in wrapped(plain(title), console.width)), *made]:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
