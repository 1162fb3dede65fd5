"""Leaves one benchmark out at a time: what proxies, and expressions searched on all others, are worth on it."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpzero_hf.artifacts.versions import versions
from lpzero_hf.benchmarks.across import FEWEST, BenchmarkColumn
from lpzero_hf.benchmarks.benchmark import Benchmark, BenchmarkLike, load_benchmark, named_benchmarks
from lpzero_hf.benchmarks.grade import BASELINES, Report, grade
from lpzero_hf.benchmarks.held_out import unseen
from lpzero_hf.benchmarks.matched import MATCH, WITHIN, Sizes
from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.errors import LpzError, UsageError, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import parse
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.files import one_process, write_json
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy, single
from lpzero_hf.proxies.resolve import ProxyLike, ProxySelection, installed_proxies, resolve
from lpzero_hf.scoring.cache import ScoreCache, digest
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.benchmark_scores import BenchmarkScores, Progress
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.consensus import candidates
from lpzero_hf.searching.correlation import mid_ranks
from lpzero_hf.searching.fitness import FitnessEvaluator
from lpzero_hf.searching.result import SearchResult, Winner, read_result
from lpzero_hf.searching.run_folder import CONFIG_FILE, RESULT_FILE, TEXT, open_run
from lpzero_hf.searching.search import search as search_for
from lpzero_hf.searching.strategies import create
from lpzero_hf.searching.transfer_rows import (
    Signed,
    TransferResult,
    TransferRow,
    consensus_rows,
    row_of,
    rows_of,
    vector,
)

RESULT = "transfer.json"
CEILING = "all benchmarks"  # the name, and folder, of the search on all benchmarks at once
SettingFor = Setting | Callable[[Benchmark], Setting] | None


@said_once
@one_process
def transfer(
    benchmarks: BenchmarkLike | Sequence[BenchmarkLike],
    proxies: ProxyLike | Iterable[ProxyLike] | None = None,
    search: SearchConfig | Mapping[str, SearchConfig] | None = None,
    *,
    consensus: bool = False,
    setting: SettingFor = None,
    ceiling: bool = False,
    limit: int | None = None,
    table: TableOptions | None = None,
    match: str = MATCH,
    within: float = WITHIN,
    out: Path | str | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Grade proxies, and rules of search, on benchmarks that were left out of every choice.

    A proxy that needs no search is graded on every benchmark. A search runs once for each benchmark, on all
    architectures of the others: what it chooses, one expression and an ensemble, is graded on the benchmark left out,
    with the orientation that the search fixed. Nothing of the left-out benchmark enters: architectures of it that occur
    in another one are left out there. Grades are Spearman's rho and agreement at matched size, on each benchmark, their
    mean with a bootstrap interval, and the worst. Scores and tables are kept in the cache.

    Args:
        benchmarks: names, paths or objects.
        proxies: as for `score`; None for all that are installed and not searched. The trivial baselines are always
            graded.
        search: the settings of a search, or of several by name; None for none. Their benchmarks, `train`, `splits`,
            `limit` and `table` are set here.
        consensus: also grade the consensus of the proxies, whose members are chosen in the same way, see
            `lpzero_hf.searching.consensus`; and that of all benchmarks at once, a bound.
        setting: of the proxies' scores, or a function that makes it for each benchmark; None for each benchmark's own.
        ceiling: of a search, also grade the fittest expression on all benchmarks at once, a bound for one expression.
        limit: maximum number of architectures of each benchmark, evenly spaced.
        table: how those of the benchmarks are read that are tables.
        match: the proxy whose scores are the sizes in the table; a search has its own.
        within: the factor by which the sizes of two architectures that are compared differ at most, 1 or more.
        out: folder for the searches and the result; None keeps nothing.
        resume: go on with what is in `out`.
        executor: where to work; by default in this process, with one thread.
        plugins: where names are looked up; by default everything installed.
        progress: called with (name of the step, steps done, total number of steps, the highest fitness so far or None).

    Raises:
        UsageError: a name or a setting is invalid; there is one benchmark only, or none holds other architectures, to
            search for another.
        LpzError: data are missing, an architecture cannot be captured, a file is damaged or cannot be written.

    Example:
        >>> from lpzero_hf.searching.transfer import transfer
        >>> result = transfer(["tiny-gpt2"], ["num_heads"], limit=20)
        >>> result.rows[0].name, result.rows[0].grade.matched.n
        ('params', 1)
    """
    start = time.perf_counter()
    benchmarks, plugins = named_benchmarks(benchmarks, plugins)
    executor = LocalExecutor() if executor is None else executor
    named = {"searched": search} if isinstance(search, SearchConfig) else dict(search or {})
    selection = resolve(unsearched(plugins) if proxies is None else proxies, plugins)
    common: dict[str, Any] = {"train": None, "splits": 1, "limit": limit, "table": table}
    known = SearchConfig(benchmarks, match=match, within=within, **common)
    searches = {name: replace(config, benchmarks=known.benchmarks, **common) for name, config in named.items()}
    for config in searches.values():
        if not config.tabled:  # raises if the space is too large for the strategy
            create(config, config.space(installed_operations(plugins)), FitnessEvaluator([]), config.seed)
    folders = _folders(out, searches, benchmarks)
    if out is not None and not resume:
        _refuse_begun(Path(out), folders.values())
    work = _Work(known, executor, plugins, progress or (lambda what, done, total, best: None))
    home = {name: BenchmarkScores(name, known, plugins) for name in benchmarks}
    others = _others(home) if searches else {}
    reports = {name: work.graded(name, selection, setting) for name in benchmarks}
    columns = [
        BenchmarkColumn(name, one.keys, one.truth.tolist(), Sizes(reports[name].sizes, reports[name].match, within))
        for name, one in home.items()
    ]
    rows = rows_of(reports, columns)
    if consensus:
        able = candidates((*selection, *resolve(BASELINES, plugins)))
        scores = {name: {p.name: vector(one.scores[p.name]) for p in able} for name, one in reports.items()}
        rows += consensus_rows(able, scores, columns, {name: one.marks for name, one in home.items()})
    scored = time.perf_counter() - start
    for name, config in searches.items():
        rows += work.left_out(name, config, columns, home, others, folders, resume)
        if ceiling:
            rows.append(work.bound(name, config, columns, folders[name, CEILING], resume))
    total = time.perf_counter() - start
    result = TransferResult(
        columns,
        sorted(rows, key=lambda row: row.grade.order),
        {name: one.setting for name, one in reports.items()},
        searches,
        {
            held: {other: lost for other, left in found.items() if (lost := len(home[other].keys) - left)}
            for held, found in others.items()
        },
        {"proxies": scored, "searches": total - scored, "all": total},
        versions(),
        _text([one.setting for one in reports.values()]),
        executor.threads,
    )
    if out is not None:
        write_json(Path(out) / RESULT, result.to_dict())
    return result


