"""The trainings in a table, and what is said of them: the other columns, and how far seeds differ."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpzero_hf.benchmarks.benchmark import noise_of
from lpzero_hf.benchmarks.table_architectures import ArchitectureReader
from lpzero_hf.benchmarks.table_cells import missing
from lpzero_hf.benchmarks.table_files import RowTable
from lpzero_hf.spaces.base import Architecture

FEWEST = 3  # architectures that have a ranking
SEEDS = 50  # whose rankings are compared in pairs


@dataclass(frozen=True)
class Training:
    """One row of a table: an architecture, trained once.

    Args:
        place: of the row.
        architecture: of its space.
        seed: of the training; without a column for it, the number of the row among those of its architecture.
        quality: the trained performance.
        row: all cells.
    """

    place: int
    architecture: Architecture
    seed: Hashable
    quality: float
    row: Mapping[str, Any]


Trainings = dict[Hashable, list[Training]]  # by architecture, or by the key that names it


def facts_of(
    table: RowTable, reader: ArchitectureReader, kept: Sequence[str], seed: str | None, trainings: Trainings
) -> dict[str, Any]:
    """What `describe` says of a table: where it is from, its further columns, and the noise between seeds."""
    facts: dict[str, Any] = {
        "table": table.bad.source.strip("'"),
        "rows": len(table.rows),
        "architectures_from": ", ".join(reader.columns),
        "columns": {column: _spread(column, table.rows) for column in kept} or None,
        "rows_left_out": dict(table.bad.counts) or None,
    }
    several = {str(name): found for name, found in trainings.items() if len(found) > 1}
    if several:
        between = None if seed is None else _between_seeds(several)
        variances = [statistics.variance(training.quality for training in found) for found in several.values()]
        facts["noise"] = between or {
            "architectures_with_several_seeds": len(several),
            "standard_deviation_of_a_seed": math.sqrt(statistics.fmean(variances)),
        }
    return facts


def _between_seeds(several: Mapping[str, Sequence[Training]]) -> dict[str, Any] | None:
    """How far trainings with other seeds differ, where the seeds are the same ones; None where few are."""
    seeds: dict[Hashable, dict[str, float]] = {}
    for name, found in several.items():
        for training in found:
            seeds.setdefault(training.seed, {})[name] = training.quality
    seeds = {seed: qualities for seed, qualities in seeds.items() if len(qualities) >= FEWEST}
    return noise_of(seeds) if len(seeds) <= SEEDS else None


def _spread(column: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The values of a column that is kept, for people."""
    cells = [row[column] for row in rows if not missing(row.get(column))]
    if cells and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells):
        low, high = min(cells), max(cells)
        ends = [f"{end:,}" if isinstance(end, int) else f"{end:.6g}" for end in dict.fromkeys((low, high))]
        shown_as = " to ".join(ends)
    else:
        shown_as = ", ".join(f"{value} ({n})" for value, n in Counter(map(str, cells)).most_common(3))
        shown_as = shown_as if len(shown_as) <= 60 else f"{len(set(map(str, cells)))} values"
    empty = len(rows) - len(cells)
    return shown_as + f", {empty} empty" * (empty > 0)
