"""Prints results on stdout: one JSON document, CSV, or tables for people."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what models and plugins print to stderr, so that stdout has only results."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    """Print one JSON document. Scores are finite or null by contract, so it is strict JSON."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a header and rows as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> None:
    """Print a table as wide as the terminal, or as its content (up to 240) where output is no terminal.

    Args:
        title: above the table.
        header: the names of the columns.
        rows: the cells; printed as they are, without markup.
        numbers: the columns to align right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for index, name in enumerate(header):
        right = index in numbers
        table.add_column(Text(name), justify="right" if right else "left", no_wrap=right or index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 240).print(table)
