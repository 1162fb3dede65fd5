"""Grades every built-in proxy on every benchmark of the zoo and prints RESULTS.md as far as the section Search.

    LPZ_DATA=... python -m benchmarks.results

Takes the scores that are in the cache already (see `LPZ_CACHE`) and makes the others, on all cores. The
comparison with the scores of other groups needs their files, in the folder named by `LPZ_DATA`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

import lpzero_hf
from benchmarks.published import FLEXIBERT_PROXIES, GPT2_PROXIES, compare, flexibert_scores, gpt2_scores
from lpzero_hf.agreement import Estimate
from lpzero_hf.benchmarks import Benchmark, describe
from lpzero_hf.cache import ScoreCache
from lpzero_hf.grading import Report, grade
from lpzero_hf.plugins import load_plugins
from lpzero_hf.searched_proxy import SearchedProxy

WORKERS = len(os.sched_getaffinity(0))
OWN = "lpzero-hf"
INTRODUCTION = """\
# Results

Every number before the section Search was printed by `LPZ_DATA=... python -m benchmarks.results`; the same tables
come one by one from the commands above them. rho is Spearman's, tau is Kendall's tau-b, both between a proxy's score,
turned so that larger should be better, and the trained performance, turned likewise; a negative value is a proxy that
ranks the wrong way round. Brackets hold 95% percentile bootstrap intervals (1,000 resamples of the architectures).
"top 10%" is the share of the truly best tenth among the best-scored tenth. s/arch is the median time to score one
architecture on one core with the other cores busy alike; proxies that share a pass all show the time of the whole
shared pass. `num_layers`, `num_heads`, `params` and `decoder_params` are the trivial baselines. No proxy of those
sections was tuned or chosen on these benchmarks; which one is best on each was not known before, and picking the top
row of a table is a choice made on the data the table reports."""


def interval(estimate: Estimate | None) -> str:
    """An estimate for a table."""
    return "—" if estimate is None else f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def table(report: Report) -> str:
    """The grades as a Markdown table, the best rho first."""
    lines = ["| proxy | rho [95%] | tau [95%] | top 10% | n | s/arch |", "|---|--:|--:|--:|--:|--:|"]
    for one in report.grades:
        agreement = one.agreement
        if agreement is None:
            lines.append(f"| {one.proxy} | — | — | — | 0 | {one.seconds:.2f} |")
            continue
        numbers = (
            f"{interval(agreement.spearman)} | {interval(agreement.kendall)} | {agreement.top:.2f} | {agreement.n}"
        )
        lines.append(f"| {one.proxy} | {numbers} | {one.seconds:.2f} |")
    return "\n".join(lines)


def graded(benchmark: Benchmark, proxies: list[str]) -> tuple[Report, str]:
    """The grades of a benchmark, and how they were made."""
    fresh: list[int] = []

    def note(done: int, total: int) -> None:
        fresh.append(total - done)

    start = time.perf_counter()
    report = grade(benchmark, proxies, cache=ScoreCache(), workers=WORKERS, progress=note)
    seconds = time.perf_counter() - start
    setting = report.setting
    made = (
        f"`lpz bench eval {benchmark.name}`: {len(report.trained)} architectures, minibatch {setting.batch_size} x "
        f"{setting.seq_len} tokens, {setting.dtype}, seed {setting.seed}, {WORKERS} workers of 1 thread. "
    )
    if fresh[0] == len(report.trained):
        made += f"The whole run took {seconds / 60:.1f} minutes. "
    else:
        made += f"{len(report.trained) - fresh[0]} architectures came from the cache. "
    return report, made + f"Random scores exceed a rho of {report.chance:.3f} in 5% of draws."


def facts(benchmark: Benchmark) -> str:
    """The spread and the noise of a benchmark's trained performance."""
    told: dict[str, Any] = describe(benchmark)
    spread = told["spread"]
    text = (
        f"{told['metric']}: {spread['minimum']:.3f} to {spread['maximum']:.3f}, median {spread['median']:.3f}, "
        f"standard deviation {spread['standard_deviation']:.3f}."
    )
    if told.get("noise"):
        noise = told["noise"]
        text += (
            f" Noise ceiling: the rankings of {noise['architectures_with_several_seeds']} architectures by two of "
            f"{noise['seeds']} seeds agree with a rho of {noise['spearman_between_seeds']:.3f} (tau "
            f"{noise['kendall_between_seeds']:.3f}) on average; one seed's standard deviation is "
            f"{noise['standard_deviation_of_a_seed']:.4f}. Made by `{told['made_by']}`."
        )
    return text + (f" {told['notes']}." if told["notes"] else "")


def comparison(rows: list[dict[str, Any]]) -> str:
    """Our scores beside the published ones as a Markdown table."""
    lines = [
        "| published proxy | ours | theirs with truth | ours with truth | ours with theirs |",
        "|---|---|--:|--:|--:|",
    ]
    for row in rows:
        numbers = (row["theirs_with_truth"], row["ours_with_truth"], row["ours_with_theirs"])
        told = " | ".join("—" if number is None else f"{number:+.3f}" for number in numbers)
        lines.append(f"| {row['published']} | {row['ours'] or '—'} | {told} |")
    return "\n".join(lines)


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def main() -> None:
    """Print RESULTS.md as far as the section Search."""
    plugins = load_plugins()
    claims = [claim for claim in plugins.proxies.values() if claim.distribution == OWN]
    proxies = [claim.item.name for claim in claims if not isinstance(claim.item, SearchedProxy)]
    print(INTRODUCTION)
    print(
        f"\nMachine: {WORKERS} cores, {processor()}, CPU only. lpzero-hf {lpzero_hf.__version__}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}."
    )
    data = Path(os.environ["LPZ_DATA"]) if "LPZ_DATA" in os.environ else None
    published: dict[str, Callable[[Path], dict[str, dict[str, float]]]] = {
        "gpt2-wt103": gpt2_scores,
        "flexibert": flexibert_scores,
    }
    ours = {"gpt2-wt103": GPT2_PROXIES, "flexibert": FLEXIBERT_PROXIES}
    for name in ("gpt2-wt103", "flexibert", "tiny-gpt2"):
        benchmark = plugins.benchmark(name)
        report, made = graded(benchmark, proxies)
        print(f"\n## {name}\n\n{made}\n\n{facts(benchmark)}\n\n{table(report)}")
        if name in published and data is not None:
            rows = compare(report, published[name](data), ours[name])
            print(f"\n### {name}: our scores and the published ones\n\n{comparison(rows)}")


if __name__ == "__main__":
    main()
