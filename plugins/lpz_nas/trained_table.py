"""A benchmark as a table of named values, for tools that evaluate proposals by looking them up."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpz_nas.proposals import offered, offers, picker
from lpzero_hf.benchmarks.benchmark import Benchmark, load_benchmark
from lpzero_hf.errors import UsageError
from lpzero_hf.scoring.display import data_frame
from lpzero_hf.spaces.base import Architecture, Value

if TYPE_CHECKING:
    import pandas


class TrainedTable:
    """The trained architectures of a benchmark by the names of its space's parameters.

    One that was trained several times appears once, with the mean. Any other architecture has the performance of the
    nearest trained one, so that a search over the whole space can be tried without training: distances are summed over
    parameters, each 0 to 1: for numbers their difference as a share of the parameter's range, for words 0 or 1, and 1
    for a parameter that only one of the two has.

    Args:
        benchmark: a `Benchmark`, or an argument of `load_benchmark`.

    Raises:
        LpzError: there is none of that name, it cannot be read, or its metric is called as a parameter of its space.

    Example:
        >>> table = TrainedTable("tiny-gpt2")
        >>> len(table.trained), table.benchmark.metric
        (128, 'validation loss (nats per token)')
    """

    def __init__(self, benchmark: Benchmark | str | Path) -> None:
        self.benchmark = benchmark if isinstance(benchmark, Benchmark) else load_benchmark(benchmark)
        self.space = self.benchmark.space
        self.offers = offers(self.space)
        if (metric := self.benchmark.metric) in self.offers:
            raise UsageError(f"'{metric}' is both the metric of '{self.benchmark.name}' and a parameter; rename one")
        runs: dict[Architecture, list[float]] = {}
        for entry in self.benchmark.trained():
            runs.setdefault(entry.architecture, []).append(entry.quality)
        self.trained = {architecture: statistics.fmean(found) for architecture, found in runs.items()}
        self._values = {architecture: self.space.named_values(architecture) for architecture in self.trained}
        self._spans = {name: _span(values) for name, values in self.space.parameters().items()}

    @property
    def mode(self) -> str:
        """The word "max" where higher is better, else "min"."""
        return "max" if self.benchmark.larger_is_better else "min"

    def frame(self) -> pandas.DataFrame:
        """A row for every trained architecture: a column for each parameter, one called as the metric. What an
        architecture does not have, the layers beyond its last one, has the first value of its parameter.

        Raises:
            LpzError: pandas is not installed.
        """
        parameters, rows = self.space.parameters(), []
        for architecture, values in self._values.items():
            places = {name: known.index(values[name]) if name in values else 0 for name, known in parameters.items()}
            row = {name: offered(parameters[name])[place] for name, place in places.items()}
            rows.append(row | {self.benchmark.metric: self.trained[architecture]})
        return data_frame(rows)

    def nearest(self, values: Mapping[str, Any]) -> Architecture:
        """The trained architecture nearest to a proposal; of equally near ones the first.

        Args:
            values: by the names of `offers`, from its lists; what the architecture does not have is ignored.

        Raises:
            UsageError: a value is missing or none of its list.
        """
        proposed = self.space.assemble(picker(values))
        if proposed in self.trained:
            return proposed
        wanted = self.space.named_values(proposed)
        return min(self.trained, key=lambda one: self._distance(wanted, self._values[one]))

    def performance(self, values: Mapping[str, Any]) -> float:
        """The trained performance of the nearest architecture, in the unit of the benchmark's metric."""
        return self.trained[self.nearest(values)]

    def _distance(self, one: Mapping[str, Value], other: Mapping[str, Value]) -> float:
        total = float(len(one.keys() ^ other.keys()))
        for name in one.keys() & other.keys():
            a, b, span = one[name], other[name], self._spans[name]
            total += float(a != b) if span is None else abs(a - b) / span
        return total


def _span(values: list[Value]) -> float | None:
    """The range of the values of a parameter; None if they are not all numbers."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return max(values) - min(values) or 1.0
