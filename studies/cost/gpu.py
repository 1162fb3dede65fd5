"""What a GPU brings to a search and to a large model: times by phase, the share of the card's peak that matrix products
reach, and whether its ranks are the CPU's.

    python -m studies.cost.gpu [BENCH] [--device cuda] [--unary 2] [--limit 50] [--size 7B] [--json FILE]

1. Capture of the architectures' branch tables on the device, then enumeration of the whole space there, each timed to
   the end of its last kernel. `--compare N` captures N of them on the CPU as well, and compares the ranks that every
   expression of the space gives.
2. The Gram matrices of one linear site as large as the largest of those architectures: floating-point operations per
   second, against those of a large square matrix product in the same precision, which stands for the card's peak.
3. A plain forward and backward pass, and all proxies that share one, on a Llama-shaped model in bfloat16 with
   checkpointing (`--size none` leaves it out).

It runs on `--device cpu` too, with small settings, to check that it works.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Rows

from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Table, Wanted, gram
from lpzero_hf.plugins import load_plugins
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.strategies import Exhaustive
from lpzero_hf.searching.table_cache import make_tables
from studies.cost.large import Keep, large, timed
from studies.cost.sizes import SIZES
from studies.machine import card, machine
from studies.study import WORKERS, executor_of, write_records

SAMPLED = 1000  # expressions whose ranks on both devices are compared
CHUNK = 5  # architectures captured between two looks at the clock
AFTER_CAPTURE = 100.0  # seconds that enumeration and the comparison with the CPU take on a GPU, roughly
AFTER_ENUMERATION = 55.0  # seconds that the comparison takes


def searched(
    name: str,
    unary: int,
    limit: int,
    device: torch.device,
    compare: int,
    *,
    left: Callable[[], float] = lambda: math.inf,
    keep: Keep = lambda found: None,
) -> dict[str, Any]:
    """Times of capture and enumeration, and the agreement of ranks with those of tables made on the CPU.

    Args:
        name: of the benchmark.
        unary: operations in each branch.
        limit: maximum number of architectures, evenly spaced.
        device: to capture and enumerate on.
        compare: architectures that are captured on the CPU as well, on all its cores.
        left: the seconds that may still be used; fewer architectures are captured, and fewer expressions evaluated,
            where they do not suffice.
        keep: called with what is found after each step.
    """
    plugins = load_plugins()
    plan = SearchConfig((name,), strategy="exhaustive", unary=(unary, unary))
    setting = replace(plan.setting, device=str(device))
    benchmark = load_benchmark(name, plugins)
    entries = spaced(benchmark.trained(), limit)
    random.Random(42).shuffle(entries)  # so that the first few are a fair sample as well
    space = plan.space(installed_operations(plugins))
    found: dict[str, Any] = {"benchmark": name, "unary": unary, "seconds": {}}
    tables: list[Table] = []
    spent = 0.0
    while len(tables) < len(entries) and spent / max(1, len(tables)) * CHUNK < left() - AFTER_CAPTURE:
        some = entries[len(tables) : len(tables) + CHUNK]
        with TemporaryDirectory() as folder:
            configs = {entry.key: benchmark.space.config(entry.architecture) for entry in some}
            make = partial(make_tables, configs, space.wanted, setting, Path(folder), plugins=plugins)
            seconds, made = timed(device, make)
        tables += made
        spent += seconds
        found["architectures"], found["seconds"]["capture"] = len(tables), spent
        keep(found)
    if len(tables) < 3:
        raise TimeoutError(f"only {len(tables)} models were captured in the time given; it takes 3 to rank")
    found["seconds"]["upload"], stack = timed(device, lambda: Stack(tables, space.wanted, device))
    fitness = RankCorrelation([benchmark.target(entry) for entry in entries[: len(tables)]], device=device)
    search = Exhaustive(space, FitnessEvaluator([SearchPart(stack, fitness)]))

    def enumerate_all() -> None:
        while search.done < search.total and left() > AFTER_ENUMERATION:
            search.iterate()

    found["seconds"]["enumeration"], _ = timed(device, enumerate_all)
    best = search.archive.fittest()[0].expression
    found |= {"done": search.done, "total": search.total, "evaluated": search.evaluated}
    found |= {"best": str(best), "fitness": search.archive.best}
    keep(found)
    compare = min(compare, len(tables))
    if compare and left() > 0:
        configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries[:compare]}
        executor = executor_of(min(WORKERS, compare))
        with TemporaryDirectory() as folder:
            on_cpu = make_tables(configs, space.wanted, plan.setting, Path(folder), executor=executor, plugins=plugins)
        found["ranks"] = ranks(stack.part(range(compare)), Stack(on_cpu, space.wanted), space)
        found["ranks"]["architectures"] = compare
        keep(found)
    return found


def ranks(stack: Stack, reference: Stack, space: Any) -> dict[str, float]:
    """The rank correlations of scores from both tables, over random expressions: lowest, median, share above 0.999.

    An expression may sum what nearly cancels; its ranks are those of rounding, on any device.
    """
    rng = random.Random(42)
    found: list[float] = []
    while len(found) < SAMPLED:
        expression = space.draw(rng)
        if any(branch.dropped for branch in expression.branches):
            continue
        one, other = stack.score(expression).cpu(), reference.score(expression)
        good = torch.isfinite(one) & torch.isfinite(other)
        if int(good.sum()) > 2 and (rho := spearman(one[good].numpy(), other[good].numpy())) is not None:
            found.append(rho)
    return {
        "expressions": len(found),
        "lowest": min(found),
        "median": statistics.median(found),
        "share_equal": sum(rho > 0.999 for rho in found) / len(found),
    }


def gemms(wanted: Wanted, device: torch.device, elements: int, repeats: int = 5) -> dict[str, float]:
    """Operations per second of one site's Gram matrix, and of a large square product in the same precision."""
    rows = len(wanted.matrices["W"])
    x, y = (torch.randn(rows, elements, device=device) for _ in range(2))
    side = 8192 if device.type == "cuda" else 1024
    square = torch.randn(side, side, device=device)

    def rate(work: Callable[[], Any], operations: float) -> float:
        timed(device, work)
        return operations / statistics.median(timed(device, work)[0] for _ in range(repeats))

    made = rate(lambda: gram(x, y), 2.0 * rows * rows * elements)
    peak = rate(lambda: square @ square, 2.0 * side**3)
    return {"rows": rows, "elements": elements, "tflops": made / 1e12, "peak_tflops": peak / 1e12, "share": made / peak}


