"""Benchmarks made from tables: one row for each training of an architecture, with its performance in a column."""

from __future__ import annotations

import gc
import math
import statistics
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lpzero_hf.benchmarks.benchmark import Benchmark, Progress, Trained
from lpzero_hf.benchmarks.table_architectures import ArchitectureReader
from lpzero_hf.benchmarks.table_cells import missing, shown
from lpzero_hf.benchmarks.table_files import BadCell, BadRows, RowTable, listed_counts, read_table
from lpzero_hf.benchmarks.table_roles import WantedColumns, roles_of
from lpzero_hf.benchmarks.trainings import FEWEST, Training, Trainings, facts_of
from lpzero_hf.errors import LpzError, TableWarning
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.listed import ListedMember, ListedSpace
from lpzero_hf.spaces.named import load_space


def benchmark_from_table(
    source: Any,
    metric: str,
    *,
    larger_is_better: bool = False,
    architecture: str | None = None,
    base: Any = None,
    space: str | Path | SearchSpace | None = None,
    name: str | None = None,
    batch_size: int = 16,
    seq_len: int = 128,
    skip_bad_rows: bool = False,
    seed_column: str | None = None,
    key_column: str | None = None,
    extra_columns: str | Sequence[str] = (),
    citation: str = "",
    license: str = "",
    notes: str = "",
    plugins: PluginRegistry | None = None,
) -> Benchmark:
    """A benchmark of the architectures in a table, each row of which is one training.

    The architecture of a row is one of three: a column with a configuration (JSON with a `model_type`, the path of a
    `config.json` or of a folder with one, a zoo name, a Hub id); one column for each field of a configuration that has
    its other fields from `base`; or, with `space`, a column with text ids of that space. Without `architecture`, the
    column is the one called config, architecture, model or arch, in whatever case.

    Several rows of one architecture are trainings with different seeds: its quality is their mean, and `lpz bench show`
    tells their noise. Two rows with the same architecture and seed are an error. All other columns are kept in
    `Trained.extra`. No configuration is built before it is needed.

    Args:
        source: a path (.csv, .tsv, .jsonl, .ndjson, .json, .parquet), a pandas data frame, or a list of dicts.
        metric: the column with the trained performance.
        larger_is_better: whether higher is better for it.
        architecture: the column that holds whole architectures.
        base: a path, a Hub id, a zoo name, plain data, JSON text, or a configuration.
        space: or its name.
        name: of the benchmark; by default that of the file, without its suffix.
        batch_size: sequences of the minibatch that proxies are scored on by default.
        seq_len: tokens of each.
        skip_bad_rows: leave out rows that cannot be used, with a `TableWarning` that counts them, instead of raising.
        seed_column: by default the one called seed, if any; without one, an architecture's rows are seeds in order.
        key_column: names the architectures. Rows are then grouped by it, so that one that appears under two names has
            two entries. By default the configuration names them.
        extra_columns: those that are no fields of the base, though they are called nearly so.
        citation: the source of the data.
        license: of the data.
        notes: for its users.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: a column is missing or ambiguous, an argument does not fit another, or there is no such file.
        LpzError: the table cannot be read, or a row cannot be used; the message names the line or row, and the remedy.

    Example:
        >>> rows = [{"n_embd": 48 * n, "seed": s, "loss": 5 - n + 0.1 * s} for n in (1, 2, 3) for s in (0, 1)]
        >>> benchmark = benchmark_from_table(rows, "loss", base={"model_type": "gpt2", "n_layer": 2, "n_head": 2})
        >>> [(entry.key, round(entry.quality, 2)) for entry in benchmark.trained()]
        [('n_embd=48', 4.05), ('n_embd=96', 3.05), ('n_embd=144', 2.05)]
    """
    path = Path(source) if isinstance(source, str | Path) else None
    benchmark = benchmark_from_rows(
        partial(read_table, source, skip_bad_rows), metric, name=name or ("table" if path is None else path.stem),
        larger_is_better=larger_is_better, architecture=architecture, base=base, space=space, batch_size=batch_size,
        seq_len=seq_len, skip_bad_rows=skip_bad_rows, seed_column=seed_column, key_column=key_column,
        extra_columns=extra_columns, citation=citation, license=license, notes=notes, plugins=plugins,
    )  # fmt: skip
    benchmark.read()  # so that what is wrong is said here
    return benchmark


