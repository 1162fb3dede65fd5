"""A small benchmark without its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lpzero_hf.benchmarks.benchmark import FORMAT, VERSION


def write_benchmark(folder: Path, losses: Mapping[str, float]) -> str:
    """Make the folder that `lpz bench train` would leave.

    Args:
        folder: to be made.
        losses: by the text id of an architecture in the space tiny-gpt2.
    """
    document = {
        "format": FORMAT, "version": VERSION, "name": "made", "space": "tiny-gpt2", "larger_is_better": False,
        "metric": "validation loss (nats per token)", "command": "", "versions": {}, "corpus": {},
        "plan": {"n": len(losses), "seed": 42, "recipe": {"seq_len": 8}},
        "trained": [{"architecture": name, "seed": 42, "loss": loss} for name, loss in losses.items()],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "benchmark.json").write_text(json.dumps(document))
    return str(folder)