def shown(result: Mapping[str, Any]) -> Rows:
    """The result for people."""
    table = Rows(title=f"{result['device']}, torch {torch.__version__}")
    table.add_column("what")
    table.add_column("number", justify="right")
    search = result["search"]
    rows: list[tuple[str, str]] = [
        (f"{phase} of {search['architectures']} architectures", f"{seconds:.1f} s")
        for phase, seconds in search["seconds"].items()
    ]
    rows.append(("expressions evaluated", f"{search['evaluated']:,}"))
    if "ranks" in search:
        rows.append(("lowest rho of ranks with the CPU's", f"{search['ranks']['lowest']:.6f}"))
    gemm = result["gemm"]
    rows.append((f"Gram matrix of {gemm['rows']} x {gemm['elements']:,}", f"{gemm['tflops']:.2f} TFLOP/s"))
    rows.append(("share of a large square product's", f"{gemm['share']:.0%}"))
    if model := result.get("model"):
        for what, seconds in model["seconds"].items():
            name = "plain forward + backward" if what == "plain" else f"{model['proxies'][what]} proxies"
            rows.append((f"{name} on {model['parameters']:,} parameters", f"{statistics.median(seconds):.1f} s"))
            if peak := model["peak_bytes"][what]:
                rows.append(("its peak memory of the card", f"{peak / 2**30:.1f} GiB"))
    for row in rows:
        table.add_row(*row)
    return table


def missing(device: torch.device) -> bool:
    """Whether the device is not here, which is then said."""
    if device.type != "cuda" or torch.cuda.is_available():
        return False
    print("error: no CUDA device here; `--device cpu` tries the same, slowly", file=sys.stderr)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", nargs="?", default="flexibert")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--unary", type=int, choices=(1, 2), default=2)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--compare", type=int, default=10, help="architectures captured on the CPU as well")
    parser.add_argument("--size", choices=[*SIZES, "none"], default="7B")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    if missing(device):
        return 2
    wanted = SearchConfig((chosen.benchmark,), unary=(chosen.unary,) * 2).space(installed_operations()).wanted
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": machine() | card(device),
        "search": searched(chosen.benchmark, chosen.unary, chosen.limit, device, chosen.compare),
        "gemm": gemms(wanted, device, 256 * 1024),
    }
    if chosen.size != "none":
        result["model"] = large(chosen.size, device, checkpointing=True)
    Console(width=110).print(shown(result))
    if chosen.json:
        write_records(chosen.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
