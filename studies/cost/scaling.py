"""How capture and scoring scale over worker processes and over the number of architectures.

    python -m studies.cost.scaling [BENCH] [--workers 1 2] [--architectures 60] [--series 10 20 40 80] [--repeats 3]
        [--json FILE]

Everything is made anew each time, in a folder that is empty before: `capture` makes the tables of a search, `scores`
scores all proxies that need one backward pass, on the minibatch of a search. Measured with the executor `process`, one
thread in each worker:

- strong scaling: the same architectures, more workers; the efficiency is t(1) / (w t(w));
- weak scaling: as many architectures for each worker; the efficiency is t(1) / t(w);
- cost: one worker, more and more architectures, each number once; a line through the times, and its R².

Workers import torch and transformers before they can work. `all s` is the time of the whole call, `start s` that until
the first result. `steady s` is the time from when every worker can have given a result to the last one, scaled to all
architectures: what a long run costs. The efficiencies of both are shown. Times are medians of the repeats, which take
turns so that a disturbance affects all alike. Prints Markdown, and writes every time with a description of the
machine as JSON.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.make import body_parameters
from lpzero_hf.executors import ProcessExecutor
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.table_cache import make_tables
from studies.cost.score import single_backward_proxies
from studies.machine import machine
from studies.study import write_records

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Configs = Mapping[str, "PreTrainedConfig"]
Progress = Callable[[int, int], None]
Work = Callable[[Configs, ProcessExecutor, Progress], object]
PLUGINS = load_plugins()


def capture(configs: Configs, executor: ProcessExecutor, progress: Progress) -> None:
    """Make the tables of a search with its default settings, in a folder of its own."""
    plan = SearchConfig(("",))
    wanted = plan.space(installed_operations(PLUGINS)).wanted
    with tempfile.TemporaryDirectory() as folder:
        make_tables(configs, wanted, plan.setting, Path(folder), executor=executor, plugins=PLUGINS, progress=progress)


def scores(configs: Configs, executor: ProcessExecutor, progress: Progress) -> None:
    """Score with every proxy that shares one forward and one backward pass."""
    evaluate(
        configs,
        resolve(single_backward_proxies(), PLUGINS),
        SearchConfig(("",)).setting,
        executor=executor,
        plugins=PLUGINS,
        progress=progress,
    )


WORK: dict[str, Work] = {"capture": capture, "scores": scores}


def timed(work: Work, configs: Configs, workers: int) -> dict[str, float]:
    """The seconds of the call, and those of its steady state."""
    ticks: list[float] = []
    start = time.perf_counter()
    work(configs, ProcessExecutor(workers), lambda done, total: ticks.append(time.perf_counter()))
    end = time.perf_counter()
    # ticks[0] is that nothing is done, ticks[workers] that every worker can have done one
    steady = (ticks[-1] - ticks[workers]) * len(configs) / (len(configs) - workers)
    return {"all": end - start, "start": ticks[1] - start, "steady": steady}


class Bench:
    """The architectures of a benchmark, some of which are worked on again and again."""

    def __init__(self, name: str) -> None:
        found = load_benchmark(name, PLUGINS)
        space = found.space
        entries = sorted(found.trained(), key=lambda entry: body_parameters(space, entry.architecture))
        self.configs = {entry.key: space.config(entry.architecture) for entry in entries}

    def some(self, count: int) -> Configs:
        """So many architectures, evenly spaced in size so that a set costs as much for each as another, shuffled."""
        keys = list(self.configs)
        if count > len(keys):
            sys.exit(f"there are {len(keys)} architectures, not {count}")
        chosen = [keys[(2 * i + 1) * len(keys) // (2 * count)] for i in range(count)]
        random.Random(42).shuffle(chosen)
        return {key: self.configs[key] for key in chosen}


def cells(workers: Sequence[int], count: int, series: Sequence[int]) -> list[tuple[str, int, int]]:
    """What is measured: (which scaling, workers, architectures)."""
    strong = [("strong", number, count) for number in workers]
    weak = [("weak", number, count * number) for number in workers]
    return strong + weak + [("cost", 1, number) for number in series]


def measured(bench: Bench, wanted: Sequence[tuple[str, int, int]], repeats: int) -> list[dict[str, Any]]:
    """The times of all cells; one that two scalings share is measured once."""
    times: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    for repeat in range(repeats):
        chosen = [cell for cell in wanted if cell[0] != "cost" or repeat == 0]
        for kind, workers, count in dict.fromkeys((k, workers, count) for k in WORK for _, workers, count in chosen):
            print(f"repeat {repeat + 1} of {repeats}: {kind} of {count} by {workers}", file=sys.stderr)
            found = timed(WORK[kind], bench.some(count), workers)
            times.setdefault((kind, workers, count), []).append(found)
    rows = []
    for kind in WORK:
        for scaling, workers, count in wanted:
            repeated = times[kind, workers, count]
            row: dict[str, Any] = {"work": kind, "scaling": scaling, "workers": workers, "architectures": count}
            row |= {name: statistics.median(one[name] for one in repeated) for name in repeated[0]}
            rows.append(row | {"times": repeated})
    for row in rows:
        base = next(r for r in rows if (r["work"], r["scaling"]) == (row["work"], row["scaling"]))
        for name in ("all", "steady") if row["scaling"] != "cost" else ():
            each = [one[name] * one["workers"] / one["architectures"] for one in (base, row)]
            row[f"efficiency_{name}"] = each[0] / each[1]
    return rows


def line(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The least-squares line through the seconds over the number of architectures."""
    x, y = [row["architectures"] for row in rows], [row["all"] for row in rows]
    slope, intercept = statistics.linear_regression(x, y)
    return {"slope": slope, "intercept": intercept, "r2": statistics.correlation(x, y) ** 2}


