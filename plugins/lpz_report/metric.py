"""What the trained performance of a benchmark is."""

from __future__ import annotations

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import PluginRegistry


def metric_of(name: str, plugins: PluginRegistry) -> tuple[str, bool] | None:
    """What the trained performance of benchmark `name` is, with its unit, and whether more of it is better.

    None if the benchmark is not here: a report can be made where only the run is.
    """
    try:
        benchmark = load_benchmark(name, plugins)
    except LpzError:
        return None
    return benchmark.metric, benchmark.larger_is_better