def _text(settings: Iterable[Setting]) -> str | None:
    """A digest of the text, or of the texts where minibatches take different rows of a dataset; None without one."""
    with contextlib.suppress(LpzError):  # no proxy may have needed it
        contents = list(dict.fromkeys(one.content() for one in settings if not one.random_tokens))
        return None if not contents else contents[0] if len(contents) == 1 else digest(*contents)
    return None


def unsearched(plugins: PluginRegistry) -> list[Proxy]:
    """The installed proxies that were not found by a search on trained architectures, nor have members that were."""
    installed = [claim.item for claim in installed_proxies(plugins).values()]
    return [p for p in installed if not any(one.trained_on or one.searched_marks for one in (p, *single((p,))))]


@dataclass(frozen=True)
class _Work:
    """What grading and searching share.

    Args:
        known: limit, table and sizes of the benchmarks.
        executor: where to work.
        plugins: where names are looked up.
        progress: of every step.
    """

    known: SearchConfig
    executor: Executor
    plugins: PluginRegistry
    progress: Progress

    def graded(self, name: str, selection: ProxySelection, setting: SettingFor) -> Report:
        """The proxies on one benchmark."""
        benchmark = load_benchmark(name, self.plugins, self.known.table)
        with ScoreCache() as cache:
            return grade(
                benchmark, selection, setting(benchmark) if callable(setting) else setting,
                limit=self.known.limit, match=self.known.match, within=self.known.within,
                cache=cache, executor=self.executor, plugins=self.plugins,
                progress=lambda done, total: self.progress(f"proxies on {name}", done, total, None),
            )  # fmt: skip

    def left_out(
        self,
        name: str,
        config: SearchConfig,
        columns: Sequence[BenchmarkColumn],
        home: Mapping[str, BenchmarkScores],
        others: Mapping[str, Mapping[str, int]],
        folders: Mapping[tuple[str, str], Path | None],
        resume: bool,
    ) -> list[TransferRow]:
        """The rows of one search: what it chooses for each benchmark without it."""
        chosen: dict[str, tuple[list[Signed], ...]] = {}
        for held, found in others.items():
            fold = replace(config, benchmarks=tuple(other for other, left in found.items() if left >= FEWEST))
            marks = {mark for one in home[held].marks for mark in one}
            split = self.searched(f"{held} left out", fold, marks, folders[name, held], resume).splits[0]
            chosen[held] = tuple(_members(winner) for winner in (split.winner, split.ensemble))
        scores = {held: self.scores(held, members, config) for held, members in chosen.items()}
        return [
            row_of(
                f"{name}: {what}", "searched", columns, {held: scores[held][place] for held in chosen},
                found={held: chosen[held][place] for held in chosen},
            )
            for place, what in enumerate(("one expression", "ensemble"))
        ]  # fmt: skip

    def bound(
        self, name: str, config: SearchConfig, columns: Sequence[BenchmarkColumn], folder: Path | None, resume: bool
    ) -> TransferRow:
        """The row of the fittest expression on all benchmarks at once."""
        fittest = self.searched("all benchmarks", config, (), folder, resume).splits[0].fittest[0]
        members = [(str(fittest.expression), fittest.orientation)]
        scores = {column.name: self.scores(column.name, (members,), config)[0] for column in columns}
        return row_of(f"{name}: fittest on all", "ceiling", columns, scores, found=dict.fromkeys(scores, members))

    def searched(
        self, what: str, config: SearchConfig, without: Collection[str], folder: Path | None, resume: bool
    ) -> SearchResult:
        """One search: a new one, one that goes on, or the result of a finished one."""
        begun = folder is not None and (folder / CONFIG_FILE).exists()
        if resume and begun and folder is not None and (folder / RESULT_FILE).exists():
            contents = {
                name: BenchmarkScores(name, config, self.plugins, without).content for name in config.benchmarks
            }
            text = {} if config.setting.text is None else {TEXT: config.setting.content()}
            open_run(folder, config, True, contents | text)  # raises if it is another search
            return read_result(folder, installed_operations(self.plugins))
        return search_for(
            config,
            out=folder,
            resume=resume and begun,
            without=without,
            executor=self.executor,
            plugins=self.plugins,
            progress=lambda step, done, total, best: self.progress(f"{what}: {step}", done, total, best),
        )

    def scores(self, name: str, chosen: Sequence[Sequence[Signed]], config: SearchConfig) -> list[list[float | None]]:
        """The scores of a benchmark's architectures by each of several expressions or ensembles of a search, under the
        first of its settings."""
        first = config.settings[0]
        alone = replace(config, benchmarks=(name,), setting=first, minibatches=(), init_seeds=())
        operations = installed_operations(self.plugins)
        source, space = BenchmarkScores(name, alone, self.plugins), alone.space(operations)
        wanted = (
            space.wanted if alone.tabled_everywhere else None
        )  # of the whole space: other searches have made these tables
        with ScoreCache() as cache:
            source.capture([first.portable()], wanted, cache, self.executor, self.plugins, self.progress)
            return [
                _combined(torch.cat([source.scores([parse(text, operations)], [sign]) for text, sign in members]))
                for members in chosen
            ]


