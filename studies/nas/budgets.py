"""Architectures under a budget, chosen by proxies among trained ones (see `studies.nas.choosing`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lpz_nas.budget import count
from lpz_nas.evaluator import verdict_of

from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, load_benchmark
from lpzero_hf.benchmarks.held_out import searched_keys
from lpzero_hf.benchmarks.make import body_parameters
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import Row, evaluate
from lpzero_hf.scoring.setting import Setting
from studies.markdown import table
from studies.nas.choosing import LARGEST, choosers, play, summary
from studies.study import WORKERS, Progress, Runs, Study, executor_of

SEARCHED = ("lpzero-gpt2", "lpzero-any-0.1.0")
QUANTITIES = ("params", "decoder_params")
PROXIES = ("attention_params", "decoder_params", "snip", "head_importance_lpzero", "w_pca")
SAID = """\
Most of the gain over the largest by all parameters comes from not counting embeddings: `attention_params`, a plain
count, does well under both budgets. A proxy that does well under one can fall below "largest" under the other.
`lpzero-gpt2`, searched on other architectures of this space, is first or second under both budgets. `lpzero-any-0.1.0`
chooses better than the counts under the first and worse than the largest under the second."""


class Nas(Study):
    """Choices under budgets of all parameters and of those outside embeddings, without and with searched proxies.

    Args:
        benchmark: its name.
        proxies: names; each list is a measurement of its own.
        budgets: how many.
        seeds: how many.
        most: candidates.
        workers: processes.
    """

    name = "nas"
    title = "Choosing among trained architectures"

    def __init__(
        self,
        benchmark: str = "gpt2-wt103",
        proxies: Sequence[Sequence[str]] = (PROXIES, (*SEARCHED, *PROXIES)),
        budgets: int = 20,
        seeds: int = 20,
        most: int = 50,
        workers: int = WORKERS,
    ) -> None:
        self.benchmark, self.proxies, self.workers = benchmark, proxies, workers
        self.budgets, self.seeds, self.most = budgets, seeds, most

    def make(self, progress: Progress) -> dict[str, Any]:
        """One measurement for each list of proxies and each quantity that the budget limits."""
        benchmark = load_benchmark(self.benchmark)
        tables = []
        for names in self.proxies:
            entries, scores = scored(benchmark, names, self.workers, progress)
            target = [benchmark.target(entry) for entry in entries]
            for quantity in QUANTITIES:
                if quantity == "params":
                    sizes = [count(benchmark.space.config(entry.architecture)) for entry in entries]
                else:
                    sizes = [body_parameters(benchmark.space, entry.architecture) for entry in entries]
                ways = choosers(sizes, scores)
                limits, found = play(target, sizes, ways, self.budgets, self.seeds, self.most)
                rows = [summary(name, outcomes, found[LARGEST]) for name, outcomes in found.items()]
                rows.sort(key=lambda row: row["regret"]["value"])
                searched = [name for name in names if name in SEARCHED]
                tables.append(
                    {"quantity": quantity, "searched": searched, "n": len(entries), "budgets": limits, "rows": rows}
                )
        options = {"budgets": self.budgets, "seeds": self.seeds, "most": self.most}
        return {"benchmark": self.benchmark, "metric": benchmark.metric, "options": options, "tables": tables}

    def show(self, runs: Runs) -> str:
        """The tables, and what they say."""
        found = runs["nas"]
        options = found["options"]
        parts = [
            f"Candidates are trained architectures of `{found['benchmark']}`, with their trained performance hidden: "
            f"{options['budgets']} budgets, {options['seeds']} seeds, each with up to {options['most']} of the "
            'architectures under the budget. A proxy takes the one it scores best, "largest" the one with the most '
            'parameters, "chance" any. Searched proxies score on the minibatch they were searched on, 4 x 32, the '
            "others on 8 x 64. The percentile is the true place of the chosen architecture, 0 for the best of the "
            "candidates. The regret is its metric less that of the best candidate. Brackets are 95% bootstrap "
            "intervals over draws, all from the same models."
        ]
        for one in found["tables"]:
            what = "all parameters" if one["quantity"] == "params" else "the parameters outside embeddings and head"
            searched = ", with proxies searched on others of this space" if one["searched"] else ""
            parts.append(f"The budget limits {what}; {one['n']} architectures{searched}:")
            parts.append(choices(one["rows"], found["metric"]))
        return "\n\n".join([*parts, SAID])


def choices(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The rows of a measurement as a Markdown table."""

    def shown(of: Mapping[str, float], digits: int) -> str:
        return f"{of['value']:.{digits}f} [{of['low']:.{digits}f}, {of['high']:.{digits}f}]"

    heads = (
        "chosen by",
        "true percentile (0 best)",
        f"regret, {metric}",
        "regret saved over the largest",
        "best chosen",
    )
    return table(
        heads,
        [
            [
                row["chooser"],
                shown(row["percentile"], 1),
                shown(row["regret"], 2),
                shown(row["saved_over_largest"], 2),
                f"{100 * row['best_chosen']['value']:.0f}%",
            ]
            for row in rows
        ],
    )


def scored(
    benchmark: Benchmark, names: Sequence[str], workers: int, progress: Progress
) -> tuple[list[Trained], dict[str, list[float | None]]]:
    """The trained architectures that no proxy was searched on, and the scores of each, higher for better."""
    plugins = load_plugins()
    proxies = {name: find_proxy(name, plugins) for name in names}
    searched_on = {key for proxy in proxies.values() for key in searched_keys(proxy, benchmark, plugins)}
    entries = [entry for entry in benchmark.trained() if entry.key not in searched_on]
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    rows: dict[str, dict[str, Row]] = {entry.key: {} for entry in entries}
    usual = benchmark.batch_size, benchmark.seq_len
    for size in dict.fromkeys(proxy.minibatch or usual for proxy in proxies.values()):  # that it was searched on
        alike = [proxy for proxy in proxies.values() if (proxy.minibatch or usual) == size]

        def step(done: int, total: int, what: str = f"{len(alike)} proxies, {size[0]} x {size[1]}") -> None:
            progress(what, done, total)

        with ScoreCache() as cache:
            found = evaluate(
                configs, alike, Setting(*size),
                cache=cache, executor=executor_of(workers), plugins=plugins, progress=step,
            )  # fmt: skip
        for key, scores in found.items():
            rows[key] |= scores

    def values(proxy: str) -> list[float | None]:
        made = [rows[entry.key][proxy] for entry in entries]
        return [verdict_of(row["value"], row["orientation"], row["status"], row["reason"]).value for row in made]

    return entries, {name: values(proxy.name) for name, proxy in proxies.items()}
