"""How our scores rank architectures, compared with the scores that other groups have published.

    LPZ_DATA=... python -m benchmarks.published [--json FILE]

Prints a Markdown table: for every published proxy of the benchmarks `gpt2-wt103` and `flexibert`, Spearman's
rho of the published scores with the trained performance, of ours with it, and of ours with theirs. The files
of published scores are not part of what `lpz bench get` downloads; they lie in the folder named by `LPZ_DATA`
(see the README). Our scores come from the cache where `lpz bench eval` has been run.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import yaml

from lpzero_hf.agreement import spearman
from lpzero_hf.cache import ScoreCache
from lpzero_hf.files import write_json
from lpzero_hf.grading import Report, grade
from lpzero_hf.plugins import load_plugins

GPT2 = "lpzero/saved_logs/random_GPT2_wt103"
GPT2_PROXIES = {
    "snip": "snip",
    "grad_norm": "grad_norm",
    "synaptic_saliency": "synaptic_saliency_lpzero",
    "logsynflow": "logsynflow_lpzero",
    "fisher": "fisher",
    "num_parameters": "params",
    "synaptic_diversity": "synaptic_diversity_lpzero",
    "head_importance": "head_importance_lpzero",
    "attention_confidence": "attention_confidence_lpzero",
    "head_confidence": "attention_confidence_lpzero",
    "activation_distance": "activation_distance_lpzero",
    "jacobian_cosine": "jacobian_cosine",
    "synflow": "synflow",
    "grasp": "grasp",
    "eznas": "eznas",
    "lpzero": "lpzero_paper_gpt2",
}
FLEXIBERT = "nas-bench-bert/published_scores.csv"
FLEXIBERT_PROXIES = {
    "Number of Parameters": "params",
    "Synaptic Diversity": "synaptic_diversity",
    "Synaptic Saliency": "synaptic_saliency_lpzero",
    "Activation Distance": "activation_distance",
    "Jacobian Score": "jacobian_covariance",
    "Head Importance": "head_importance",
    "Head Confidence": "attention_confidence_lpzero",
    "Head Softmax Confidence": "softmax_confidence",
}
FLEXIBERT_LPZERO = "lpzero/BERT_results_activation_lpzero.csv"


def gpt2_scores(data: Path) -> dict[str, dict[str, float]]:
    """The published scores of `gpt2-wt103`: proxy, then architecture, to score."""
    scores = {}
    for name in GPT2_PROXIES:
        raw = yaml.safe_load((data / GPT2 / f"{name}_scores_seed_1111.yaml").read_text(encoding="utf-8"))
        scores[name] = {key: float(value) for key, value in raw.items()}
    return scores


def flexibert_scores(data: Path) -> dict[str, dict[str, float]]:
    """The published scores of `flexibert`: proxy, then architecture, to score."""
    with (data / FLEXIBERT).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {name: {row["ID"]: float(row[name]) for row in rows} for name in FLEXIBERT_PROXIES}
    with (data / FLEXIBERT_LPZERO).open(encoding="utf-8", newline="") as file:
        scores["lpzero"] = {row["ID"]: float(row["lpzero"]) for row in csv.DictReader(file)}
    return scores


def compare(report: Report, published: dict[str, dict[str, float]], ours: dict[str, str]) -> list[dict[str, object]]:
    """One row per published proxy; rho with the trained performance has the sign of the raw scores."""
    better = -1 if report.benchmark == "gpt2-wt103" else 1
    rows: list[dict[str, object]] = []
    for name, scores in published.items():
        proxy = ours.get(name)
        triples = [
            (scores[entry.key], value, better * entry.quality)
            for entry, value in zip(
                report.trained, report.scores.get(proxy or "", [0.0] * len(report.trained)), strict=True
            )
            if entry.key in scores and value is not None
        ]
        theirs, mine, truth = zip(*triples, strict=True)
        rows.append(
            {
                "benchmark": report.benchmark,
                "published": name,
                "ours": proxy,
                "n": len(triples),
                "theirs_with_truth": spearman(theirs, truth),
                "ours_with_truth": spearman(mine, truth),
                "ours_with_theirs": spearman(mine, theirs),
            }
        )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    data = Path(os.environ["LPZ_DATA"])
    plugins = load_plugins()
    rows = []
    for name, published, ours in (
        ("gpt2-wt103", gpt2_scores(data), GPT2_PROXIES),
        ("flexibert", flexibert_scores(data), FLEXIBERT_PROXIES),
    ):
        report = grade(
            plugins.benchmark(name), list(dict.fromkeys(ours.values())), cache=ScoreCache(), workers=arguments.workers
        )
        rows += compare(report, published, ours)
    print("| benchmark | published proxy | ours | n | theirs with truth | ours with truth | ours with theirs |")
    print("|---|---|---|--:|--:|--:|--:|")
    for row in rows:
        numbers = (row["theirs_with_truth"], row["ours_with_truth"], row["ours_with_theirs"])
        told = " | ".join("—" if number is None else f"{number:+.3f}" for number in numbers)
        print(f"| {row['benchmark']} | {row['published']} | {row['ours'] or '—'} | {row['n']} | {told} |")
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
