"""What each part of the search contributes, on the architectures that `lpz search BENCH` searches on.

    python -m benchmarks.ablations BENCH [--out figures] [--seeds 10] [--only NAME]

Every case is searched with several seeds, each as `lpz search` would but without a run folder. Prints Markdown
tables of the largest fitness, and writes a figure for each study and `ablations-BENCH.json` to --out. Branch tables
come from the cache (see `LPZ_CACHE`), and are made where they are missing. Each search is kept there once it is
finished, so that --resume goes on with a run that was killed; use it only if the code is still the same.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lpz_cli.plots import save

import lpzero_hf
from lpzero_hf.benchmarks import Benchmark, Trained
from lpzero_hf.cache import cache_folder
from lpzero_hf.candidates import ExpressionSpace
from lpzero_hf.errors import UsageError
from lpzero_hf.files import read_json, write_json
from lpzero_hf.fitness import Fitness
from lpzero_hf.grading import spaced
from lpzero_hf.judging import Judge, Subject
from lpzero_hf.parallel import each
from lpzero_hf.passes import Passes
from lpzero_hf.plan import Plan
from lpzero_hf.plugins import load_plugins
from lpzero_hf.stack import Stack
from lpzero_hf.strategies import Exhaustive
from lpzero_hf.table_store import make_tables
from lpzero_hf.tables import Table

WORKERS = len(os.sched_getaffinity(0))
PARTS = 40  # of an exhaustive search
SPLIT = 42  # the seed with which `lpz search` draws the architectures by default
TABLED = (2, 2)  # one set of tables serves all spaces of shorter chains
SUM = "unary operations"
BOTH = {"(1,1)": {"unary": (1, 1)}, "(2,2)": {"unary": (2, 2)}}

Changes = Mapping[str, Any]  # what a case has that the default Plan has not
Study = Mapping[str, Mapping[str, Changes]]  # cases by space and by name


def _in_both(cases: Mapping[str, Changes]) -> Study:
    return {space: {name: unary | dict(case) for name, case in cases.items()} for space, unary in BOTH.items()}


STUDIES: dict[str, Study] = {
    "strategy": _in_both({"evolution": {}, "random search": {"strategy": "random"}}),  # LPZero's Figure 6
    "pruning": _in_both({"pruned": {}, "not pruned": {"prune": False}}),  # LPZero's Figure 7
    "population": _in_both({str(size): {"population": size} for size in (80, 100, 200)}),
    "unary": {
        SUM: {f"{sum(unary)} = ({unary[0]},{unary[1]})": {"unary": unary} for unary in ((1, 1), (2, 1), TABLED)}
    },
    "aggregation": _in_both({"sum": {"aggregates": ("sum",)}, "mean": {"aggregates": ("mean",)}, "either": {}}),
    "optimum": _in_both({"evolution": {}}),
}  # fmt: skip
LONGER: Changes = {"unary": (3, 2)}  # tables of 0.5 GB for each model would be too large: passes over the models
Tell = Callable[[int, int], None]
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Search:
    """One search: a plan and a seed, and whether to take what a run before has kept of it."""

    plan: Plan
    seed: int
    resume: bool = field(default=False, compare=False)

    @property
    def kept(self) -> Path:
        """The file that keeps its outcome."""
        told = json.dumps([self.plan.to_json(), self.seed, lpzero_hf.__version__, torch.__version__], sort_keys=True)
        return cache_folder() / "ablations" / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


@dataclass(frozen=True)
class Grids:
    """A part of an exhaustive search: every so many grids from the given one."""

    benchmark: str
    limit: int | None
    train: int
    first: int
    step: int


# Work ------------------------------------------------------------------------------------------------------


@functools.cache
def judge(name: str, limit: int | None, train: int, tabled: bool = True) -> Judge:
    """The judge of all spaces on the architectures to search on, made once in each process."""
    plan, plugins = Plan((name,)), load_plugins()
    benchmark, entries = chosen(name, limit, train)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    fitness = Fitness([benchmark.goodness(entry) for entry in entries])
    source: Stack | Passes = Passes(configs, plan.setting, plugins)
    if tabled:
        source = Stack(made_tables(name, limit, train), space(TABLED).wanted)
    return Judge([Subject(source, fitness)], early=plan.early)


def made_tables(name: str, limit: int | None, train: int, workers: int = 1, tell: Tell | None = None) -> list[Table]:
    """The branch tables of the architectures to search on."""
    benchmark, entries = chosen(name, limit, train)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    return make_tables(
        configs, space(TABLED).wanted, Plan((name,)).setting, cache_folder() / "tables",
        workers=workers, plugins=load_plugins(), progress=tell,
    )  # fmt: skip


def chosen(name: str, limit: int | None, train: int) -> tuple[Benchmark, list[Trained]]:
    """The architectures that `lpz search` searches on."""
    benchmark = load_plugins().benchmark(name)
    entries = spaced(benchmark.trained(), limit)
    if train > len(entries):
        raise UsageError(f"benchmark '{name}' has {len(entries)} architectures, fewer than --train {train}")
    return benchmark, [entries[i] for i in sorted(random.Random(SPLIT).sample(range(len(entries)), train))]


def space(unary: tuple[int, int]) -> ExpressionSpace:
    """All expressions with so many unary operations."""
    return ExpressionSpace(unary, operations=load_plugins().operations)


def searched(task: Search) -> dict[str, Any]:
    """The course and the outcome of one search."""
    plan = task.plan
    assert plan.train is not None
    if task.resume and task.kept.exists():
        return dict(read_json(task.kept, "delete it, and that search is made again"))
    found = judge(plan.benchmarks[0], plan.limit, plan.train, plan.tabled)
    start = time.perf_counter()
    strategy = plan.start(plan.space(load_plugins().operations), found, task.seed)
    steps: list[tuple[int, float]] = []
    while strategy.done < strategy.total:
        made = strategy.iterate()
        if not steps or made.best > steps[-1][1]:
            steps.append((strategy.done, made.best))
    fittest = strategy.archive.fittest()
    outcome = {
        "seed": task.seed,
        "fitness": strategy.archive.best,
        "expression": str(fittest[0].expression) if fittest else None,
        "steps": steps,  # (evaluations, largest fitness so far), where it grows
        "evaluated": strategy.evaluated,
        "pruned": dict(strategy.pruner.counts) if strategy.pruner else {},
        "rejected": dict(strategy.rejections),
        "seconds": time.perf_counter() - start,
    }
    write_json(task.kept, outcome)
    return outcome


def enumerated(task: Grids) -> list[tuple[str, str, float]]:
    """(space, aggregation, the largest fitness) of each grid; a grid of long chains holds that of the short ones."""
    found = judge(task.benchmark, task.limit, task.train)
    (subject,) = found.subjects
    stack = subject.source
    assert isinstance(stack, Stack)
    spaces = {name: space(changes["unary"]) for name, changes in BOTH.items()}
    rows = []
    for left, right, op, reduce, aggregate in Exhaustive(space(TABLED), found).grids[task.first :: task.step]:
        if op == "alone":
            scores = stack.alone(left, reduce, aggregate)[:, :, None]
        else:
            scores = stack.grid(left, right, op, reduce, aggregate)
        fitness = subject.fitness(scores.movedim(0, -1).contiguous()).abs().nan_to_num(nan=0.0)
        for name, part in spaces.items():
            i = [stack.index[left][chain] for chain in part.wanted.chains[left]]
            j = [stack.index[right][chain] for chain in part.wanted.chains[right]] if right else [0]
            rows.append((name, aggregate, float(fitness[i][:, j].max())))
    return rows


def done(function: Callable[[Task], Result], tasks: Sequence[Task], what: str, workers: int) -> list[Result]:
    """The results of all tasks in order, with a line of progress."""
    results: dict[int, Result] = {}
    for number, result in each(function, tasks, workers=workers):
        results[number] = result
        told(what, len(results), len(tasks))
    return [results[number] for number in range(len(tasks))]


def told(what: str, count: int, total: int) -> None:
    """One line on stderr that is written over."""
    print(f"\r{what} {count}/{total}", end="\n" if count == total else "", file=sys.stderr, flush=True)


# Tables ----------------------------------------------------------------------------------------------------


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def finals(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """The largest fitness of each search."""
    return [run["fitness"] for run in runs]


def bound(optimum: Mapping[str, float], part: str, case: str) -> float | None:
    """The largest fitness that a case can reach, if it is known."""
    keys = (f"{part} {case}", case.rpartition(" = ")[2], part)
    return next((optimum[key] for key in keys if key in optimum), None)


def table(study: Mapping[str, Mapping[str, Any]], optimum: Mapping[str, float]) -> str:
    """Median and quartiles of every case as a Markdown table."""
    lines = [
        "| space | case | fitness: median [quartiles] | optimum | gap of the median | reached | evaluated | s |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for part, cases in study.items():
        for case, runs in cases.items():
            low, middle, high = quartiles(finals(runs))
            best = bound(optimum, part, case)
            told = "— | — | —"
            if best is not None:
                reached = sum(value > best - 1e-9 for value in finals(runs))
                told = f"{best:.4f} | {best - middle:.4f} | {reached} of {len(runs)}"
            evaluated, seconds = (statistics.median(run[what] for run in runs) for what in ("evaluated", "seconds"))
            lines.append(
                f"| {part} | {case} | {middle:.4f} [{low:.4f}, {high:.4f}] | {told} | {evaluated:.0f} | {seconds:.1f} |"
            )
    return "\n".join(lines)


def rejections(study: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean counts of rejected candidates by reason as a Markdown table."""
    columns = {f"{part} {case}": runs for part, cases in study.items() for case, runs in cases.items()}
    lines = [f"| rejected, mean of a search | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for kind, when in (("pruned", "before"), ("rejected", "after")):
        for reason in sorted({reason for runs in columns.values() for run in runs for reason in run[kind]}):
            counts = [statistics.mean(run[kind].get(reason, 0) for run in runs) for runs in columns.values()]
            lines.append(f"| {when} evaluation: {reason} | {' | '.join(f'{count:.1f}' for count in counts)} |")
    return "\n".join(lines)


# Figures ---------------------------------------------------------------------------------------------------


def draw(title: str, study: Mapping[str, Mapping[str, Any]], optimum: Mapping[str, float]) -> Any:
    """A row for each space: fitness so far against evaluations, and the final fitness of every seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.5 + 2.9 * len(study)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    rows = figure.subplots(len(study), 2, squeeze=False, width_ratios=[2, 1])
    for (course, final), (part, cases) in zip(rows, study.items(), strict=True):
        for axes in (course, final):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
        most, bottom = 0, 1.0
        for number, (case, runs) in enumerate(cases.items()):
            colour = f"C{number}"
            x, low, middle, high = band(runs)
            most, bottom = max(most, len(x)), min(bottom, low[len(x) // 20])  # the first steps tell nothing
            course.fill_between(x, low, high, step="post", color=colour, alpha=0.2, linewidth=0)
            course.plot(x, middle, drawstyle="steps-post", color=colour, linewidth=1.4, label=case)
            values = sorted(finals(runs))
            aside = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0.0]
            final.scatter(number + np.array(aside), values, s=14, color=colour, alpha=0.6, linewidths=0)
            final.hlines(quartiles(values)[1], number - 0.3, number + 0.3, color=colour, linewidth=2)
            best = bound(optimum, part, case)
            if best is not None:
                final.hlines(best, number - 0.4, number + 0.4, color="0.3", linestyle=(0, (2, 2)), linewidth=1)
        course.set_xlim(0, most)
        course.set_ylim(bottom=bottom - 0.15 * (1 - bottom))
        course.set_title(part, fontsize=9, loc="left")
        course.set_xlabel("expressions evaluated", fontsize=9)
        course.set_ylabel("largest |rho| so far", fontsize=9)
        course.legend(fontsize=8, edgecolor="none", framealpha=0.8, loc="lower right")
        final.set_xticks(range(len(cases)), list(cases))
        final.set_xlim(-0.6, len(cases) - 0.4)
        if any(bound(optimum, part, case) is not None for case in cases):
            final.set_xlabel("dashed: the optimum", fontsize=9)
        final.set_ylabel("final |rho| of each seed", fontsize=9)
    return figure


def band(runs: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """Evaluations, and the first quartile, the median and the third quartile of the largest fitness so far."""
    x = np.arange(1, max(run["evaluated"] for run in runs) + 1)
    curves = np.zeros((len(runs), len(x)))
    for curve, run in zip(curves, runs, strict=True):
        for at, best in run["steps"]:
            curve[at - 1 :] = best
    return x, *np.quantile(curves, [0.25, 0.5, 0.75], axis=0)


# All -------------------------------------------------------------------------------------------------------


def optima(arguments: argparse.Namespace) -> dict[str, float]:
    """The largest fitness in each space, and in each with one aggregation, by exhaustive search."""
    tasks = [Grids(arguments.benchmark, arguments.limit, arguments.train, i, PARTS) for i in range(PARTS)]
    found: dict[str, float] = {}
    for rows in done(enumerated, tasks, "exhaustive search", arguments.workers):
        for name, aggregate, fitness in rows:
            for key in (name, f"{name} {aggregate}"):
                found[key] = max(found.get(key, 0.0), fitness)
    return found


def main() -> None:
    """Search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", metavar="BENCH")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=STUDIES)
    parser.add_argument("--train", type=int, default=50)
    parser.add_argument("--limit", type=int, help="only so many architectures, evenly spaced")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--longest", type=int, choices=(4, 5), default=4, help="5: also (3,2), without tables, slowly")
    parser.add_argument("--resume", action="store_true", help="take the searches that a run before has finished")
    arguments = parser.parse_args()
    studies = {name: study for name, study in STUDIES.items() if arguments.only in (None, name)}
    if arguments.longest == 5:
        studies["unary"] = {SUM: {**STUDIES["unary"][SUM], "5 = (3,2)": LONGER}}
    base = Plan((arguments.benchmark,), train=arguments.train, limit=arguments.limit, iterations=arguments.iterations)
    plans = [replace(base, **c) for study in studies.values() for cases in study.values() for c in cases.values()]
    tasks = [Search(plan, seed, arguments.resume) for plan in dict.fromkeys(plans) for seed in range(arguments.seeds)]
    made_tables(
        arguments.benchmark, arguments.limit, arguments.train, arguments.workers, functools.partial(told, "capture")
    )  # fmt: skip
    outcomes = dict(zip(tasks, done(searched, tasks, "searches", arguments.workers), strict=True))
    optimum = optima(arguments) if "optimum" in studies else {}
    results = {
        name: {
            part: {
                case: [outcomes[Search(replace(base, **changes), seed)] for seed in range(arguments.seeds)]
                for case, changes in cases.items()
            }
            for part, cases in study.items()
        }
        for name, study in studies.items()
    }
    for name, found in results.items():
        print(f"### {arguments.benchmark}: {name}\n\n{table(found, optimum)}\n")
        if name == "pruning":
            print(rejections(found) + "\n")
        title = f"{arguments.benchmark}: {name}, {arguments.seeds} seeds, {arguments.train} architectures"
        save(draw(title, found, optimum), arguments.out / f"ablations-{arguments.benchmark}-{name}.png")
    versions = {"lpzero-hf": lpzero_hf.__version__, "torch": torch.__version__, "python": platform.python_version()}
    document = {"plan": base.to_json(), "seeds": arguments.seeds, "optimum": optimum, "studies": results}
    only = f"-{arguments.only}" if arguments.only else ""
    write_json(arguments.out / f"ablations-{arguments.benchmark}{only}.json", document | {"versions": versions})


if __name__ == "__main__":
    main()
