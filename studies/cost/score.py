"""What scoring costs over one plain forward and backward pass.

    python -m studies.cost.score [--model gpt2-small] [--batch-size 16] [--seq-len 128] [--repeats 5] [--json FILE]

Time: all proxies that need one backward pass are scored together, then one by one with a fresh pass each,
and set against the model's own forward and backward, all in one process and in turn; medians and ratios
of paired runs are printed. Memory: the largest resident size of a fresh process that does one thing, over
one that does the plain pass.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table

from lpzero_hf import load_model, minibatch, score
from lpzero_hf.capture.spec import LOSS
from lpzero_hf.models.objective import with_labels
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import StatisticProxy
from lpzero_hf.proxies.resolve import installed_proxies
from studies.study import write_records

TASKS = ("build", "plain", "together")


def single_backward_proxies() -> list[str]:
    """The built-in proxies that need nothing but the one shared pass."""
    claims = installed_proxies(load_plugins()).items()
    return [n for n, c in claims if isinstance(c.item, StatisticProxy) and c.item.network is LOSS]


def tasks(arguments: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is measured, by name, on one model and minibatch."""
    loaded = load_model(arguments.model)
    model = loaded.model
    batch = minibatch(model, batch_size=arguments.batch_size, seq_len=arguments.seq_len)
    fed = with_labels(model, batch, 42)
    names = single_backward_proxies()

    def plain() -> None:
        model(**fed, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    return {
        "build": lambda: None,
        "plain": plain,
        "together": lambda: score(model, batch, names),
        "one by one": lambda: [score(model, batch, name) for name in names],
    }


def peak_bytes(task: str, arguments: argparse.Namespace) -> int:
    """The largest resident size of a process that runs `task` once."""
    command = [sys.executable, "-m", "studies.cost.score", "--only", task, "--model", arguments.model]
    command += ["--batch-size", str(arguments.batch_size), "--seq-len", str(arguments.seq_len)]
    out = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"MALLOC_ARENA_MAX": "1"}
    )
    return int(out.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-small")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        tasks(arguments)[arguments.only]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    memory = {task: peak_bytes(task, arguments) for task in TASKS}  # first: a child inherits its parent's peak
    todo = tasks(arguments)
    times: dict[str, list[float]] = {"plain": [], "together": []}
    todo["plain"]()
    for _ in range(arguments.repeats):
        for name, seconds in times.items():
            start = time.perf_counter()
            todo[name]()
            seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    todo["one by one"]()
    separately = time.perf_counter() - start
    plain = statistics.median(times["plain"])
    ratios = [t / p for t, p in zip(times["together"], times["plain"], strict=True)]
    result = {
        "model": arguments.model,
        "batch_size": arguments.batch_size,
        "seq_len": arguments.seq_len,
        "proxies": single_backward_proxies(),
        "seconds": times | {"one by one": [separately]},
        "time_ratio": {"together": statistics.median(ratios), "one by one": separately / plain},
        "peak_bytes": memory,
        "memory_ratio": {
            "process": memory["together"] / memory["plain"],
            "pass": (memory["together"] - memory["build"]) / (memory["plain"] - memory["build"]),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
    }
    if arguments.json:
        write_records(arguments.json, result)
    table = Table(title=f"{arguments.model}, {arguments.batch_size} x {arguments.seq_len} tokens")
    for column in ("what", "median s", "over plain", "peak MiB", "over plain "):
        table.add_column(column, justify="left" if column == "what" else "right")
    count = len(result["proxies"])
    table.add_row("plain forward + backward", f"{plain:.2f}", "1.00", f"{memory['plain'] / 2**20:.0f}", "1.00")
    table.add_row(
        f"{count} proxies together",
        f"{statistics.median(times['together']):.2f}",
        f"{statistics.median(ratios):.2f}",
        f"{memory['together'] / 2**20:.0f}",
        f"{result['memory_ratio']['process']:.2f}",
    )
    table.add_row(f"{count} proxies one by one", f"{separately:.2f}", f"{separately / plain:.2f}", "", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
