"""Captures the branch tables that all searches read: one pass for each architecture."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.scoring.cache_key import identity
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.table_cache import make_tables
from studies.markdown import table
from studies.study import WORKERS, Progress, Runs, Study, executor_of

CASES = (("flexibert", 1), ("gpt2-wt103", 1), ("tiny-gpt2", 1), ("flexibert", 2))
SAMPLE = 6


class Capture(Study):
    """Makes the tables that are missing, and times a few anew."""

    name = "capture"
    title = "What capture costs"

    def make(self, progress: Progress) -> dict[str, Any]:
        """Seconds for one architecture on one thread, and how many tables were missing."""
        plugins = load_plugins()
        rows = []
        for name, unary in CASES:
            plan = SearchConfig((name,), unary=(unary, unary))
            wanted = plan.space(installed_operations(plugins)).wanted
            benchmark = load_benchmark(name, plugins)
            entries = benchmark.trained()
            configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
            counted: list[int] = []

            def step(done: int, total: int, what: str = f"{name}, {unary}", counts: list[int] = counted) -> None:
                counts.append(done)
                progress(what, done, total)

            make_tables(
                configs, wanted, plan.setting, cache_folder() / "tables",
                executor=executor_of(), plugins=plugins, progress=step,
            )  # fmt: skip
            sample = {entry.key: configs[entry.key] for entry in spaced(entries, SAMPLE)}
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                tables = make_tables(sample, wanted, plan.setting, Path(folder), plugins=plugins)
                seconds = time.perf_counter() - start
                size = sum(file.stat().st_size for file in Path(folder).iterdir())
            different = len({str(identity(config)) for config in configs.values()})
            rows.append(
                {
                    "benchmark": name,
                    "unary": unary,
                    "architectures": different,
                    "missing": different - min(counted[0], different),
                    "seconds": seconds / len(tables),
                    "bytes": size // len(tables),
                }
            )
        return {"workers": WORKERS, "rows": rows}

    def show(self, runs: Runs) -> str:
        """One row per set of tables."""
        data = runs[self.name]
        rows = [
            [
                row["benchmark"],
                str(row["unary"]),
                str(row["architectures"]),
                f"{row['seconds']:.2f}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['seconds'] * row['architectures'] / data['workers'] / 60:.0f}",
            ]
            for row in data["rows"]
        ]
        heads = ["benchmark", "unary operations", "architectures", "s for one", "MB for one", "minutes for all"]
        return (
            "One pass for each architecture makes the table that every search reads; minibatch 4 x 32. Seconds are "
            f"the mean of {SAMPLE} architectures, evenly spaced, on one thread. Minutes for all are for "
            f"{data['workers']} such workers.\n\n{table(heads, rows)}"
        )


def estimated(data: Any) -> float:
    """Seconds that the tables would have taken which were in the cache already."""
    return float(
        sum(row["seconds"] * (row["architectures"] - row["missing"]) for row in data["rows"]) / data["workers"]
    )
