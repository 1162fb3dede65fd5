"""Whether what was found on one benchmark ranks another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.expressions.expression import parse
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import load_plugins
from lpzero_hf.searching.config import SearchConfig
from studies.markdown import interval, signed, table
from studies.search.searched import agreement_on, both, stack_of
from studies.study import Progress, Runs, Study, read

BENCHMARKS = ("flexibert", "gpt2-wt103", "tiny-gpt2")
FOUND_ON = {
    "search-flexibert": "flexibert",
    "search-gpt2": "gpt2-wt103",
    "search-tiny": "tiny-gpt2",
    "search-both": "flexibert and gpt2-wt103",
}


class Transfer(Study):
    """Winners of each search on all benchmarks."""

    name = "transfer"
    title = "Found on one benchmark, tested on the others"

    def make(self, progress: Progress) -> dict[str, Any]:
        """Score the winners of every split on the benchmarks that they were not searched on."""
        plugins = load_plugins()
        found: dict[str, Any] = {study: [{} for _ in read(study).data["splits"]] for study in FOUND_ON}
        for name in BENCHMARKS:
            benchmark = load_benchmark(name, plugins)
            truth = torch.tensor([benchmark.target(entry) for entry in benchmark.trained()], dtype=torch.float64)
            stack = stack_of(name, SearchConfig((name,)), progress)
            for study, rows in found.items():
                searched = read(study).data
                if name in searched["plan"]["benchmarks"]:
                    continue
                for row, split in zip(rows, searched["splits"], strict=True):
                    for kind in ("winner", "ensemble"):
                        chosen = split[kind]
                        expressions = [parse(text, installed_operations(plugins)) for text in chosen["expressions"]]
                        agreement = agreement_on(stack, expressions, chosen["orientations"], truth, range(len(truth)))
                        row.setdefault(kind, {})[name] = agreement.to_dict()
        return found

    def show(self, runs: Runs) -> str:
        """Rows: where it was found; columns: where it was tested."""
        rows = []
        for study, on in FOUND_ON.items():
            for kind, what in (("winner", "one expression"), ("ensemble", "five, summed ranks")):
                rows.append([on, what, *(_cell(runs, study, kind, name) for name in BENCHMARKS)])
        return (
            "Exhaustive search over one unary operation on 50 architectures (50 of each if there are two), ten splits. "
            "Each cell is a rho: on the held-out architectures of a benchmark that was searched on (bold), on all "
            f"architectures of the others.\n\n{table(['found on', 'ranked by', *BENCHMARKS], rows, left=2)}"
        )  # fmt: skip


def _cell(runs: Runs, study: str, kind: str, name: str) -> str:
    own = name in runs[study]["plan"]["benchmarks"]
    splits: list[Mapping[str, Any]] = runs[study]["splits"] if own else runs["transfer"][study]
    path = (kind, "held_out", name) if own else (kind, name)
    rho = interval(both(splits, *path)[0], signed)
    return f"**{rho}**" if own else rho