def report(rows: Sequence[Mapping[str, Any]], fits: Mapping[str, Mapping[str, float]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| work | scaling | workers | architectures | all s | start s | steady s | efficiency | steady efficiency |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        shares = [f"{row[name]:.2f}" if name in row else "" for name in ("efficiency_all", "efficiency_steady")]
        lines.append(
            f"| {row['work']} | {row['scaling']} | {row['workers']} | {row['architectures']} | {row['all']:.2f} | "
            f"{row['start']:.2f} | {row['steady']:.2f} | {shares[0]} | {shares[1]} |"
        )
    lines.append("")
    for kind, fit in fits.items():
        lines.append(f"{kind}: {fit['intercept']:.2f} s + {fit['slope']:.3f} s per architecture, R² {fit['r2']:.4f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print a table, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", metavar="BENCH", nargs="?", default="tiny-gpt2")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="the first is the reference")
    parser.add_argument("--architectures", type=int, default=60)
    parser.add_argument("--series", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    if min(arguments.architectures, *arguments.series) <= max(arguments.workers):
        parser.error("there must be more architectures than workers")
    about = machine() | {"load_before": round(os.getloadavg()[0], 2)}
    bench = Bench(arguments.benchmark)
    wanted = cells(arguments.workers, arguments.architectures, arguments.series)
    begin = time.perf_counter()
    timed(capture, bench.some(2), 1)  # so that what is imported is in the memory of the machine
    rows = measured(bench, wanted, arguments.repeats)
    fits = {kind: line([r for r in rows if (r["work"], r["scaling"]) == (kind, "cost")]) for kind in WORK}
    print(report(rows, fits))
    if arguments.json is not None:
        options = {name: value for name, value in vars(arguments).items() if name != "json"}
        document: dict[str, Any] = {"machine": about, "options": options, "proxies": single_backward_proxies()}
        document |= {"rows": rows, "cost": fits, "seconds": time.perf_counter() - begin}
        write_records(arguments.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
