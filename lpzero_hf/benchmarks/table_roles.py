"""Which columns of a table are what; everything that it lacks is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lpzero_hf.benchmarks.table_architectures import ArchitectureReader, reader_of
from lpzero_hf.benchmarks.table_cells import listing, near_column
from lpzero_hf.benchmarks.table_files import RowTable, read_table
from lpzero_hf.benchmarks.table_options import usual_direction
from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.spaces.base import SearchSpace
from lpzero_hf.spaces.config_keys import nearest_key
from lpzero_hf.spaces.named import load_space


@dataclass(frozen=True)
class WantedColumns:
    """What is asked of the columns of a table; see `benchmark_from_table`.

    Args:
        metric: a column; None where no one has said which, which is an error.
        larger_is_better: likewise.
        architecture: a column; None where its name says so.
        base: of columns that are fields, or None.
        space: of text ids, or None.
        seed_column: or None for one called seed, if any.
        key_column: or None.
        extra_columns: those that are no fields.
    """

    metric: str | None
    larger_is_better: bool | None
    architecture: str | None = None
    base: Any = None
    space: SearchSpace | None = None
    seed_column: str | None = None
    key_column: str | None = None
    extra_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Roles:
    """The columns of a table.

    Args:
        metric: of the trained performance.
        seed: of each training, or None.
        key: that names the architectures, or None.
        reader: of the architectures.
    """

    metric: str
    seed: str | None
    key: str | None
    reader: ArchitectureReader


def roles_of(table: RowTable, wanted: WantedColumns, plugins: PluginRegistry) -> Roles:
    """The columns of a table that have a role.

    Args:
        table: as read.
        wanted: of it.
        plugins: where names are looked up.

    Raises:
        UsageError: something is missing or ambiguous; all of it is told in one message, with the columns.
        LpzError: the base cannot be read.
    """
    columns, source = table.columns, table.bad.source
    seed = wanted.seed_column or next((name for name in columns if name.lower() == "seed"), None)
    named = [one for one in (wanted.metric, seed, wanted.key_column, *wanted.extra_columns) if one is not None]
    lacks = _unsaid(wanted, columns)
    absent = [name for name in named if name not in columns]
    lacks += [f"there is no column '{name}'{near_column(name, columns)}" for name in absent]
    reader = None
    try:
        reader = reader_of(
            columns, [name for name in named if name in columns], architecture=wanted.architecture, base=wanted.base,
            space=wanted.space, folder=table.folder, bad=table.bad, plugins=plugins,
        )  # fmt: skip
    except UsageError as error:
        told = f"{error}{_instead(wanted.space, columns)}"
        if not lacks:
            raise UsageError(told) from error
        lacks.append(told)
    if lacks or reader is None or wanted.metric is None:
        raise UsageError(_told(lacks, absent, source, columns))
    return Roles(wanted.metric, seed, wanted.key_column, reader)


def refuse_unsaid(
    file: Path,
    metric: str | None,
    larger_is_better: bool | None,
    *,
    architecture: str | None = None,
    base: str | None = None,
    space: str | None = None,
    seed_column: str | None = None,
    extra_columns: Sequence[str] = (),
    plugins: PluginRegistry,
) -> NoReturn:
    """Refuse a table of which the metric, or its better end, has not been said.

    The arguments are those of `WantedColumns`, with names instead of objects.

    Raises:
        UsageError: always; it tells all else that the table lacks too.
        LpzError: the table or the base cannot be read.
    """
    table, home = read_table(file, skip=True), None if space is None else load_space(space, plugins)
    wanted = WantedColumns(
        metric, larger_is_better, architecture, base, home, seed_column, extra_columns=tuple(extra_columns)
    )  # fmt: skip
    roles_of(table, wanted, plugins)
    raise AssertionError("nothing was left unsaid")


def _unsaid(wanted: WantedColumns, columns: Sequence[str]) -> list[str]:
    """What no one has said of the metric."""
    lacks = []
    known = [name for name in columns if usual_direction(name) is not None] if wanted.metric is None else []
    if wanted.metric is None:
        guess = f", by its name {listing(known, 3)}" if known else ""
        lacks.append(f"name the column of its trained performance with `metric=`{guess}")
    if wanted.larger_is_better is None and not known:
        what = "end of it" if wanted.metric is None else f"'{wanted.metric}'"
        lacks.append(f"say which {what} is better: `larger_is_better=False` or `larger_is_better=True`")
    return lacks


def _instead(space: SearchSpace | None, columns: Sequence[str]) -> str:
    """What to do where a table has no ids of a space, but a column for each of its choices."""
    if space is None:
        return ""
    choices = frozenset(str(row["name"]) for row in space.described())
    held = {name: choice for name in columns if (choice := name if name in choices else nearest_key(name, choices))}
    if not held:
        return ""
    shown = [name if name == choice else f"{name} (as {choice})" for name, choice in held.items()]
    return (
        f"; {listing(shown)} seem to be choices of space '{space.name}': leave out `space=`, and give its base with "
        "`base=MODEL`"
    )


def _told(lacks: Sequence[str], absent: Sequence[str], source: str, columns: Sequence[str]) -> str:
    has = f" (it has {listing(columns)})" if columns else ""
    if len(lacks) > 1:
        return f"{source} needs {len(lacks)} things{has}: " + "; ".join(
            f"({number}) {one}" for number, one in enumerate(lacks, 1)
        )
    if absent:
        return f"{source} has no column '{absent[0]}'{near_column(absent[0], columns)}{has}"
    return f"{source} is a table{has}; {lacks[0]}"
