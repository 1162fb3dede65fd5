"""Searches on some architectures, graded on the others: one study for each space, strategy and set of benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lpzero_hf.benchmarks.agreement import Agreement, Estimate
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.searching.benchmark_scores import agreement_of
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.result import SearchResult, Split, Winner
from lpzero_hf.searching.search import search
from lpzero_hf.searching.table_cache import make_tables
from studies.markdown import pooled, table
from studies.study import Progress, Runs, Study, executor_of

TOPS = (1, 3, 5, 10)  # of the fittest, for rank ensembles
Data = Mapping[str, Any]


class Searched(Study):
    """The winners of ten splits with their held-out agreement, ensembles of the fittest, and Pareto fronts."""

    def __init__(self, name: str, title: str, plan: SearchConfig, ceiling: bool = True) -> None:
        self.name, self.title = name, title  # type: ignore[misc]  # one class, several studies
        self.plan, self.ceiling = plan, ceiling

    def make(self, progress: Progress) -> dict[str, Any]:
        """Search, then score what was found on all architectures."""

        def step(what: str, done: int, total: int, best: float | None) -> None:
            progress(what, done, total)

        result = search(self.plan, ceiling=self.ceiling, executor=executor_of(), progress=step)
        stacks = {name: stack_of(name, self.plan, progress) for name in self.plan.benchmarks}
        truths = {name: torch.tensor(values, dtype=torch.float64) for name, values in result.truth.items()}
        return {
            "plan": self.plan.to_json(),
            "size": result.size,
            "ceiling": None if result.ceiling is None else [str(result.ceiling.expression), result.ceiling.fitness],
            "splits": [_split(split, result, stacks, truths) for split in result.splits],
            "seconds": result.seconds,
        }

    def show(self, runs: Runs) -> str:
        """The command, and the winner of each split."""
        data, plan = runs[self.name], self.plan
        command = (
            f"lpz search {' '.join(plan.benchmarks)} --strategy {plan.strategy} --unary {plan.unary[0]} --train "
            f"{plan.train} --splits {plan.splits}" + " --preset paper" * (plan.strategy == "evolution")
        )
        evaluated = statistics.mean(split["evaluated"] for split in data["splits"])
        text = f"`{command}`: {data['size']:,} members, {evaluated:,.0f} evaluated in each split."
        if data["ceiling"] is not None:
            expression, fitness = data["ceiling"]
            text += f" The fittest expression on all architectures is `{expression}` with {fitness:.4f}."
        rows = []
        for split in data["splits"]:
            winner = split["winner"]
            sign = "- " if winner["orientations"][0] < 0 else ""
            numbers = [number for name in plan.benchmarks for number in _numbers(winner["held_out"][name])]
            rows.append([str(split["seed"]), f"`{sign}{winner['expressions'][0]}`", *numbers])
        heads = [f"{name} {kind}" for name in plan.benchmarks for kind in ("rho", "tau")]
        return f"{text}\n\n{table(['seed', 'winner', *heads], rows, left=2)}"


def _split(
    split: Split, result: SearchResult, stacks: Mapping[str, Stack], truths: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    held = result.held_out(split)
    tops = {}
    for count in TOPS:
        chosen = split.fittest[:count]
        tops[str(count)] = {
            name: agreement_on(
                stacks[name], [c.expression for c in chosen], [c.orientation for c in chosen], truths[name], held[name]
            ).to_dict()
            for name in stacks
        }
    return {
        "seed": split.seed,
        "winner": _winner(split.winner),
        "ensemble": _winner(split.ensemble),
        "baselines": {
            name: {proxy: agreement.to_dict() for proxy, agreement in found.items()}
            for name, found in split.baselines.items()
        },
        "fittest": split.fittest[0].fitness,
        "tops": tops,
        "pareto": [
            {
                "complexity": candidate.expression.complexity,
                "orientation": candidate.orientation,
                "expression": str(candidate.expression),
                "fitness": candidate.fitness,
                "held_out": {
                    name: _rho(agreement_on(stack, [candidate.expression], [1], truths[name], held[name]))
                    for name, stack in stacks.items()
                },
            }
            for candidate in split.pareto
        ],
        "evaluated": split.evaluated,
        "seconds": split.seconds,
    }  # fmt: skip


def _winner(winner: Winner) -> dict[str, Any]:
    """Without the scores."""
    record = winner.to_json()
    return {key: record[key] for key in ("expressions", "orientations", "held_out")}


def stack_of(name: str, plan: SearchConfig, progress: Progress) -> Stack:
    """The tables of all architectures of a benchmark, from the cache or made anew."""
    plugins = load_plugins()
    benchmark = load_benchmark(name, plugins)
    entries = spaced(benchmark.trained(), plan.limit)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    wanted = plan.space(installed_operations(plugins)).wanted
    tables = make_tables(
        configs, wanted, plan.setting, cache_folder() / "tables",
        executor=executor_of(), plugins=plugins,
        progress=lambda done, total: progress(f"tables of {name}", done, total),
    )  # fmt: skip
    return Stack(tables, wanted)


def agreement_on(
    stack: Stack,
    expressions: Sequence[Expression],
    orientations: Sequence[int],
    truth: torch.Tensor,
    part: Sequence[int],
) -> Agreement:
    """Of one expression, or of the summed ranks of several, on some architectures; those without a score left out."""
    chosen = list(part)
    scores = torch.stack([stack.score(e) * o for e, o in zip(expressions, orientations, strict=True)])[:, chosen]
    return agreement_of(scores[0] if len(scores) == 1 else scores, truth[chosen])


def estimates(splits: Sequence[Data], kind: str, *path: str) -> list[Estimate | None]:
    """What is found at `path` in every split: Spearman's or Kendall's estimate."""
    found: list[Estimate | None] = []
    for split in splits:
        place: Any = split
        for step in path:
            place = place[step]
        found.append(None if place[kind] is None else Estimate(**place[kind]))
    return found


def both(splits: Sequence[Data], *path: str) -> tuple[Estimate | None, Estimate | None]:
    """Rho and tau over splits, with intervals."""
    return pooled(estimates(splits, "spearman", *path)), pooled(estimates(splits, "kendall", *path))


def _numbers(record: Data) -> list[str]:
    agreement = Agreement.from_dict(record)
    return ["—" if e is None else f"{e.value:.3f}" for e in (agreement.spearman, agreement.kendall)]


def _rho(agreement: Agreement) -> float | None:
    return None if agreement.spearman is None else agreement.spearman.value  # signed: the raw score's


def _plan(*benchmarks: str, strategy: str = "exhaustive", unary: int = 1) -> SearchConfig:
    return SearchConfig(benchmarks, strategy=strategy, unary=(unary, unary), splits=10, preset="paper")


SEARCHES = (
    Searched("search-flexibert", "Exhaustive search on FlexiBERT, one unary operation", _plan("flexibert")),
    Searched(
        "search-flexibert-2", "Exhaustive search on FlexiBERT, two unary operations", _plan("flexibert", unary=2),
        ceiling=False,  # takes ten minutes
    ),
    Searched("search-gpt2", "Exhaustive search on GPT-2, one unary operation", _plan("gpt2-wt103")),
    Searched("search-both", "Exhaustive search on both, one unary operation", _plan("flexibert", "gpt2-wt103")),
    Searched("search-tiny", "Exhaustive search on tiny-gpt2, one unary operation", _plan("tiny-gpt2")),
    Searched(
        "evolution-flexibert", "Evolution on FlexiBERT, one unary operation", _plan("flexibert", strategy="evolution"),
        ceiling=False,
    ),
    Searched(
        "evolution-flexibert-2", "Evolution on FlexiBERT, two unary operations",
        _plan("flexibert", strategy="evolution", unary=2), ceiling=False,
    ),
    Searched(
        "evolution-gpt2", "Evolution on GPT-2, one unary operation", _plan("gpt2-wt103", strategy="evolution"),
        ceiling=False,
    ),
    Searched(
        "evolution-both", "Evolution on both, one unary operation",
        _plan("flexibert", "gpt2-wt103", strategy="evolution"), ceiling=False,
    ),
)  # fmt: skip