def benchmark_from_rows(
    rows: Sequence[Mapping[str, Any]] | Callable[[], Sequence[Mapping[str, Any]] | RowTable],
    metric: str,
    *,
    name: str,
    summary: str = "",
    larger_is_better: bool = False,
    architecture: str | None = None,
    base: Any = None,
    space: str | Path | SearchSpace | None = None,
    batch_size: int = 16,
    seq_len: int = 128,
    skip_bad_rows: bool = False,
    seed_column: str | None = None,
    key_column: str | None = None,
    extra_columns: str | Sequence[str] = (),
    unit: str = "",
    citation: str = "",
    license: str = "",
    notes: str = "",
    fetch: Callable[[Progress], Path] | None = None,
    plugins: PluginRegistry | None = None,
) -> Benchmark:
    """A benchmark of rows that other code reads, from files of a format of their own for example.

    Rows are what `benchmark_from_table` takes; a cell that holds an architecture may also be a configuration of
    transformers, or with `space` an `Architecture`. A function is called when the rows are first needed, so that a
    benchmark can be offered before its files are here; what it raises is raised by `Benchmark.trained`.

    Args:
        rows: dicts with a cell for each column, or a function that reads them.
        metric: the column with the trained performance.
        name: what users type.
        summary: one line for people; by default it says how many there are.
        unit: what people call the metric, with its unit; by default the name of the column.
        fetch: downloads the files, see `Benchmark`.

    All others are as for `benchmark_from_table`.

    Raises:
        UsageError: there is no such space.

    Example:
        >>> configs = {f"d{width}": {"model_type": "gpt2", "n_embd": width} for width in (12, 24, 48)}
        >>> rows = [{"name": name, "config": config, "loss": 9 / config["n_embd"]} for name, config in configs.items()]
        >>> benchmark = benchmark_from_rows(rows, "loss", name="mine", key_column="name")
        >>> [entry.key for entry in benchmark.trained()], benchmark.space.size()
        (['d12', 'd24', 'd48'], 3)
    """
    plugins = load_plugins() if plugins is None else plugins
    home = None if space is None else load_space(space, plugins)

    def read() -> RowTable:
        found = rows() if callable(rows) else rows
        return found if isinstance(found, RowTable) else read_table(found, skip_bad_rows)

    extra = (extra_columns,) if isinstance(extra_columns, str) else tuple(extra_columns)
    wanted = WantedColumns(metric, larger_is_better, architecture, base, home, seed_column, key_column, extra)
    reading = TableReading(read, wanted, plugins)
    return Benchmark(
        name=name,
        summary=summary or f"the architectures of a table, by {unit or metric}",
        space=ListedSpace(name=name, summary=summary, listing=lambda: reading.content.members)
        if home is None
        else home,
        metric=unit or metric,
        larger_is_better=larger_is_better,
        read=lambda: reading.content.entries,
        citation=citation,
        license=license,
        batch_size=batch_size,
        seq_len=seq_len,
        fetch=fetch,
        notes=notes,
        facts=lambda: reading.content.facts(),
        skip_failures=skip_bad_rows,
    )


@dataclass(frozen=True)
class TableContent:
    """What a table holds.

    Args:
        entries: the trained architectures.
        members: the architectures by name; empty where a space has them.
        facts: tells more to people, see `Benchmark.facts`.
    """

    entries: list[Trained]
    members: Mapping[str, ListedMember]
    facts: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class TableReading:
    """A table and how it is read; it is read once, when its content is first needed.

    Args:
        read: the rows.
        wanted: of its columns.
        plugins: where names are looked up.
    """

    read: Callable[[], RowTable]
    wanted: WantedColumns
    plugins: PluginRegistry

    @cached_property
    def content(self) -> TableContent:
        """What the table holds. Raises `LpzError`, see `benchmark_from_table`."""
        with _uncollected():
            return self._content()

    def _content(self) -> TableContent:
        table = self.read()
        bad = table.bad
        total = len(table.rows) + sum(bad.counts.values())
        roles = roles_of(table, self.wanted, self.plugins)
        metric, seed, key, reader = roles.metric, roles.seed, roles.key, roles.reader
        kept = [name for name in table.columns if name not in (metric, key, *reader.columns)]
        trainings = _trainings(table, reader, metric, seed, key)
        _check(trainings, metric, len(table.rows), bad)
        entries = [_entry(name, found, kept, bad, self.wanted.space) for name, found in trainings.items()]
        if bad.counts:
            warnings.warn(
                f"{sum(bad.counts.values()):,} of {total:,} rows of {bad.source} are left out: "
                f"{listed_counts(bad.counts)}",
                TableWarning,
                stacklevel=2,
            )
        return TableContent(entries, reader.members, partial(facts_of, table, reader, kept, seed, trainings))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through all rows again and again while they grow."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _trainings(
    table: RowTable, reader: ArchitectureReader, metric: str, seed: str | None, key: str | None
) -> Trainings:
    """The rows that can be used, by architecture, or by the key where there is such a column."""
    found: Trainings = {}
    for row, place in zip(table.rows, table.places, strict=True):
        try:
            quality = _number(row.get(metric), metric)
            architecture = reader.read(row, place)
            group: Hashable = architecture
            if key is not None:
                if missing(row.get(key)):
                    raise BadCell("without a name", f"'{key}' is empty; it names the architecture")
                group = str(row[key])
            others = found.get(group, [])
            training = Training(place, architecture, _seed(row, seed, others), quality, row)
            _refuse_repeated(training, others, seed, key, table.bad)
        except BadCell as error:
            table.bad.add(place, error.reason, str(error))
            continue
        found.setdefault(group, []).append(training)
    return found


