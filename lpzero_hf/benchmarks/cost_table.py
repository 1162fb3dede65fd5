"""Costs measured elsewhere, on a phone for example, read from a table: one row for each architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from lpzero_hf.benchmarks.table_architectures import ArchitectureReader, reader_of, without_space
from lpzero_hf.benchmarks.table_cells import missing
from lpzero_hf.benchmarks.table_files import BadCell, RowTable, read_table
from lpzero_hf.errors import NotApplicable, UsageError
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.scoring.cache import digest
from lpzero_hf.scoring.cache_key import identity
from lpzero_hf.scoring.costs import Cost, CostSubject, installed_costs
from lpzero_hf.scoring.quantities import SUFFIXES
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.listed import ListedSpace
from lpzero_hf.spaces.named import load_space

NAMED_UNIT = re.compile(r".*?[_ (\[]+([A-Za-z]+)[)\]]?")  # latency_ms, memory (MiB)


def costs_from_table(
    source: Any,
    *,
    architecture: str | None = None,
    space: str | Path | SearchSpace | None = None,
    plugins: PluginRegistry | None = None,
) -> dict[str, Cost]:
    """A cost for every column of numbers of a table; of an architecture that is not in it, the cost is not known.

    The architecture of a row is a configuration (JSON with a `model_type`, the path of a `config.json` or of a folder
    with one, a zoo name, a Hub id), or a text id of `space`. Several rows of one architecture are repeats: their median
    counts. A column whose name ends in a unit (`latency_ms`, `memory_MiB`) is in that unit; otherwise it is in the base
    unit of the installed cost of that name (seconds, bytes), or in its own.

    Args:
        source: a path (.csv, .tsv, .jsonl, .ndjson, .json, .parquet), a pandas data frame, or a list of dicts.
        architecture: the column with the architectures; by default the one called config, architecture, model or arch.
        space: of text ids, or its name.
        plugins: where names are looked up; by default everything installed.

    Returns:
        The costs by name, those of the columns.

    Raises:
        UsageError: there is no such column or file, or no column of numbers.
        LpzError: the table, or a row, cannot be read; the message names the line.

    Example:
        >>> rows = [{"model": "gpt2-variant", "latency_ms": 12.5}, {"model": "bert-mini", "latency_ms": 3.0}]
        >>> costs_from_table(rows)["latency_ms"].unit
        'seconds'
    """
    plugins = load_plugins() if plugins is None else plugins
    table = read_table(source)
    home = None if space is None else load_space(space, plugins)
    numbers = [name for name in table.columns if _is_numeric(table, name)]
    reader = reader_of(
        table.columns, [name for name in numbers if name != architecture], architecture=architecture, base=None,
        space=home, folder=table.folder, bad=table.bad, plugins=plugins,
    )  # fmt: skip
    rows = MeasuredRows(table, reader, home)
    rows.check()
    known = {name: claim.item.unit for name, claim in installed_costs(plugins).items()}
    named = [name for name in numbers if name not in reader.columns]
    if not named:
        raise UsageError(f"{table.bad.source} has no column of numbers; give one for each cost, latency_ms for example")
    return {name: _cost(name, rows, known) for name in named}


@dataclass(frozen=True)
class MeasuredRows:
    """The rows of a table of costs, by architecture.

    Args:
        table: the rows.
        reader: of their architectures.
        space: of text ids, or None.
    """

    table: RowTable
    reader: ArchitectureReader
    space: SearchSpace | None

    @cached_property
    def _read(self) -> list[tuple[Architecture, Mapping[str, Any]]]:
        found = []
        for row, place in zip(self.table.rows, self.table.places, strict=True):
            try:
                found.append((self.reader.read(row, place), row))
            except BadCell as error:
                self.table.bad.add(place, error.reason, str(error))
        return found

    @cached_property
    def _by_architecture(self) -> dict[Architecture, list[Mapping[str, Any]]]:
        found: dict[Architecture, list[Mapping[str, Any]]] = {}
        for architecture, row in self._read:
            found.setdefault(architecture, []).append(row)
        return found

    @cached_property
    def _by_config(self) -> dict[str, list[Mapping[str, Any]]]:
        home = self.space or ListedSpace(name="table", summary="", listing=lambda: self.reader.members)
        found: dict[str, list[Mapping[str, Any]]] = {}
        for architecture, rows in self._by_architecture.items():
            found.setdefault(digest(identity(home.config(architecture))), []).extend(rows)
        return found

    def check(self) -> None:
        """Read the architectures of all rows. Raises `LpzError`, naming the line of one that is none."""
        _ = self._read

    def of(self, subject: CostSubject) -> list[Mapping[str, Any]]:
        """The rows of an architecture: by its text id in the space of the table, else by its configuration."""
        if self.space is not None and subject.name:
            with suppress(UsageError):  # a name of another space
                named = self.space.parse(without_space(subject.name, self.space))
                return self._by_architecture.get(named, [])
        return self._by_config.get(digest(identity(subject.config)), [])


def _cost(name: str, rows: MeasuredRows, known: Mapping[str, str]) -> Cost:
    unit, factor = _unit_of(name, known)

    def measure(subject: CostSubject) -> float:
        cells = [row[name] for row in rows.of(subject) if not missing(row.get(name))]
        if not cells:
            raise NotApplicable(f"{rows.table.bad.source} has no '{name}' of this architecture")
        return factor * median(float(cell) for cell in cells)

    summary = f"column of {rows.table.bad.source}"
    return Cost(name=name, unit=unit, summary=summary, measure=measure, stage="shapes")


def _unit_of(name: str, known: Mapping[str, str]) -> tuple[str, float]:
    """The base unit of a column, and what its numbers are times of it."""
    if name in known:
        return known[name], 1.0
    match = NAMED_UNIT.fullmatch(name)
    suffix = "" if match is None else match[1].lower()
    for unit in ("seconds", "bytes", "FLOPs"):
        if len(suffix) > 1 and suffix in SUFFIXES[unit]:
            return unit, SUFFIXES[unit][suffix]
        if suffix == unit.lower():
            return unit, 1.0
    if suffix in ("s", "b"):
        return ("seconds" if suffix == "s" else "bytes"), 1.0
    return known.get(name.rpartition("_")[0], name), 1.0


def _is_numeric(table: RowTable, name: str) -> bool:
    cells = [row.get(name) for row in table.rows if not missing(row.get(name))]
    return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)


def costs_from_files(
    files: list[Path], space: SearchSpace | None, architecture: str | None, plugins: PluginRegistry
) -> dict[str, Cost]:
    """The costs of several tables. Raises `UsageError` if two have a column of one name, or a file is missing."""
    found: dict[str, Cost] = {}
    for file in files:
        for name, cost in costs_from_table(file, architecture=architecture, space=space, plugins=plugins).items():
            if name in found:
                raise UsageError(f"two tables have a column '{name}'; rename one, or leave one out")
            found[name] = cost
    return found
