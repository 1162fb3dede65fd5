"""The scores that other groups have published for each architecture, and what these scores alone show.

The files are not part of what `lpz bench get` downloads: they are read from the folder named by LPZ_DATA, in `make`
only. `nas-bench-bert/published_scores.csv` is data/BERT_results_activation.csv of the GitHub repository
aaronserianni/training-free-nas; `lpzero/` holds saved_logs/random_GPT2_wt103/*_scores_seed_1111.yaml and
BERT_results_activation_lpzero.csv of pprp/LPZero.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it comes without types

from lpzero_hf.benchmarks.benchmark import Trained, load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import load_plugins
from studies.markdown import plain
from studies.paper.checks import activation_check, count_check, lpzero_check, parameter_check, width_check
from studies.study import Progress, Runs, Study

DIGITS = 9
GPT2 = "lpzero/saved_logs/random_GPT2_wt103"
GPT2_PROXIES = (
    "snip", "grad_norm", "synaptic_saliency", "logsynflow", "fisher", "num_parameters", "synaptic_diversity",
    "head_importance", "attention_confidence", "head_confidence", "activation_distance", "jacobian_cosine", "synflow",
    "grasp", "eznas", "lpzero",
)  # fmt: skip
FLEXIBERT = "nas-bench-bert/published_scores.csv"
FLEXIBERT_PROXIES = (
    "Number of Parameters", "Synaptic Diversity", "Synaptic Saliency", "Activation Distance",
    "Activation Distance Normalized", "Jacobian Score", "Jacobian Score Normalized", "Head Importance",
    "Head Confidence", "Head Softmax Confidence",
)  # fmt: skip
FLEXIBERT_LPZERO = "lpzero/BERT_results_activation_lpzero.csv"


class Published(Study):
    """The published scores, in the order of the benchmarks."""

    name = "published"
    title = "Published scores"

    def make(self, progress: Progress) -> dict[str, Any]:
        """Read the files."""
        if "LPZ_DATA" not in os.environ:
            raise LpzError("published scores are read from the folder named by LPZ_DATA; set it (see the README)")
        data = Path(os.environ["LPZ_DATA"])
        plugins = load_plugins()
        flexibert, gpt2 = (load_benchmark(name, plugins).trained() for name in ("flexibert", "gpt2-wt103"))
        theirs = flexibert_scores(data, flexibert)
        progress("published scores", 1, 2)
        found = {
            "flexibert": {
                "architectures": [entry.key for entry in flexibert],
                "scores": theirs,
                "parameters": parameter_check(flexibert, theirs["Number of Parameters"]),
                "activations": activation_check(flexibert, theirs),
            },
            "gpt2-wt103": {
                "architectures": [entry.key for entry in gpt2],
                "scores": (scores := gpt2_scores(data, gpt2)),
                "lpzero": lpzero_check(gpt2, scores["lpzero"]),
                "activations": width_check(gpt2, scores["activation_distance"]),
                "eznas": count_check(gpt2, scores["eznas"]),
            },
        }
        progress("published scores", 2, 2)
        return found

    def show(self, runs: Runs) -> str:
        """What the published scores alone show."""
        flexibert, gpt2 = runs["published"]["flexibert"], runs["published"]["gpt2-wt103"]
        one, two, three, four, five = (
            flexibert["parameters"], flexibert["activations"], gpt2["lpzero"], gpt2["activations"], gpt2["eznas"],
        )  # fmt: skip
        return f"""\
What can be checked on the published scores alone, without a model:

- FlexiBERT's "Number of Parameters" is a sum of one number for each operation (and its heads, for convolutions) and one
  for each long feed-forward stack: the largest residual of such a sum is {one["residual"]:.0e} parameters over all
  {one["n"]} architectures. Hidden size and feed-forward width do not enter. The notebook that made the scores
  (`BERT_metrics.ipynb`) passes neither, so every model was scored with a hidden size of 256 and a width of 1024. The
  trained models have 128 or 256, and 512 or 1024. This holds for all of its scores.
- FlexiBERT's "Activation Distance" sums over every hook registered since the program began. This includes the hooks
  of earlier models, because all share one module for the activation function. Divided by its own mean, the score gives
  its number of terms: {two["first"]} for the first architecture, up to {two["most"]} for later ones; a model itself has
  {two["own"]}. In units of the model's own terms, that number grows from one architecture to the next by exactly the
  layers of the next in {two["steps"]} of {two["n"] - 1} steps. With its own terms only, the score has a rho of
  {plain(two["corrected"])} (tau {plain(two["corrected_tau"])}) instead of {plain(two["rho"])}.
- GPT-2's "lpzero", the paper's winner, is a closed formula of widths and depth: the mean over linear layers of
  s^2 + 1 / inputs^2 with s = 0.02. At output projections s^2 is divided by twice the depth, as in GPT-2's
  initialisation. The rho of the two is {three["with_theirs"]:.4f}, their median relative difference
  {three["difference"]:.0e}. The formula needs no data and no gradient; its rho with the trained performance is
  {plain(three["rho"])}, that of the published scores {plain(three["theirs"])}.
- GPT-2's "activation_distance" follows the number of outputs of all linear layers with a rho of
  {four["with_theirs"]:.4f}; Serianni and Kalita define it on the feed-forward activations.
- GPT-2's "eznas" is a whole number for {five["whole"]} of {five["n"]} architectures, and follows the number of layers
  with a rho of {plain(five["with_depth"])}."""


def gpt2_scores(data: Path, entries: Sequence[Trained]) -> dict[str, list[float]]:
    """The published scores of `gpt2-wt103` by proxy, for each architecture in order."""
    scores = {}
    for name in GPT2_PROXIES:
        raw = yaml.safe_load((data / GPT2 / f"{name}_scores_seed_1111.yaml").read_text(encoding="utf-8"))
        scores[name] = [_short(raw[entry.key]) for entry in entries]
    return scores


def flexibert_scores(data: Path, entries: Sequence[Trained]) -> dict[str, list[float]]:
    """The published scores of `flexibert` by proxy, for each architecture in order."""
    rows, more = _csv(data / FLEXIBERT), _csv(data / FLEXIBERT_LPZERO)
    scores = {name: [_short(rows[entry.key][name]) for entry in entries] for name in FLEXIBERT_PROXIES}
    return scores | {"lpzero": [_short(more[entry.key]["lpzero"]) for entry in entries]}


def _csv(file: Path) -> dict[str, dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return {row["ID"]: row for row in csv.DictReader(opened)}


def _short(value: float | str) -> float:
    return float(f"{float(value):.{DIGITS}g}")
