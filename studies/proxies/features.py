"""How well plain features of an architecture rank a benchmark, by ridge regression: a reference for proxies."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpzero_hf.benchmarks.agreement import kendall, spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.held_out import marks_of, unseen
from lpzero_hf.plugins import load_plugins
from lpzero_hf.spaces.base import Architecture
from studies.markdown import spread, table
from studies.study import Progress, Runs, Study

Array = NDArray[np.float64]
SEEDS, TRAIN, STRENGTH = range(42, 52), 50, 0.1

SAID = """\
On GPT-2 the perplexity is almost a function of width, depth and the width of the word vectors. The six statistics are
read inside the blocks, where the width of the word vectors is not visible. Width and depth alone, even when fitted to
all architectures, reach what the expressions reach. FlexiBERT's two widths and two depths make four groups, and the
order of these groups alone gives most of the possible agreement; tau-b gains from the ties."""


def gpt2(architecture: Architecture) -> dict[str, float]:
    """Width, depth, feed-forward width, heads, width of the word vectors, factor of the adaptive embedding."""
    width, word, factor = (float(value) for value in architecture.shared)
    heads, inner = (np.array([layer[i] for layer in architecture.layers], float).mean() for i in (0, 1))
    named = {"d_model": width, "n_layer": len(architecture.layers), "d_inner": inner, "n_head": heads}
    return named | {"d_embed": word, "k": factor}


def flexibert(architecture: Architecture) -> dict[str, float]:
    """Hidden size, depth, heads, feed-forward width and the number of feed-forward layers."""
    (width,) = architecture.shared
    heads, inner, count = (np.array([layer[i] for layer in architecture.layers], float).mean() for i in (1, 2, 3))
    named = {"d_model": float(width), "n_layer": len(architecture.layers), "d_inner": inner, "n_head": heads}
    return named | {"n_ffn": count}


BENCHMARKS: dict[str, tuple[Callable[[Architecture], Mapping[str, float]], Sequence[tuple[str, ...]]]] = {
    "gpt2-wt103": (
        gpt2,
        [("d_model", "n_layer"), ("d_model", "n_layer", "d_embed"), ("d_model", "n_layer", "d_embed", "k"), ()],
    ),
    "flexibert": (flexibert, [("d_model", "n_layer"), ("d_model", "n_layer", "n_ffn"), ()]),
}


def expanded(features: Array) -> Array:
    """Standardised logarithms [n, f] with all squares and products [n, f + f (f + 1) / 2]."""
    logs = np.log(features)
    scaled = (logs - logs.mean(0)) / np.maximum(logs.std(0), 1e-12)
    left, right = np.triu_indices(scaled.shape[1])
    return np.hstack([scaled, scaled[:, left] * scaled[:, right]])


def fitted(features: Array, target: Array, part: Sequence[int]) -> Array:
    """The prediction [n] for all architectures of a ridge regression on some of them."""
    x, y = features[part], target[part]
    centre, scale = x.mean(0), np.maximum(x.std(0), 1e-12)
    z = (x - centre) / scale
    weights = np.linalg.solve(z.T @ z + STRENGTH * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    prediction: Array = (features - centre) / scale @ weights + y.mean()
    return prediction


class Features(Study):
    """Ridge regressions on the architectures that each split of a search sees.

    Args:
        benchmarks: names of those in `BENCHMARKS`.
        seeds: of the splits.
        train: architectures that a split sees.
    """

    name = "features"
    title = "How far features of an architecture reach"

    def __init__(self, benchmarks: Sequence[str] = tuple(BENCHMARKS), seeds: Sequence[int] = SEEDS, train: int = TRAIN):
        self.benchmarks, self.seeds, self.train = benchmarks, seeds, train

    def make(self, progress: Progress) -> dict[str, Any]:
        """Agreement held out for each split, and fitted to all, of every choice of features."""
        plugins = load_plugins()
        rows: list[dict[str, Any]] = []
        for number, name in enumerate(self.benchmarks):
            describe, choices = BENCHMARKS[name]
            benchmark = load_benchmark(name, plugins)
            entries = benchmark.trained()
            described = [describe(entry.architecture) for entry in entries]
            truth = np.array([benchmark.target(entry) for entry in entries])
            marks = [marks_of(benchmark.space, entry.architecture) for entry in entries]
            target = truth if benchmark.larger_is_better else -np.log(-truth)
            for chosen in choices:
                used = chosen or tuple(described[0])
                features = expanded(np.array([[one[feature] for feature in used] for one in described]))
                rows.append(
                    {"benchmark": name, "features": "all" if not chosen else ", ".join(used), "count": len(used)}
                    | self._graded(features, target, truth, marks)
                )
            progress("ridge regressions", number + 1, len(self.benchmarks))
        return {"rows": rows, "train": self.train, "seeds": list(self.seeds)}

    def _graded(self, features: Array, target: Array, truth: Array, marks: Sequence[frozenset[str]]) -> dict[str, Any]:
        rho, tau = [], []
        for seed in self.seeds:
            part = random.Random(seed).sample(range(len(truth)), self.train)
            rest = unseen(marks, frozenset().union(*(marks[i] for i in part)))
            prediction = fitted(features, target, part)[rest]
            rho.append(spearman(prediction, truth[rest]))
            tau.append(kendall(prediction, truth[rest]))
        whole = fitted(features, target, range(len(truth)))
        return {"rho": rho, "tau": tau, "all": [spearman(whole, truth), kendall(whole, truth)]}

    def show(self, runs: Runs) -> str:
        """One table, and what it says."""
        found = runs["features"]
        rows, before = [], ""
        for one in found["rows"]:
            name = one["benchmark"] if one["benchmark"] != before else ""
            before = one["benchmark"]
            used = one["features"] if one["features"] != "all" else f"all {one['count']}"
            whole = ", ".join(f"{value:.4f}" for value in one["all"])
            rows.append([name, used, spread(one["rho"]), spread(one["tau"]), whole])
        heads = ("benchmark", "features", "rho held out", "tau held out", "fitted to all: rho, tau")
        return (
            f"Ridge regressions on a few features of an architecture, fitted to the {found['train']} architectures "
            f"that each of {len(found['seeds'])} splits searches on and graded on the others. Features are logarithms, "
            "with squares and products; the perplexity is fitted as its logarithm. This is a reference and no proxy: "
            "it is fitted to trained performance, and does not apply to any other space.\n\n"
            + table(heads, rows, left=2)
            + "\n\n"
            + SAID
        )
