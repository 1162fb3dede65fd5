"""What a search costs: branch tables and enumeration, against one pass over a model for each candidate.

    python -m studies.cost.search BENCH [--unary 1] [--limit 50] [--sample 20]

Captures every architecture anew, one process and one thread; enumerates the space; and scores randomly drawn
candidates on randomly drawn architectures the direct way. Prints a Markdown table. Scores of both ways must agree.

    python -m studies.cost.search BENCH --fitness [--limit 200]

Instead times the fitness by rho and by agreement at matched size, in this process and on the same scores (random
numbers): of one candidate, of the grid of one unary operation and of a large one; medians of 15 calls in turn.

    python -m studies.cost.search BENCH --store [--limit 50] [--sample 20] [--candidates 2000] [--device cpu]

Instead counts the candidates a second of an evolution over four unary operations in each branch: from the store of raw
statistics, in generations of 200, and by passes over the models, one candidate and 20 candidates in a pass; and over
one unary operation from tables, one by one and together. Wall time.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.benchmarks.matched import MATCH, Sizes
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.score import score
from lpzero_hf.searching.config import SHARED, SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.strategies import Exhaustive
from lpzero_hf.searching.table_cache import make_tables
from studies.cost.generations import STORED, CandidateCounter

TIMED = ("spearman", "matched", "mixed")


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", metavar="BENCH")
    parser.add_argument("--unary", type=int, default=1, choices=(1, 2))
    parser.add_argument("--limit", type=int, default=50, help="architectures, evenly spaced")
    parser.add_argument("--sample", type=int, default=20, help="candidates scored the direct way")
    parser.add_argument("--fitness", action="store_true", help="time each fitness instead")
    parser.add_argument("--store", action="store_true", help="count candidates a second instead")
    parser.add_argument("--candidates", type=int, default=STORED, help="from the store, where --store counts")
    parser.add_argument("--device", default="cpu", help="of the store and the tables that --store counts")
    arguments = parser.parse_args()
    if arguments.fitness:
        time_fitness(arguments.benchmark, arguments.limit)
        return 0
    torch.set_num_threads(1)
    if arguments.store:
        count_candidates(arguments)
        return 0
    plugins = load_plugins()
    plan = SearchConfig((arguments.benchmark,), strategy="exhaustive", unary=(arguments.unary, arguments.unary))
    benchmark = load_benchmark(arguments.benchmark, plugins)
    entries = spaced(benchmark.trained(), arguments.limit)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    space = plan.space(installed_operations(plugins))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tables = make_tables(configs, space.wanted, plan.setting, Path(folder), plugins=plugins)
    capture = time.perf_counter() - start
    stack = Stack(tables, space.wanted)
    truth = [benchmark.target(entry) for entry in entries]
    start = time.perf_counter()
    search = Exhaustive(space, FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))]))
    while search.done < search.total:
        search.iterate()
    enumeration = time.perf_counter() - start

    rng, passes = random.Random(42), []
    candidates: list[Expression] = []
    while len(candidates) < arguments.sample:
        drawn = space.draw(rng)
        if not any(branch.dropped for branch in drawn.branches):
            candidates.append(drawn)
    for expression in candidates:
        place = rng.randrange(len(entries))
        setting = plan.setting
        start = time.perf_counter()
        model = build_model(configs[entries[place].key], seed=setting.seed)
        batch = minibatch(
            model, tokenizer=embedded_tokenizer(), batch_size=setting.batch_size, seq_len=setting.seq_len,
            seed=setting.seed,
        )  # fmt: skip
        direct = score(model, batch, [expression_proxy(expression)], seed=setting.seed)[str(expression)].value
        passes.append(time.perf_counter() - start)
        table = float(stack.score(expression)[place])
        if direct is not None and abs(direct - table) > 1e-3 * max(abs(direct), abs(table), 1e-3):
            print(f"warning: {expression} is {direct} directly and {table} from tables", file=sys.stderr)
    one = statistics.median(passes)
    whole = one * search.evaluated * len(entries)
    print(f"| {arguments.benchmark}, {len(entries)} architectures, {search.evaluated:,} distinct expressions | s |")
    print("|---|--:|")
    print(f"| capture of all tables, one core | {capture:.1f} |")
    print(f"| enumeration | {enumeration:.1f} |")
    print(f"| direct: one pass for one candidate on one architecture, median of {len(passes)} | {one:.3f} |")
    print(f"| direct, all of them (extrapolated) | {whole:,.0f} = {whole / 86400:,.0f} days |")
    print(f"| ratio | {whole / (capture + enumeration):,.0f} |")
    print(f"\ntorch {torch.__version__}, {os.cpu_count()} cores, one used.", file=sys.stderr)
    return 0


def count_candidates(asked: argparse.Namespace) -> None:
    """Print the candidates a second from a store, by passes over the models, and from tables."""
    name, device = asked.benchmark, asked.device
    made = CandidateCounter(name, asked.limit, torch.device(device))
    found = made.long(asked.candidates, asked.sample) | {"tables": made.tables(1, seeds=0, optimum=False)}
    stored, tables = found["store"], found["tables"]
    rows = [("4 + 4 operations, from the store, in generations", stored["evaluated"] / stored["seconds"])]
    rows += [
        (f"4 + 4 operations, by passes, {together} in a pass", found[f"passes, {together} together"])
        for together in (1, SHARED)
        if f"passes, {together} together" in found
    ]
    rows += [(f"1 + 1 operations, from tables, {what}", tables[what]) for what in ("one by one", "together")]
    print(f"capture of the raw statistics took {stored['capture']:.1f} s", file=sys.stderr)
    print(f"| {name}, {len(made.configs)} architectures, {device} | candidates a second |")
    print("|---|--:|")
    for what, rate in rows:
        print(f"| {what} | {rate:,.2f} |")


def time_fitness(name: str, limit: int, calls: int = 15) -> None:
    """Print the median time of a fitness, on one core, for the grids of one and of two unary operations."""
    torch.set_num_threads(1)
    plugins = load_plugins()
    benchmark = load_benchmark(name, plugins)
    entries = spaced(benchmark.trained(), limit)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    rows = evaluate(configs, resolve(MATCH, plugins), plugins=plugins)
    sizes = Sizes([rows[entry.key][MATCH]["value"] for entry in entries])
    truth = [benchmark.target(entry) for entry in entries]
    made = {kind: RankCorrelation(truth, kind, sizes=sizes) for kind in TIMED}
    print(
        f"{name}, {len(entries)} architectures, {sizes.pairs.shape[1]:,} pairs within {sizes.within:g} times {MATCH}\n"
    )
    print("| candidates | " + " | ".join(f"{kind}, ms" for kind in TIMED) + " | matched / spearman |")
    print("|--:|" + "--:|" * (len(TIMED) + 1))
    for count in (1, 21 * 21, 64 * 64):
        scores = torch.randn(count, len(entries), dtype=torch.float64)
        times: dict[str, list[float]] = {kind: [] for kind in TIMED}
        for _ in range(calls):
            for kind, fitness in made.items():
                start = time.perf_counter()
                fitness(scores)
                times[kind].append(time.perf_counter() - start)
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        shown = " | ".join(f"{1000 * value:.2f}" for value in medians.values())
        print(f"| {count:,} | {shown} | {medians['matched'] / medians['spearman']:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
