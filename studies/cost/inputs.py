"""How long spaces and tables take before anything is scored: a space of over a billion members, a table of many rows.

    python -m studies.cost.inputs [--rows 100000] [--draws 1000] [--repeats 3]

Every number is the median of the repeats in this process, in seconds of CPU time and of wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig

from lpzero_hf import ConfigSpace, benchmark_from_table, load_plugins

CHOICES: dict[str, Any] = {
    "hidden_size": {"from": 64, "to": 4096, "step": 64},
    "num_hidden_layers": {"from": 1, "to": 64},
    "num_attention_heads": {"from": 1, "to": 64},
    "num_key_value_heads": {"from": 1, "to": 16, "times": 2},
    "intermediate_size": {"from": 64, "to": 16384, "step": 64},
    "rope_parameters.rope_theta": {"from": 1e4, "to": 1e7, "times": 10},
    "tie_word_embeddings": [True, False],
    "hidden_act": ["silu", "gelu", "relu"],
    "max_position_embeddings": [1024, 2048, 4096],
}
CONSTRAINTS = (
    "hidden_size % (2 * num_attention_heads) == 0",
    "num_attention_heads % num_key_value_heads == 0",
    "2 * hidden_size <= intermediate_size <= 8 * hidden_size",
)
BASE = {"model_type": "llama", "vocab_size": 1000}


def made() -> ConfigSpace:
    """The space; its members are counted."""
    space = ConfigSpace("large", LlamaConfig(vocab_size=1000), CHOICES, constraints=CONSTRAINTS)
    space.count()
    return space


def write_fields(file: Path, rows: int) -> None:
    """A CSV with a column for each of six fields."""
    rng = random.Random(0)
    lines = ["hidden_size,num_hidden_layers,num_attention_heads,intermediate_size,rms_norm_eps,tokens,seed,val_loss"]
    for row in range(rows):
        width = rng.randrange(64, 4097, 64)
        inner, loss = width * rng.randint(1, 6), 3 + rng.random()
        lines.append(f"{width},{rng.randint(1, 80)},{rng.choice((1, 2, 4, 8))},{inner},1e-05,{10**9},{row},{loss:.6f}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_configs(file: Path, rows: int) -> None:
    """JSON Lines with a whole, different configuration in every row."""
    rng, config = random.Random(0), LlamaConfig(vocab_size=1000).to_dict()
    with file.open("w", encoding="utf-8") as out:
        for row in range(rows):
            line = {"config": config | {"hidden_size": 64 * (row + 1)}, "val_loss": 3 + rng.random()}
            out.write(json.dumps(line) + "\n")


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of CPU time and of wall-clock time."""
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return statistics.median(cpu for cpu, _ in found), statistics.median(wall for _, wall in found)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="of the tables")
    parser.add_argument("--draws", type=int, default=1000, help="members of the space")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    plugins, space = load_plugins(), made()
    shown = Table("what", "CPU s", "wall s", title=f"{space.size():,} members, {options.rows:,} rows")

    def add(what: str, work: Callable[[], Any]) -> None:
        cpu, wall = timed(work, options.repeats)
        shown.add_row(what, f"{cpu:.2f}", f"{wall:.2f}")

    add("make the space and count its members", made)
    add(f"draw {options.draws:,} members, all equally likely", lambda: space.samples(options.draws))
    add(f"draw {options.draws:,} members by choice", lambda: space.samples(options.draws, by="choice"))
    with TemporaryDirectory() as folder:
        fields, configs = Path(folder) / "fields.csv", Path(folder) / "configs.jsonl"
        write_fields(fields, options.rows)
        write_configs(configs, options.rows)
        add(
            "read a CSV of fields over a base",
            lambda: benchmark_from_table(fields, "val_loss", base=BASE, plugins=plugins).trained(),
        )
        add(
            "read JSON Lines of whole configurations",
            lambda: benchmark_from_table(configs, "val_loss", plugins=plugins).trained(),
        )
    Console().print(shown)


if __name__ == "__main__":
    main(sys.argv[1:])
