"""The built-in winners on the benchmarks that they were searched on, graded on the held-out architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lpzero_hf.benchmarks.agreement import Truth
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import Grade, spaced
from lpzero_hf.benchmarks.held_out import searched_keys
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.table_cache import make_tables
from studies.markdown import interval, signed, table
from studies.proxies.grades import DIGITS, agreement
from studies.study import WORKERS, Progress, Runs, Study, executor_of

WINNERS = {  # with the unary operations of the space that holds them all
    "flexibert": ((2, 2), ("lpzero-flexibert", "lpzero-any-0.1.0")),
    "gpt2-wt103": ((1, 1), ("lpzero-gpt2", "lpzero-any-0.1.0")),
}
Spaces = Mapping[str, tuple[tuple[int, int], Sequence[str]]]


class Winners(Study):
    """Each winner of the first split, by the branch tables that it was searched with.

    Args:
        winners: unary operations and names, by benchmark.
        limit: only so many architectures of each, evenly spaced.
        workers: processes.
    """

    name = "winners"
    title = "Built-in winners"

    def __init__(self, winners: Spaces = WINNERS, limit: int | None = None, workers: int = WORKERS) -> None:
        self.winners, self.limit, self.workers = winners, limit, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """Scores and grades, in the form of those of all other proxies."""
        plugins = load_plugins()
        found = {}
        for name, (unary, winners) in self.winners.items():
            benchmark = load_benchmark(name, plugins)
            entries = spaced(benchmark.trained(), self.limit)
            configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
            wanted = ExpressionSpace(unary, operations=installed_operations(plugins)).wanted

            def step(done: int, total: int, what: str = f"tables of {name}") -> None:
                progress(what, done, total)

            tables = make_tables(
                configs, wanted, SearchConfig((name,)).setting, cache_folder() / "tables",
                executor=executor_of(self.workers), plugins=plugins, progress=step,
            )  # fmt: skip
            stack = Stack(tables, wanted)
            scores, grades = {}, []
            for winner in winners:
                proxy = find_proxy(winner, plugins)
                assert isinstance(proxy, SearchedProxy)
                (member,), (expression,) = proxy.artifact.members, proxy.expressions  # no ensemble is built in
                searched_on = searched_keys(proxy, benchmark, plugins)
                made = (member.orientation * stack.score(expression)).tolist()
                scores[winner] = [
                    None if entry.key in searched_on else float(f"{value:.{DIGITS}g}")
                    for entry, value in zip(entries, made, strict=True)
                ]
                held = [i for i, entry in enumerate(entries) if entry.key not in searched_on]
                truth = Truth([benchmark.target(entries[i]) for i in held])
                grades.append(asdict(Grade(winner, 1, truth.agreement([made[i] for i in held]), 0.0, {})))
            found[name] = {"architectures": [entry.key for entry in entries], "scores": scores, "grades": grades}
        return found

    def show(self, runs: Runs) -> str:
        """One row for each winner and benchmark."""
        rows = []
        for name, found in runs["winners"].items():
            for one in found["grades"]:
                graded = agreement(one)
                assert graded is not None
                rho, tau = interval(graded.spearman, signed), interval(graded.kendall, signed)
                rows.append([one["proxy"], name, rho, tau, str(graded.n)])
        return (
            "Each winner is graded on the architectures that it was not searched on, which are all but those of the "
            "first split (seed 42). The minibatch is that of the search, 4 x 32 tokens.\n\n"
            + table(("winner", "benchmark", "rho [95%]", "tau [95%]", "n"), rows, left=2)
        )
