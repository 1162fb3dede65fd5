"""How well plain features of an architecture rank a benchmark, by ridge regression: what a proxy could reach at most.

    LPZ_DATA=... python -m benchmarks.features

Fits the trained performance on the architectures that each split of `lpz search --train 50 --splits 10` searches on,
and grades the fit on the others. Features are logarithms, with squares and products. It is a yardstick, no proxy: it
sees the trained performance of 50 architectures, and knows nothing of any other space.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lpzero_hf.agreement import kendall, spearman
from lpzero_hf.plugins import load_plugins
from lpzero_hf.spaces import Architecture

Array = NDArray[np.float64]
SEEDS, TRAIN, STRENGTH = range(42, 52), 50, 0.1


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


def main() -> None:
    """Print one table per benchmark."""
    plugins = load_plugins()
    for name, (describe, choices) in BENCHMARKS.items():
        benchmark = plugins.benchmark(name)
        entries = benchmark.trained()
        rows = [describe(entry.architecture) for entry in entries]
        goodness = np.array([benchmark.goodness(entry) for entry in entries])
        target = goodness if benchmark.larger_is_better else -np.log(-goodness)
        table = Table(title=f"{name}: ridge regression on logarithms, squares and products, searched on {TRAIN}")
        for column in ("features", "rho held out", "tau held out", "rho, fitted to all", "tau, fitted to all"):
            table.add_column(column, justify="left" if column == "features" else "right")
        for chosen in choices:
            used = chosen or tuple(rows[0])
            features = expanded(np.array([[row[feature] for feature in used] for row in rows]))
            found = []
            for seed in SEEDS:
                part = random.Random(seed).sample(range(len(entries)), TRAIN)
                rest = sorted(set(range(len(entries))) - set(part))
                prediction = fitted(features, target, part)[rest]
                found.append((spearman(prediction, goodness[rest]), kendall(prediction, goodness[rest])))
            mean, deviation = np.mean(found, 0), np.std(found, 0)
            whole = fitted(features, target, range(len(entries)))
            table.add_row(
                ", ".join(used),
                f"{mean[0]:.4f} ± {deviation[0]:.4f}",
                f"{mean[1]:.4f} ± {deviation[1]:.4f}",
                f"{spearman(whole, goodness):.4f}",
                f"{kendall(whole, goodness):.4f}",
            )
        Console(width=150).print(table)


if __name__ == "__main__":
    main()
