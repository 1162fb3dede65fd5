"""Checks that a change of the code leaves every number as it is, bit for bit: run it before and after, and compare.

    python scripts/same_numbers.py before.json      with one version
    python scripts/same_numbers.py after.json       with the other
    python scripts/same_numbers.py before.json after.json

Scores five models with every proxy, searches by evolution and exhaustively, and writes all numbers, floats exactly.
Uses only public names, so that it runs on any version.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

MODELS = (
    "gpt2-variant",
    "bert-mini",
    "llama-mini",
    "tiny-gpt2:d192.e128.k2-h4.i192-h2.i320-h8.i448",
    "flexibert:h128-sdp.a2.f512.n1-conv5.a2.f512.n3",
)
SEARCHES: dict[str, dict[str, Any]] = {
    "evolution": {"strategy": "evolution", "preset": "paper", "iterations": 300, "splits": 2, "train": 30, "limit": 60},
    "exhaustive": {"strategy": "exhaustive", "splits": 2, "train": 30, "limit": 60},
}


def numbers() -> dict[str, Any]:
    """Scores by model and proxy, and search results without their times and versions."""
    import torch

    from lpzero_hf import __version__, load_model, minibatch, score, search

    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    for name in MODELS:
        model = load_model(name).model
        scores = score(model, minibatch(model, batch_size=4, seq_len=32), "all")
        made[name] = {row.proxy: [row.status, row.value] for row in scores.rows}
    for name, chosen in SEARCHES.items():
        settings = {key: value for key, value in chosen.items() if key != "preset" or __version__ != "0.1.0"}
        result = search("tiny-gpt2", **settings).to_json()
        result.pop("seconds")
        result.pop("versions")
        for split in result["splits"]:
            split.pop("seconds")
        made[name] = result
    return made


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The places in which two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in {**one, **other}
            for line in differences(one.get(key, "missing"), other.get(key, "missing"), f"{where}/{key}")
        ]
    return [] if one == other else [f"{where}: {str(one)[:60]} | {str(other)[:60]}"]


def main(files: list[str]) -> int:
    """Write the numbers to one file, or compare two."""
    if len(files) == 2:
        one, other = (json.loads(Path(file).read_text(encoding="utf-8")) for file in files)
        found = differences(one, other)
        scores = sum(len(one[name]) for name in MODELS)
        print("\n".join(found) or f"identical: {scores} scores, {', '.join(SEARCHES)}")
        return 1 if found else 0
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LPZ_CACHE"] = cache
        Path(files[0]).write_text(json.dumps(numbers(), indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