def _others(home: Mapping[str, BenchmarkScores]) -> dict[str, dict[str, int]]:
    """By benchmark to leave out and other one, the number of the other's architectures that the first does not hold.

    Raises:
        UsageError: two are the same, or nothing is left to search on.
    """
    contents: dict[str, str] = {}
    for name, one in home.items():
        if (other := contents.setdefault(one.content, name)) != name:
            raise UsageError(f"'{other}' and '{name}' are the same benchmark; name it once")
    found: dict[str, dict[str, int]] = {}
    for held, one in home.items():
        marks = {mark for some in one.marks for mark in some}
        found[held] = {other: len(unseen(two.marks, marks)) for other, two in home.items() if other != held}
        if all(left < FEWEST for left in found[held].values()):
            raise UsageError(
                f"no other benchmark holds {FEWEST} architectures that '{held}' does not, so a search for it has "
                "nothing to search on; name more benchmarks"
            )
    return found


def _members(winner: Winner) -> list[Signed]:
    return [(str(e), sign) for e, sign in zip(winner.expressions, winner.orientations, strict=True)]


def _combined(scores: Tensor) -> list[float | None]:
    """The scores of one expression [1, n], or the summed ranks of several [m, n]; None where one is not finite."""
    finite = torch.isfinite(scores).all(0)
    values = torch.full(finite.shape, math.nan, dtype=torch.float64)
    values[finite] = scores[0, finite] if len(scores) == 1 else mid_ranks(scores[:, finite]).sum(0)
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _folders(
    out: Path | str | None, searches: Iterable[str], benchmarks: Iterable[str]
) -> dict[tuple[str, str], Path | None]:
    """By search and benchmark left out, the folder of that search, named after both."""
    first, second = _distinct(searches), _distinct([CEILING, *benchmarks])
    return {
        (a, b): None if out is None else Path(out) / one / other
        for a, one in first.items()
        for b, other in second.items()
    }


def _refuse_begun(out: Path, folders: Iterable[Path | None]) -> None:
    """Raise `UsageError` if there is a result in the folder already, or a search in one of those inside it."""
    begun = [folder / CONFIG_FILE for folder in folders if folder is not None]
    if any(file.exists() for file in (out / RESULT, *begun)):
        raise UsageError(f"there is a transfer in '{out}' already; go on with `resume=True`, or choose another `out=`")


def _distinct(names: Iterable[str]) -> dict[str, str]:
    """A different name of a folder for each of some names or paths."""
    made: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[-60:].lstrip("-.") or "search"
        number, taken = 1, set(made.values())
        while (folder := plain if number == 1 else f"{plain}-{number}") in taken:
            number += 1
        made[name] = folder
    return made
