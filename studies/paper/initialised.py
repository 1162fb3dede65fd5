"""The GPT-2 space initialised as GPT-2 is: how the scale of output projections decides the published scores."""

from __future__ import annotations

from typing import Any

import torch

from lpzero_hf import score
from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.plugins import load_plugins
from lpzero_hf.spaces.base import Architecture
from studies.markdown import signed, table
from studies.study import WORKERS, Progress, Runs, Study, executor_of

BENCHMARK = "gpt2-wt103"
PUBLISHED = {  # our proxy: the column of published scores
    "grasp": "grasp",
    "lpzero_paper_gpt2": "lpzero",
    "eznas": "eznas",
    "fisher": "fisher",
    "grad_norm": "grad_norm",
    "snip": "snip",
}


class Initialised(Study):
    """Proxies of models whose output projections are drawn as GPT-2's are.

    Args:
        limit: architectures, evenly spaced.
        workers: processes.
    """

    name = "initialised"
    title = "Published GPT-2 scores: what the initialisation decides"

    def __init__(self, limit: int = 40, workers: int = WORKERS) -> None:
        self.limit, self.workers = limit, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """Score each architecture once."""
        benchmark = load_benchmark(BENCHMARK)
        entries = spaced(benchmark.trained(), self.limit)
        made: dict[int, dict[str, float]] = {}
        tasks = [entry.architecture for entry in entries]
        for number, scores in executor_of(self.workers).every(scaled, tasks):
            made[number] = scores
            progress("models with GPT-2's initialisation", len(made), len(entries))
        return {
            "architectures": [entry.key for entry in entries],
            "truth": [benchmark.target(entry) for entry in entries],
            "scores": {name: [made[i][name] for i in range(len(entries))] for name in PUBLISHED},
        }

    def show(self, runs: Runs) -> str:
        """Raw scores of both initialisations against the trained performance and the published scores."""
        found = runs["initialised"]
        keys, truth = found["architectures"], found["truth"]
        rows = []
        for name, column in PUBLISHED.items():
            theirs = _of(runs["published"][BENCHMARK], column, keys)
            ours = _of(runs["grades"][BENCHMARK], name, keys)
            pairs = ((theirs, truth), (ours, truth), (found["scores"][name], truth))
            ours_and_theirs = ((ours, theirs), (found["scores"][name], theirs))
            rows.append([f"`{name}`", *(signed(spearman(a, b) or 0.0) for a, b in (*pairs, *ours_and_theirs))])
        heads = (
            "proxy", "published: rho", "ours: rho", "with GPT-2's: rho", "ours with published",
            "with GPT-2's with published",
        )  # fmt: skip
        return (
            "GPT-2 draws its output projections with the standard deviation of all other weights divided by the square "
            "root of twice the depth. So did the models of the published scores. Our model of the space draws all "
            f"weights with one standard deviation. Raw scores, not turned, of {len(keys)} of the "
            f"{len(runs['grades'][BENCHMARK]['architectures'])} architectures:\n\n" + table(heads, rows)
        )


def scaled(architecture: Architecture) -> dict[str, float]:
    """The scores of an architecture whose output projections are scaled as GPT-2's are."""
    plugins = load_plugins()
    benchmark = load_benchmark(BENCHMARK, plugins)
    model = build_model(benchmark.space.config(architecture), seed=42)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("c_proj.weight"):
                weight.mul_((2 * len(architecture.layers)) ** -0.5)
    batch = minibatch(
        model, tokenizer=embedded_tokenizer(), batch_size=benchmark.batch_size, seq_len=benchmark.seq_len, seed=42
    )  # fmt: skip
    scores = score(model, batch, list(PUBLISHED), seed=42)
    return {name: scores[name].require() for name in PUBLISHED}


def _of(found: Any, name: str, keys: list[str]) -> list[float]:
    """The scores in a run file of some architectures."""
    by_key = dict(zip(found["architectures"], found["scores"][name], strict=True))
    return [float(by_key[key]) for key in keys]
