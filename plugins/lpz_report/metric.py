"""The metric of the trained performance of a benchmark."""

from __future__ import annotations

from pathlib import Path

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.table_files import SUFFIXES
from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import PluginRegistry


def metric_of(name: str, plugins: PluginRegistry, table: TableOptions | None = None) -> tuple[str, bool] | None:
    """The metric of benchmark `name`, with its unit, and whether higher is better.

    None if the benchmark is not available: a report needs only the run. How a table is read says both, and it need not
    be there.
    """
    if table is not None and Path(name).suffix.lower() in SUFFIXES:
        return table.metric, table.larger_is_better
    try:
        benchmark = load_benchmark(name, plugins)
    except LpzError:
        return None
    return benchmark.metric, benchmark.larger_is_better
