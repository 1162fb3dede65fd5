"""What published scores alone show: each check compares them with a count or a closed formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lpzero_hf.benchmarks.agreement import kendall, spearman
from lpzero_hf.benchmarks.benchmark import Trained

OPERATIONS = ("sdp", "wma", "dft", "dct", "conv5", "conv9")
DEVIATION = 0.02  # of GPT-2's random weights


def parameter_check(entries: Sequence[Trained], count: Sequence[float]) -> dict[str, Any]:
    """How well operations, heads and stacks alone explain the published numbers of parameters."""
    rows: list[list[float]] = []
    for entry in entries:
        layers = entry.architecture.layers
        mixers = [sum(layer[0] == name for layer in layers) for name in OPERATIONS]
        wide = [sum(layer[0] == name and layer[1] == 4 for layer in layers) for name in ("conv5", "conv9")]
        rows.append([1, *mixers, *wide, sum(layer[3] == 3 for layer in layers)])
    features, target = np.array(rows, float), np.array(count)
    weights = np.linalg.lstsq(features, target)[0]
    return {"n": len(entries), "residual": float(np.abs(features @ weights - target).max())}


def activation_check(entries: Sequence[Trained], scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """How many terms the published sum has, and what it would be with those of its own model."""
    total, mean = np.array(scores["Activation Distance"]), np.array(scores["Activation Distance Normalized"])
    own = np.array([sum(int(layer[3]) for layer in entry.architecture.layers) for entry in entries])
    terms = np.round(total / mean)
    depth = [len(entry.architecture.layers) for entry in entries]
    steps = sum(
        int(after - before == layers)
        for before, after, layers in zip(terms[:-1] / own[:-1], terms[1:] / own[1:], depth[1:], strict=True)
    )
    truth = [entry.quality for entry in entries]
    return {
        "n": len(entries),
        "first": int(terms[0]),
        "most": int(terms.max()),
        "own": f"{own.min()} to {own.max()}",
        "steps": steps,
        "rho": spearman(total, truth),
        "corrected": spearman(mean * own, truth),
        "corrected_tau": kendall(mean * own, truth),
    }


def lpzero_check(entries: Sequence[Trained], scores: Sequence[float]) -> dict[str, Any]:
    """The published winner's scores against a closed formula of widths and depth."""
    made = [closed_form(entry) for entry in entries]
    truth = [-entry.quality for entry in entries]
    return {
        "with_theirs": spearman(made, scores),
        "difference": float(np.median(np.abs(np.array(made) / np.array(scores) - 1))),
        "rho": spearman(made, truth),
        "theirs": spearman(scores, truth),
    }


def closed_form(entry: Trained) -> float:
    """The mean over linear layers of the variance of the weights and 1 / inputs^2."""
    width, depth = float(entry.architecture.shared[0]), len(entry.architecture.layers)
    plainly, scaled = DEVIATION**2, DEVIATION**2 / (2 * depth)
    sites = [
        site
        for _, inner in entry.architecture.layers
        for site in (plainly + width**-2, scaled + width**-2, plainly + width**-2, scaled + float(inner) ** -2)
    ]
    return float(np.mean(sites))


def width_check(entries: Sequence[Trained], scores: Sequence[float]) -> dict[str, Any]:
    """The published activation distance against the number of outputs of all linear layers."""
    outputs = [
        sum(5 * float(entry.architecture.shared[0]) + float(inner) for _, inner in entry.architecture.layers)
        for entry in entries
    ]
    return {"with_theirs": spearman(outputs, scores)}


def count_check(entries: Sequence[Trained], scores: Sequence[float]) -> dict[str, Any]:
    """How many of the published EZNAS scores are whole numbers, and how they follow depth."""
    depth = [len(entry.architecture.layers) for entry in entries]
    whole = sum(abs(score - round(score)) < 0.001 for score in scores)
    return {"n": len(entries), "whole": whole, "with_depth": spearman(depth, scores)}