def _number(cell: Any, metric: str) -> float:
    if missing(cell):
        what = "is NaN" if isinstance(cell, float) else "is empty"
        raise BadCell(f"with no {metric}", f"'{metric}' {what}; every row needs the performance of a finished training")
    original = cell
    if hasattr(cell, "item"):  # of NumPy
        cell = cell.item()
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        try:
            cell = float(cell) if type(cell).__name__ == "Decimal" else None
        except (ValueError, OverflowError):
            cell = None
        if cell is None:
            raise BadCell(f"with a {metric} that is no number", f"'{metric}' is {shown(original)}, and no number")
    try:
        value = float(cell)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise BadCell(f"with a {metric} that is not finite", f"'{metric}' is {value}, and must be finite")
    return value


def _seed(row: Mapping[str, Any], column: str | None, others: Sequence[Training]) -> Hashable:
    if column is None:
        return len(others)
    cell = row.get(column)
    if missing(cell):
        raise BadCell("without a seed", f"'{column}' is empty; give the seed of the training, or drop the column")
    if not isinstance(cell, Hashable):
        raise BadCell("with no possible seed", f"'{column}' is {shown(cell)}, and no seed")
    return cell


def _refuse_repeated(
    new: Training, others: Sequence[Training], seed: str | None, key: str | None, bad: BadRows
) -> None:
    for other in others:
        if new.architecture != other.architecture:
            raise BadCell("with the name of another", f"'{key}' is that of another architecture, {bad.at(other.place)}")
        if seed is not None and new.seed == other.seed:
            raise BadCell(
                "that repeat another",
                f"it has the architecture and the {seed} ({new.seed}) of {bad.at(other.place)}",
            )
        if seed is None and new.row == other.row:
            raise BadCell(
                "that repeat another", f"it repeats {bad.at(other.place)}, with the same architecture and cells"
            )


def _check(trainings: Trainings, metric: str, rows: int, bad: BadRows) -> None:
    """Refuse a table that ranks nothing."""
    left_out = f" ({listed_counts(bad.counts)} were left out)" if bad.counts else ""
    if len({found[0].architecture for found in trainings.values()}) < FEWEST:
        raise LpzError(
            f"{bad.source} holds {len(trainings)} different architectures in {rows} rows{left_out}; a ranking takes at "
            f"least {FEWEST}"
        )
    qualities = {training.quality for found in trainings.values() for training in found}
    if len(qualities) == 1:
        raise LpzError(f"'{metric}' is {qualities.pop()} in every row of {bad.source}; nothing can be ranked by it")


def _entry(
    name: Hashable, found: Sequence[Training], kept: Sequence[str], bad: BadRows, space: SearchSpace | None
) -> Trained:
    architecture = found[0].architecture
    if isinstance(name, Architecture):
        name = str(architecture.shared[0]) if space is None else space.text(architecture)
    first = found[0].row
    if len(found) == 1:
        extra = {column: first.get(column) for column in kept}
        where = bad.at(found[0].place)
    else:
        extra = {}
        for column in kept:
            cells = [training.row.get(column) for training in found]
            extra[column] = cells[0] if all(cell == cells[0] for cell in cells) else cells
        where = f"{bad.unit}s {', '.join(str(training.place) for training in found)} of {bad.source}"
    quality = found[0].quality if len(found) == 1 else statistics.fmean(training.quality for training in found)
    return Trained(str(name), architecture, quality, extra, where)
