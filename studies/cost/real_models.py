"""What `lpz score` takes on published shapes, as its user meets it: time and memory of the whole command.

    python -m studies.cost.real_models [--lpz PATH] [--repeats 3] [--limit 900] [--json FILE]

Each command runs in a process of its own: the median of its seconds, start included, and of the largest memory that it
held. `--lpz` measures another installation, such as an earlier version. `--json` puts the rows into FILE beside those
of other versions, and replaces those of the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpzero_hf.files import read_json
from studies.markdown import table
from studies.study import write_records

SHAPES: dict[str, dict[str, Any]] = {  # as their configurations are published
    "SmolLM2-135M": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "max_position_embeddings": 8192, "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
    },
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
    },
}  # fmt: skip
CASES = (  # a model, and the options
    ("gpt2-variant", ()),
    ("SmolLM2-135M", ()),
    ("SmolLM2-135M", ("--proxy", "all")),
    ("Qwen3-0.6B", ()),
)
Row = dict[str, Any]


def write_shapes(folder: Path) -> dict[str, str]:
    """A `config.json` in `folder` for each shape; what to call each on a command line."""
    called = {}
    for name, shape in SHAPES.items():
        file = folder / name / "config.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(shape), encoding="utf-8")
        called[name] = str(file)
    return called


def measure(command: Sequence[str], limit: float, environment: Mapping[str, str]) -> Row:
    """Run a command to its end, or for `limit` seconds: its seconds, its largest memory, and why it failed if it did.

    The process does no work of its own before the command, so that none of its memory is counted.
    """
    with tempfile.TemporaryFile() as told:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env=environment)
        while True:
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
            seconds = time.perf_counter() - start
            if ended:
                break
            if seconds > limit:
                child.kill()
                _, status, usage = os.wait4(child.pid, 0)
                break
            time.sleep(0.02)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        told.seek(0)
        lines = told.read().decode(errors="replace").strip().splitlines()
    reason = "" if code == 0 else f"no answer in {limit:.0f} s" if seconds > limit else (lines or [f"exit {code}"])[-1]
    bytes_ = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "peak_bytes": bytes_, "failed": reason}


def measured(program: str, repeats: int, limit: float, environment: Mapping[str, str]) -> list[Row]:
    """A row for each case; a command that fails is not repeated."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        called = write_shapes(Path(folder))
        for model, options in CASES:
            command = [program, "score", called.get(model, model), *options]
            found: list[Row] = []
            while len(found) < repeats and not any(one["failed"] for one in found):
                found.append(measure(command, limit, environment))
            rows.append(
                {"model": model, "options": " ".join(options), "failed": found[-1]["failed"], "times": found}
                | {name: statistics.median(one[name] for one in found) for name in ("seconds", "peak_bytes")}
            )
    return rows


def section(document: Mapping[str, Any]) -> str:
    """The measurements as text: a row for each version and case."""
    rows = [
        [
            run["version"],
            f"`lpz score {row['model']}{' ' * bool(row['options'])}{row['options']}`",
            row["failed"] or "yes",
            str(len(row["times"])),
            f"{row['seconds']:.1f}",
            f"{row['peak_bytes'] / 2**30:.1f}",
        ]
        for row_number in range(len(CASES))
        for run in document["runs"]
        for row in run["rows"][row_number : row_number + 1]
    ]
    machines = "; ".join(dict.fromkeys(f"{run['machine']}" for run in document["runs"]))
    return (
        "### Real models\n\n"
        f"`python -m studies.cost.real_models`, {machines}. Whole commands in processes of their own, start included; "
        "medians. SmolLM2-135M and Qwen3-0.6B are their published configurations with random weights. Without names, "
        "0.1.0 scores with all proxies that it has, which are fewer; later versions with the recommended ones. All are "
        "in single precision.\n\n"
        f"{table(['version', 'command', 'answered', 'runs', 's', 'peak GiB'], rows, left=3)}"
    )


def joined(before: Mapping[str, Any] | None, run: Mapping[str, Any]) -> dict[str, Any]:
    """The document with one run more, in the place of that of the same version."""
    others = [] if before is None else [one for one in before["runs"] if one["version"] != run["version"]]
    return {"runs": sorted([*others, run], key=lambda one: str(one["version"]))}


def main() -> int:
    """Measure, print a table, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lpz", type=Path, help="the command of another installation; default: the one on the path")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a command has no answer")
    parser.add_argument("--json", type=Path, help="file to write, or to add to")
    arguments = parser.parse_args()
    program = shutil.which(str(arguments.lpz or "lpz"))
    if program is None:
        parser.error(f"there is no command '{arguments.lpz or 'lpz'}'; install lpzero-hf, or give --lpz PATH")
    # An installation of its own must not find the code of this one.
    environment = {k: v for k, v in os.environ.items() if arguments.lpz is None or k != "PYTHONPATH"}
    version = subprocess.run(
        [program, "--version"], check=True, capture_output=True, text=True, env=environment
    ).stdout.split()[-1]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    machine = f"{os.cpu_count()} cores, {threads} threads, load {os.getloadavg()[0]:.1f} before"
    rows = measured(program, arguments.repeats, arguments.limit, environment)
    run = {"version": version, "machine": machine, "made": time.strftime("%Y-%m-%d"), "rows": rows}
    print(section({"runs": [run]}))
    if arguments.json is not None:
        before = read_json(arguments.json, "") if arguments.json.exists() else None
        write_records(arguments.json, joined(before, run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
