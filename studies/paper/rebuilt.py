"""The published FlexiBERT scores, rebuilt the way their authors' notebook builds and differentiates the models."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lpzero_hf.benchmarks.agreement import kendall, spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.spaces.base import Architecture
from lpzero_hf.spaces.named import load_space
from studies.markdown import signed, table
from studies.study import WORKERS, Progress, Runs, Study, executor_of

HIDDEN, WIDTH = 256, 1024  # what the notebook's models have, whatever was trained
BATCH, LENGTH = 8, 64
PROJECTIONS = ("query", "key", "value", "input", "similarity")
PUBLISHED = {
    "Synaptic Saliency": "Synaptic Saliency",
    "Head Importance": "Head Importance",
    "Head Confidence": "Head Confidence",
    "SNIP": "",
    "GradNorm": "",
}


class Rebuilt(Study):
    """Scores of the models that were scored, by the gradient that was taken.

    Args:
        limit: architectures, evenly spaced.
        doubled: of them in double precision as well.
        workers: processes.
    """

    name = "rebuilt"
    title = "Published scores, rebuilt"

    def __init__(self, limit: int = 100, doubled: int = 10, workers: int = WORKERS) -> None:
        self.limit, self.doubled, self.workers = limit, doubled, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """One forward and one backward pass for each architecture."""
        entries = spaced(load_benchmark("flexibert").trained(), self.limit)
        tasks = [(entry.architecture, doubled) for doubled in (False, True) for entry in entries]
        tasks = tasks[: len(entries) + self.doubled]
        made: dict[int, dict[str, float]] = {}
        for number, scores in executor_of(self.workers).every(rebuilt, tasks):
            made[number] = scores
            progress("models as they were scored", len(made), len(tasks))
        return {
            "architectures": [entry.key for entry in entries],
            "truth": [entry.quality for entry in entries],
            "scores": {name: [made[i][name] for i in range(len(entries))] for name in PUBLISHED},
            "doubled": {name: [made[i][name] for i in range(len(entries), len(tasks))] for name in PUBLISHED},
        }

    def show(self, runs: Runs) -> str:
        """What rebuilt scores agree with, and how large they are in either precision."""
        found = runs["rebuilt"]
        rows = []
        for name, column in PUBLISHED.items():
            scores, doubled = found["scores"][name], found["doubled"][name]
            theirs = _theirs(runs["published"]["flexibert"], column, found["architectures"])
            truth = found["truth"]
            shrunk = statistics.median(b / a for a, b in zip(scores, doubled, strict=False))
            rows.append(
                [
                    name,
                    "—" if theirs is None else _signed(spearman(theirs, truth)),
                    f"{_signed(spearman(scores, truth))}, {_signed(kendall(scores, truth))}",
                    "—" if theirs is None else _signed(spearman(scores, theirs)),
                    f"{shrunk:.0e}",
                ]
            )
        heads = (
            "proxy", "published: rho", "rebuilt: rho, tau", "rebuilt with published: rho", "double over single "
            "precision",
        )  # fmt: skip
        return (
            f"{len(found['truth'])} of the {len(runs['published']['flexibert']['architectures'])} architectures, built "
            f"as `BERT_metrics.ipynb` builds them (hidden size {HIDDEN}, width {WIDTH}, in training mode), on "
            f"{BATCH} x {LENGTH} of our tokens. The gradient is that of the sum of the last hidden states, which "
            "LayerNorm makes zero: in double precision the scores shrink by the factor in the last column. So in "
            "single precision the scores are rounding. Its size grows with the number of layers and weights, which is "
            "why such scores agree with the trained performance at all. Head Confidence needs no gradient and does not "
            "shrink.\n\n" + table(heads, rows)
        )


def rebuilt(task: tuple[Architecture, bool]) -> dict[str, float]:
    """Scores of an architecture as the notebook builds it, perhaps in double precision."""
    architecture, doubled = task
    layers = tuple((layer[0], layer[1], WIDTH, layer[3]) for layer in architecture.layers)
    space = load_space("flexibert")
    model = build_model(space.config(replace(architecture, shared=(HIDDEN,), layers=layers)), seed=0)
    encoder: Any = model.base_model
    encoder.to(torch.float64 if doubled else torch.float32).train()
    outputs: list[torch.Tensor] = []
    for layer in encoder.layers:
        for name in PROJECTIONS:
            if isinstance(getattr(layer.mixer, name, None), nn.Linear):
                getattr(layer.mixer, name).register_forward_hook(
                    lambda module, given, made: outputs.append(made.detach())
                )
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=BATCH, seq_len=LENGTH, seed=42)
    torch.manual_seed(0)
    last = encoder(batch["input_ids"]).last_hidden_state
    last.backward(torch.ones_like(last))
    feeds = [part for layer in encoder.layers for part in layer.feed_forward.modules() if isinstance(part, nn.Linear)]
    mixers = [
        part
        for layer in encoder.layers
        for name, part in layer.mixer.named_modules()
        if isinstance(part, nn.Linear) and name != "output" and part.weight.shape[0] >= 128
    ]
    every = [part for layer in encoder.layers for part in layer.modules() if isinstance(part, nn.Linear)]
    return {
        "Synaptic Saliency": _saliency(feeds),
        "Head Importance": _saliency(mixers),
        "Head Confidence": float(sum(made.amax(1).mean() for made in outputs)),
        "SNIP": _saliency(every),
        "GradNorm": float(sum(_gradient(part).norm() for part in every)),
    }


def _saliency(parts: list[nn.Linear]) -> float:
    return float(sum((part.weight.detach() * _gradient(part)).abs().sum() for part in parts))


def _gradient(part: nn.Linear) -> torch.Tensor:
    gradient = part.weight.grad
    return torch.zeros_like(part.weight) if gradient is None else gradient


def _theirs(published: Mapping[str, Any], column: str, keys: list[str]) -> list[float] | None:
    if not column:
        return None
    by_key = dict(zip(published["architectures"], published["scores"][column], strict=True))
    return [by_key[key] for key in keys]


def _signed(value: float | None) -> str:
    return "—" if value is None else signed(value)
