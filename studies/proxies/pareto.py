"""What agreement costs: in the complexity of an expression, and in seconds of scoring."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.score import score
from studies.markdown import table
from studies.study import Progress, Runs, Study

BENCHMARKS = ("flexibert", "gpt2-wt103")
FRONTS = {"flexibert": ("search-flexibert", "search-flexibert-2"), "gpt2-wt103": ("search-gpt2",)}
ARCHITECTURES = 5
QUICK = 0.02  # seconds; labels of what is faster stand to the right of it, others to the left
WINNERS = {"lpzero-flexibert": "search-flexibert-2", "lpzero-gpt2": "search-gpt2", "lpzero-any-0.1.0": "search-both"}


class Pareto(Study):
    """The proxies that no other beats in both agreement and time, and rho against complexity."""

    name = "pareto"
    title = "Agreement against complexity and time"
    figures = ("pareto-time",)

    def make(self, progress: Progress) -> dict[str, Any]:
        """Seconds of every proxy alone, on one thread: the median over a few architectures."""
        plugins = load_plugins()
        found: dict[str, Any] = {}
        for name in BENCHMARKS:
            benchmark = load_benchmark(name, plugins)
            seconds: dict[str, list[float]] = {}
            for number, entry in enumerate(spaced(benchmark.trained(), ARCHITECTURES)):
                progress(f"seconds on {name}", number, ARCHITECTURES)
                model = build_model(benchmark.space.config(entry.architecture), seed=42)
                batch = minibatch(
                    model, tokenizer=embedded_tokenizer(), batch_size=benchmark.batch_size, seq_len=benchmark.seq_len,
                    seed=42,
                )  # fmt: skip
                for claim in installed_proxies(plugins).values():
                    one = score(model, batch, [claim.item], seed=42, plugins=plugins)
                    whole = sum(one.seconds.values()) + sum(row.seconds for row in one.rows)  # passes, and itself
                    seconds.setdefault(claim.item.name, []).append(whole)
            progress(f"seconds on {name}", ARCHITECTURES, ARCHITECTURES)
            found[name] = {proxy: statistics.median(values) for proxy, values in seconds.items()}
            found[name]["searched"] = [
                claim.item.name
                for claim in installed_proxies(plugins).values()
                if isinstance(claim.item, SearchedProxy)
            ]
        return found

    def show(self, runs: Runs) -> str:
        """The two fronts of each benchmark."""
        parts = [
            "Seconds are of one proxy alone on one thread, minibatch 8 x 64, the median of "
            f"{ARCHITECTURES} architectures. Many proxies share one pass, so together they cost far less than their "
            "sum. The table lists every proxy whose rho no faster proxy reaches. rho is on all architectures; proxies "
            "called lpzero-... were searched on 50 of them and are graded on the rest."
        ]  # fmt: skip
        for name in BENCHMARKS:
            rows = [[proxy, f"{rho:+.3f}", f"{seconds:.3f}"] for seconds, rho, proxy in front(self._points(runs, name))]
            parts.append(f"### {name}: agreement against time\n\n{table(['proxy', 'rho', 's alone'], rows)}")
        for name, studies in FRONTS.items():
            rows = [
                [study, str(complexity), f"{fitness:.4f}", f"{held:.4f}", str(count)]
                for study in studies
                for complexity, fitness, held, count in _complexities(runs[study], name)
            ]
            heads = ["search", "complexity", "rho searched on", "rho held out", "splits"]
            parts.append(
                f"### {name}: agreement against complexity\n\nThe fittest expression of each complexity, means over "
                f"splits.\n\n{table(heads, rows)}"
            )
        return "\n\n".join(parts)

    def draw(self, runs: Runs) -> Mapping[str, Any]:
        """Rho against seconds."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), BENCHMARKS, strict=True):
            points = self._points(runs, name)
            best = front(points)
            searched = runs[self.name][name]["searched"]
            for seconds, rho, proxy in points:
                colour = "C3" if proxy in searched else "0.6"
                axes.scatter(seconds, rho, s=18, color=colour, linewidths=0)
            axes.step([p[0] for p in best], [p[1] for p in best], where="post", color="C0", linewidth=1)
            for number, (seconds, rho, proxy) in enumerate(best):
                axes.annotate(  # in lines of their own, so that none covers another
                    proxy, (seconds, rho), fontsize=7, ha="left" if seconds < QUICK else "right",
                    xytext=(seconds, 0.96 - 0.04 * number), textcoords=("data", "axes fraction"),
                    arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6},
                )  # fmt: skip
            axes.set_xscale("log")
            axes.set_ylim(top=1.0 + 0.08 * (len(best) + 1))
            axes.set(title=name, xlabel="seconds alone", ylabel="rho")
        return {"pareto-time": figure}

    def _points(self, runs: Runs, name: str) -> list[tuple[float, float, str]]:
        """(seconds, rho, proxy) of every proxy with a rho."""
        seconds = runs[self.name][name]
        rhos = {
            grade["proxy"]: Agreement.from_dict(grade["agreement"]).spearman
            for grade in runs["grades"][name]["grades"]
            if grade["agreement"] is not None
        }
        points = [(seconds[proxy], rho.value, proxy) for proxy, rho in rhos.items() if rho and proxy in seconds]
        for proxy, study in WINNERS.items():
            held_out = runs[study]["splits"][0]["winner"]["held_out"].get(name) if study in runs else None
            if held_out is not None:
                points.append((seconds[proxy], held_out["spearman"]["value"], proxy))
        return points


def front(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The points that no faster point reaches, the fastest first."""
    best: list[tuple[float, float, str]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def _complexities(data: Mapping[str, Any], name: str) -> list[tuple[int, float, float, int]]:
    """(complexity, mean fitness, mean held-out rho, splits) of the Pareto fronts of all splits."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for split in data["splits"]:
        for point in split["pareto"]:
            if (held := point["held_out"][name]) is not None:
                rows.setdefault(point["complexity"], []).append((point["fitness"], point["orientation"] * held))
    return [
        (complexity, *(statistics.mean(column) for column in zip(*pairs, strict=True)), len(pairs))
        for complexity, pairs in sorted(rows.items())
    ]
