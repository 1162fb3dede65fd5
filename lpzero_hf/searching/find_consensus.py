"""Chooses the consensus of proxies on whole benchmarks, and makes an artifact of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lpzero_hf.artifacts.artifact import Artifact, Member
from lpzero_hf.artifacts.versions import versions
from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.benchmarks.benchmark import BenchmarkLike, load_benchmark, named_benchmarks
from lpzero_hf.benchmarks.grade import BASELINES, Report, grade
from lpzero_hf.benchmarks.held_out import marks_of
from lpzero_hf.benchmarks.matched import MATCH, WITHIN, SizedTruth, Sizes
from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.errors import said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.resolve import ProxyLike, resolve
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.display import Displayed, Panel, by_name, columns
from lpzero_hf.searching.benchmark_scores import Progress
from lpzero_hf.searching.consensus import Consensus, candidates, consensus
from lpzero_hf.searching.export import checked
from lpzero_hf.searching.transfer import SettingFor, unsearched
from lpzero_hf.searching.transfer_rows import vector


@dataclass(frozen=True)
class FoundConsensus(Displayed):
    """A consensus, and what it was chosen on. A notebook shows its candidates as a table.

    Args:
        consensus: the members, and why the others are none.
        agreement: by benchmark, of all its architectures: those that the members were chosen on.
        reports: by benchmark, the scores and grades of all proxies.
        marks: of the architectures, by content.
    """

    consensus: Consensus
    agreement: dict[str, Agreement]
    reports: dict[str, Report]
    marks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The members, as text for `find_proxy`."""
        return self.consensus.text

    @property
    def notes(self) -> list[str]:
        """How the consensus agrees with each benchmark, and why their architectures may not be comparable."""
        told = []
        for name, one in self.agreement.items():
            matched = one.matched.agreement if one.matched else None
            measures = (("rho", one.spearman), ("at equal size", matched))
            known = [
                f"{label} {found.value:+.3f} {found.between('{:+.3f}'.format)}" for label, found in measures if found
            ]
            told.append(f"{name}, which it was chosen on: {', '.join(known)}")
        return told + [f"{name}: {why}" for name, report in self.reports.items() for why in report.warnings]

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every candidate, the members first: its agreement at equal size with each benchmark, and why it
        is no member."""
        left_out, matched = self.consensus.left_out, self.consensus.matched
        return [
            columns(
                {"proxy": proxy, "member": proxy not in left_out, "reason": left_out.get(proxy, "")},
                {name: matched.get(proxy, {}).get(name) for name in self.reports},
                "benchmark",
            )
            for proxy in (*self.consensus.members, *left_out)
        ]

    def panels(self) -> list[Panel]:
        """The agreement at equal size of every candidate with each benchmark."""
        names = [*self.consensus.members, *self.consensus.left_out]
        of = {b: [self.consensus.matched.get(proxy, {}).get(b) for proxy in names] for b in self.reports}
        return [by_name("agreement at equal size", names, of)]

    def artifact(self, name: str, *, date: str | None = None, note: str = "") -> Artifact:
        """As an artifact. Raises `UsageError` if the name, the date or the note is invalid."""
        first = next(iter(self.reports.values()))
        record: dict[str, Any] = {
            "benchmarks": list(self.reports),
            "strategy": "consensus",
            "seed": first.setting.seed,
            "trained_on": {name: [entry.key for entry in report.trained] for name, report in self.reports.items()},
            "architectures": list(self.marks),
            "matched": {"match": first.match, "within": first.within},
            "train": {name: agreement.to_dict() for name, agreement in self.agreement.items()},
            "held_out": {},
            "versions": versions(),
            "date": date,
            "note": note,
        }
        return checked(Artifact(name, (Member(self.consensus.text, 1),), {}, record))


@said_once
def find_consensus(
    benchmarks: BenchmarkLike | Sequence[BenchmarkLike],
    proxies: ProxyLike | Iterable[ProxyLike] | None = None,
    *,
    setting: SettingFor = None,
    limit: int | None = None,
    table: TableOptions | None = None,
    match: str = MATCH,
    within: float = WITHIN,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
) -> FoundConsensus:
    """The consensus of proxies on benchmarks, see `lpzero_hf.searching.consensus`.

    What it is worth on a benchmark that it was not chosen on, `lpzero_hf.searching.transfer` tells.

    Args:
        benchmarks: names, paths or objects.
        proxies: the candidates, as for `score`; None for all that are installed and not searched, and the baselines.
            Those as LPZero's code computes them are none.
        setting: of the scores, or a function that makes it for each benchmark; None for each benchmark's own.
        limit: maximum number of architectures of each benchmark, evenly spaced.
        table: how those of the benchmarks are read that are tables.
        match: the proxy whose scores are the sizes.
        within: the factor by which the sizes of two architectures that are compared differ at most, 1 or more.
        executor: where to work; by default in this process, with one thread.
        plugins: where names are looked up; by default everything installed.
        progress: called with (name of the step, steps done, total number of steps, None).

    Raises:
        UsageError: a name is unknown, or a benchmark has no two architectures of like size.
        LpzError: data are missing, or fewer than two proxies agree with every benchmark.

    Example:
        >>> from lpzero_hf.searching.find_consensus import find_consensus
        >>> find_consensus(["tiny-gpt2"], ["params", "w_pca"], limit=40).consensus.text
        'geometric_mean(params, w_pca)'
    """
    benchmarks, plugins = named_benchmarks(benchmarks, plugins)
    selection = resolve(unsearched(plugins) if proxies is None else proxies, plugins)
    everything = (*selection, *resolve(BASELINES, plugins)) if proxies is None else tuple(selection)
    able = candidates(everything)
    reports, marks = {}, set()
    for name in benchmarks:
        benchmark = load_benchmark(name, plugins, table)
        with ScoreCache() as cache:
            reports[name] = grade(
                benchmark, able, setting(benchmark) if callable(setting) else setting,
                limit=limit, match=match, within=within, cache=cache, executor=executor, plugins=plugins,
                progress=_step(progress, name),
            )  # fmt: skip
        trained = reports[name].trained
        marks |= {mark for entry in trained for mark in marks_of(benchmark.space, entry.architecture)}
    truths = {
        name: SizedTruth(
            [entry.quality * (1 if report.larger_is_better else -1) for entry in report.trained],
            Sizes(report.sizes, report.match, within),
        )
        for name, report in reports.items()
    }
    scores = {name: {p.name: vector(report.scores[p.name]) for p in able} for name, report in reports.items()}
    found = consensus(able, scores, truths)
    agreement = {name: truth.agreement(found.scores(able, scores[name])) for name, truth in truths.items()}
    return FoundConsensus(found, agreement, reports, tuple(sorted(marks)))


def _step(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(f"proxies on {name}", done, total, None)
