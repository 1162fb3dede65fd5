"""Architectures under a budget, chosen by proxies among trained ones (see `studies.nas.choosing`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from lpz_nas.evaluator import verdict_of
from lpz_zoo.benchmarks import GPT2_FILES, KEY, LM1B, LM1B_FILES, SECONDS, WT103, gpt2_rows

from lpzero_hf.benchmarks.agreement import Vector
from lpzero_hf.benchmarks.benchmark import Benchmark, load_benchmark
from lpzero_hf.benchmarks.held_out import searched_keys
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.consensus_proxy import ConsensusProxy
from lpzero_hf.proxies.evidence import WINNER, recommended
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.transfer_rows import vector
from studies.nas.budget_pages import Page
from studies.nas.choosing import alike, limits, play, resamples, summary
from studies.proxies.evidence import graded_runs
from studies.study import WORKERS, Progress, Runs, Study, executor_of, read

BENCHMARKS = {"gpt2-wt103": (GPT2_FILES, WT103), "gpt2-lm1b": (LM1B_FILES, LM1B)}
COUNTS = ("decoder_params", "params", "attention_params", "num_layers")
RIVAL = "decoder_params"  # what LiteTransformerSearch chooses by
LEFT_OUT = "consensus without it"
KINDS = {  # of budgets: the sizes that they are about, and how
    "at most N parameters": ("params", limits),
    "at most N decoder parameters": ("decoder_params", limits),
    "at most N seconds of training": (SECONDS, limits),
    "parameters within 10%": ("params", alike),
    "decoder parameters within 10%": ("decoder_params", alike),
}


@dataclass(frozen=True)
class Pool:
    """Trained architectures to choose among.

    Args:
        benchmark: its name.
        metric: what they were trained for.
        target: [n], trained performance, higher for better.
        sizes: by name, [n].
        scores: by way to choose, [n], higher for better, NaN for none.
        seen: by way to choose, what of the benchmark it was chosen with.
        without: how many were left out because a proxy was searched on them.
    """

    benchmark: str
    metric: str
    target: Vector
    sizes: Mapping[str, Vector]
    scores: Mapping[str, Vector]
    seen: Mapping[str, str]
    without: int = 0


class Nas(Study):
    """Choices under budgets of parameters, of training time, and at equal size.

    Args:
        benchmarks: their names.
        budgets: of each kind.
        seeds: resamples of the architectures.
        searched: the benchmarks on which searched proxies choose too; each must score all architectures again.
        workers: processes.
    """

    name = "nas"
    title = "Choosing among trained architectures"
    figures = ("nas-choices",)

    def __init__(
        self,
        benchmarks: Sequence[str] = tuple(BENCHMARKS),
        budgets: int = 20,
        seeds: int = 1000,
        searched: Sequence[str] = ("gpt2-wt103",),
        workers: int = WORKERS,
    ) -> None:
        self.searched = searched
        self.benchmarks, self.budgets, self.seeds, self.workers = benchmarks, budgets, seeds, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """Of each pool and kind of budget, a row for each way to choose."""
        pools = []
        for name in self.benchmarks:
            for pool in pools_of(name, name in self.searched, self.workers, progress):
                progress(f"choices on {name}", 0, 1)
                pools.append(choices(pool, self.budgets, self.seeds))
        return {"options": {"budgets": self.budgets, "seeds": self.seeds}, "rival": RIVAL, "pools": pools}

    def show(self, runs: Runs) -> str:
        """The tables, and what they say."""
        return Page(runs[self.name]).text()

    def draw(self, runs: Runs) -> Mapping[str, Any]:
        """The percentile of each choice by kind of budget."""
        return {"nas-choices": Page(runs[self.name]).figure()}


def choices(pool: Pool, budgets: int, seeds: int) -> dict[str, Any]:
    """What every way to choose leads to, for each kind of budget whose sizes are known."""
    drawn = resamples(len(pool.target), seeds)
    kinds = []
    for kind, (quantity, make) in KINDS.items():
        if quantity in pool.sizes:
            made = make(pool.sizes[quantity], budgets)
            found = play(pool.target, pool.sizes["params"], pool.scores, made, drawn)
            rows = [summary(name, outcomes, found[RIVAL]) for name, outcomes in found.items()]
            admitted = made.admits.sum(1)
            kinds.append({"kind": kind, "budgets": made.values, "admitted": admitted.tolist(), "rows": rows})
    return {
        "benchmark": pool.benchmark, "metric": pool.metric, "n": len(pool.target), "without": pool.without,
        "seen": dict(pool.seen), "kinds": kinds,
    }  # fmt: skip


def pools_of(name: str, all_shipped: bool, workers: int, progress: Progress) -> Iterator[Pool]:
    """All architectures of a benchmark; then, where a shipped proxy was searched on some, the others with it.

    Args:
        name: of the benchmark.
        all_shipped: whether the shipped proxies that were searched choose too.
        workers: processes that score for them.
        progress: see `Study.make`.

    Scores of built-in proxies are those that the studies of grades have kept, and those of the consensus, with and
    without this benchmark, its study.
    """
    plugins = load_plugins()
    benchmark, run = load_benchmark(name, plugins), graded_runs()[name]
    keys: list[str] = list(run["architectures"])
    installed = {name: claim.item for name, claim in installed_proxies(plugins).items()}
    chosen = recommended("decoder", plugins)
    named = [proxy.name for proxy in chosen if proxy.name in run["scores"]]
    scores = {
        proxy: installed[proxy].orientation * vector(run["scores"][proxy]) for proxy in dict.fromkeys([*COUNTS, *named])
    }
    sizes = {"params": scores["params"], "decoder_params": scores["decoder_params"]}
    files, logs = BENCHMARKS[name]
    seconds = {row[KEY]: row[SECONDS] for row in gpt2_rows(files.path(), logs)}
    sizes[SECONDS] = np.array([seconds[key] for key in keys])
    sign = -1 if re.match("smaller|lower", run["facts"]["better"]) else 1
    target = sign * vector(run["truth"])
    seen = {WINNER: "chosen with this benchmark and four others"}
    scores = consensus_scores(name, keys, installed[WINNER]) | scores
    pool = partial(Pool, name, benchmark.metric)
    searched = [p for p in installed.values() if all_shipped and isinstance(p, SearchedProxy) and p.trained_on]
    theirs = searched_scores(benchmark, keys, searched, workers, progress)
    known = {proxy.name: searched_keys(proxy, benchmark, plugins) for proxy in searched}
    first = {name: values for name, values in theirs.items() if not known[name]}
    yield pool(target, sizes, first | scores, seen)
    if len(first) < len(searched):
        left = [place for place, key in enumerate(keys) if not any(key in some for some in known.values())]
        seen |= {name: "searched on others of this benchmark" for name, some in known.items() if some}
        yield pool(
            target[left],
            {quantity: values[left] for quantity, values in sizes.items()},
            {way: values[left] for way, values in (theirs | scores).items()},
            seen,
            len(keys) - len(left),
        )


def consensus_scores(name: str, keys: Sequence[str], shipped: Proxy) -> dict[str, Vector]:
    """The ranks by the shipped consensus, and by the one that was chosen without this benchmark."""
    data = read("consensus").data
    assert data["benchmarks"][name]["architectures"] == list(keys)
    rows = {row["name"]: row for row in data["rows"]}
    assert isinstance(shipped, ConsensusProxy)
    assert rows["consensus: on all"]["found"][name] == [[shipped.formula, 1]]
    return {
        WINNER: vector(rows["consensus: on all"]["scores"][name]),
        LEFT_OUT: vector(rows["consensus"]["scores"][name]),
    }


def searched_scores(
    benchmark: Benchmark, keys: Sequence[str], proxies: Sequence[Proxy], workers: int, progress: Progress
) -> dict[str, Vector]:
    """The scores of searched proxies, each on the minibatch that it was searched on, higher for better."""
    entries = {entry.key: entry for entry in benchmark.trained()}
    configs = {key: benchmark.space.config(entries[key].architecture) for key in keys}
    usual = benchmark.batch_size, benchmark.seq_len
    found: dict[str, Vector] = {}
    for size in dict.fromkeys(proxy.minibatch or usual for proxy in proxies):
        same = [proxy for proxy in proxies if (proxy.minibatch or usual) == size]

        def step(done: int, total: int, what: str = f"{len(same)} proxies, {size[0]} x {size[1]}") -> None:
            progress(f"{what} on {benchmark.name}", done, total)

        with ScoreCache() as cache:
            rows = evaluate(configs, same, Setting(*size), cache=cache, executor=executor_of(workers), progress=step)
        for proxy in same:
            made = [rows[key][proxy.name] for key in keys]
            found[proxy.name] = vector(
                [verdict_of(row["value"], row["orientation"], row["status"], row["reason"]).value for row in made]
            )
    return found
