"""What scoring costs as models grow: time and peak memory of Llama-shaped models, each in a process of its own.

    python -m studies.cost.sizes [--sizes 10M 30M 100M ...] [--batch-size 2] [--seq-len 64] [--json FILE] [--plot FILE]
    python -m studies.cost.sizes --sizes 1B --only backward --json FILE     one measurement, in this process

Four rows for each size: proxies of shapes (`params`, `flops`), of weights (`l2_norm`), and all that share one
backward pass, in bfloat16 with checkpointing (left out above `--most`): first those that take time in proportion to
the weights, then all. Those that are not among the first decompose every weight or its gradient, which is cubic in the
width (`CUBIC`). The slope of a task is the exponent of seconds over parameters, fitted to all its sizes: 1 is linear.
The peak is the largest resident size of the process (VmHWM), the libraries included; the plan is what `lpz score
--plan` expects beyond them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig

from lpzero_hf import minibatch, score
from lpzero_hf.capture.spec import LOSS
from lpzero_hf.errors import MinibatchWarning
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import layout_of
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import StatisticProxy
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies
from lpzero_hf.scoring.memory_estimate import estimate_memory
from studies.study import write_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {  # hidden size, feed-forward width, blocks, heads
    "10M": (256, 688, 2, 4),
    "30M": (384, 1024, 6, 6),
    "100M": (640, 1728, 12, 10),
    "300M": (1024, 2752, 20, 16),
    "1B": (2048, 5632, 19, 32),
    "7B": (4096, 11008, 32, 32),
}
TASKS = ("shapes", "weights", "linear backward", "backward")
CUBIC = ("synaptic_diversity", "synaptic_diversity_lpzero", "eznas")


def llama(size: str) -> LlamaConfig:
    """The configuration of a model of that many parameters."""
    hidden, width, blocks, heads = SIZES[size]
    return LlamaConfig(
        vocab_size=32000,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
    )


def measure(size: str, task: str, batch_size: int, seq_len: int) -> dict[str, Any]:
    """Score one model in this process."""
    config = llama(size)
    plugins = load_plugins()
    single = [
        c.item
        for c in installed_proxies(plugins).values()
        if isinstance(c.item, StatisticProxy) and c.item.network is LOSS
    ]
    chosen = {
        "shapes": [find_proxy("params", plugins), find_proxy("flops", plugins)],
        "weights": [find_proxy("params", plugins), find_proxy("l2_norm", plugins)],
        "linear backward": [find_proxy("params", plugins), *(proxy for proxy in single if proxy.name not in CUBIC)],
        "backward": [find_proxy("params", plugins), *single],
    }[task]
    start, worked = time.perf_counter(), time.process_time()
    half = "backward" in task
    model = build_model(config, lazy=True, dtype=torch.bfloat16 if half else torch.float32)
    batch = minibatch(model, batch_size=batch_size, seq_len=seq_len)
    expected = estimate_memory(model, batch, chosen, layout_of(model, plugins), checkpointing=half)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MinibatchWarning)  # nothing is ranked here
        scores = score(model, batch, chosen, checkpointing=half)
    failed = {row.proxy: row.reason for row in scores.rows if row.status in ("failed", "left out")}
    return {
        "size": size,
        "task": task,
        "proxies": len(chosen),
        "parameters": int(scores["params"].require()),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - worked,
        "peak_bytes": peak_bytes(),
        "planned_bytes": expected.bytes,
        "failed": failed,
    }


def peak_bytes() -> int:
    """The largest resident size of this process; unlike that of `getrusage`, not its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def slope(rows: list[dict[str, Any]]) -> float | None:
    """The exponent of seconds over parameters, by least squares of their logarithms; None of fewer than two sizes."""
    points = [(math.log(row["parameters"]), math.log(row["seconds"])) for row in rows]
    if len(points) < 2:
        return None
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return float(sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points))


def circumstances(batch_size: int, seq_len: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "minibatch": [batch_size, seq_len],
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "load_average": os.getloadavg()[0],
    }


def figure_of(rows: list[dict[str, Any]]) -> Figure:
    """Time and memory over parameters, both axes logarithmic; the dotted line is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, quantity, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_bytes"), ("s", "peak bytes"), strict=True
    ):
        for task in TASKS:
            mine = [row for row in rows if row["task"] == task]
            axes.loglog([r["parameters"] for r in mine], [r[quantity] for r in mine], "o-", label=task)
        sizes = sorted({row["parameters"] for row in rows})
        first = max(row[quantity] for row in rows if row["parameters"] == sizes[0])
        axes.loglog(sizes, [first * size / sizes[0] for size in sizes], ":", color="grey", label="linear")
        axes.set(xlabel="parameters", ylabel=label)
        axes.legend()
    return figure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[s for s in SIZES if s != "7B"])
    parser.add_argument("--most", choices=SIZES, default="1B", help="the largest size with a backward pass")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only", choices=TASKS, help="one measurement, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        row = measure(arguments.sizes[0], arguments.only, arguments.batch_size, arguments.seq_len)
        if arguments.json:
            about = circumstances(arguments.batch_size, arguments.seq_len)
            write_records(
                arguments.json, {"command": f"python -m studies.cost.sizes {shlex.join(sys.argv[1:])}"} | about | row
            )
        print(json.dumps(row))
        return
    order, rows = list(SIZES), []
    for size in arguments.sizes:
        for task in TASKS:
            if "backward" in task and order.index(size) > order.index(arguments.most):
                continue
            command = [sys.executable, "-m", "studies.cost.sizes", "--sizes", size, "--only", task]
            command += ["--batch-size", str(arguments.batch_size), "--seq-len", str(arguments.seq_len)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append(json.loads(out))
            print(f"{size} {task}: {rows[-1]['seconds']:.1f} s", file=sys.stderr)
    slopes = {task: slope([row for row in rows if row["task"] == task]) for task in TASKS}
    result = circumstances(arguments.batch_size, arguments.seq_len) | {"slopes": slopes, "rows": rows}
    if arguments.json:
        write_records(arguments.json, result)
    if arguments.plot:
        figure_of(rows).savefig(arguments.plot)
    table = Table(title=f"Llama shapes, {arguments.batch_size} x {arguments.seq_len} tokens")
    for column in ("model", "proxies of", "parameters", "s", "s per billion", "peak MiB", "planned MiB"):
        table.add_column(column, justify="left" if column in ("model", "proxies of") else "right")
    for row in rows:
        memory = [f"{row[key] / 2**20:.0f}" for key in ("peak_bytes", "planned_bytes")]
        seconds = f"{row['seconds']:.1f}", f"{row['seconds'] / row['parameters'] * 1e9:.0f}"
        table.add_row(row["size"], row["task"], f"{row['parameters']:,}", *seconds, *memory)
    console = Console(width=100)
    console.print(table)
    for task, exponent in slopes.items():
        if exponent is not None:
            console.print(f"{task}: seconds grow with the power {exponent:.2f} of parameters")


if __name__ == "__main__":
    main()
