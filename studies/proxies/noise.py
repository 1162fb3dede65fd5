"""How far training noise limits the agreement of any proxy with a benchmark."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.benchmarks.agreement import Estimate, kendall, spearman
from lpzero_hf.benchmarks.benchmark import by_seed, load_benchmark
from lpzero_hf.plugins import load_plugins
from studies.markdown import interval, table
from studies.study import Progress, Runs, Study

BENCHMARKS = ("flexibert", "gpt2-wt103", "tiny-lm", "tiny-gpt2")
DRAWS = 1000


class Noise(Study):
    """The agreement of a proxy that knows the mean performance of an architecture over seeds of training."""

    name = "noise"
    title = "Noise ceilings"

    def make(self, progress: Progress) -> dict[str, Any]:
        """The noise of one training, from architectures trained more than once, and the ceiling that follows."""
        plugins = load_plugins()
        found: dict[str, Any] = {}
        for name in BENCHMARKS:
            benchmark = load_benchmark(name, plugins)
            repeats: dict[str, list[float]] = {}
            if benchmark.document is None:
                for entry in benchmark.trained():
                    repeats.setdefault(str(entry.architecture), []).append(entry.quality)
            else:
                for losses in by_seed(benchmark.document()).values():
                    for architecture, loss in losses.items():
                        repeats.setdefault(architecture, []).append(loss)
            repeated = [values for values in repeats.values() if len(values) > 1]
            freedom = sum(len(values) - 1 for values in repeated)
            found[name] = {"repeated": len(repeated), "deviation": None}
            if not freedom:
                continue
            variance = sum(statistics.variance(values) * (len(values) - 1) for values in repeated) / freedom
            low, high = (math.sqrt(freedom * variance / stats.chi2.ppf(p, freedom)) for p in (0.975, 0.025))
            qualities = np.array([entry.quality for entry in benchmark.trained()])
            sizes = {"value": math.sqrt(variance), "low": low, "high": high}
            found[name] |= {
                "deviation": sizes,
                "spread": float(qualities.std()),
                "ceiling": {size: ceiling(qualities, deviation) for size, deviation in sizes.items()},
            }
        return found

    def show(self, runs: Runs) -> str:
        """One row per benchmark."""
        rows = []
        for name, record in runs[self.name].items():
            if record["deviation"] is None:
                rows.append([name, "0", "unknown", "—", "unknown", "unknown"])
                continue
            deviation = Estimate(**record["deviation"])
            ceilings = [
                Estimate(*(record["ceiling"][size][kind] for size in ("value", "high", "low"))) for kind in (0, 1)
            ]
            rows.append(
                [
                    name,
                    str(record["repeated"]),
                    interval(deviation),
                    f"{record['spread']:.3f}",
                    *map(interval, ceilings),
                ]
            )
        every = next(
            row for row in runs["features"]["rows"] if (row["benchmark"], row["features"]) == ("gpt2-wt103", "all")
        )
        heads = ["benchmark", "trained more than once", "sd of one training", "sd of the benchmark", "rho", "tau"]
        return (
            "An architecture trained again with another seed reaches another performance. The ceiling is the agreement "
            "of a proxy that knows the mean over seeds exactly. It is computed from values with the benchmark's "
            f"variance less that of the noise, against the same values with noise added: the mean of {DRAWS} draws. "
            "Brackets are the 95% interval of the noise (chi-squared), and the ceilings at its two ends. No "
            "architecture of `gpt2-wt103` is known to have been trained twice. A regression on "
            f"{every['count']} features of an architecture has a rho of {statistics.mean(every['rho']):.3f} there on "
            "held-out architectures, so its ceiling is at least that high.\n\n"
            f"{table(heads, rows)}"
        )  # fmt: skip


def ceiling(qualities: np.ndarray[Any, np.dtype[np.float64]], deviation: float) -> tuple[float, float]:
    """Mean rho and tau of true values with noisy ones."""
    rng = np.random.default_rng(42)
    share = max(0.0, 1 - deviation**2 / qualities.var())
    true = qualities.mean() + (qualities - qualities.mean()) * math.sqrt(share)
    pairs = [
        (spearman(true, noisy) or 0.0, kendall(true, noisy) or 0.0)
        for noisy in (true + rng.normal(0, deviation, len(true)) for _ in range(DRAWS))
    ]
    rho, tau = np.mean(pairs, 0)
    return float(rho), float(tau)
