"""Searches for expressions that rank a benchmark's architectures, and grades them on the held-out ones."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Collection, Sequence, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from lpzero_hf.artifacts.versions import versions
from lpzero_hf.benchmarks.benchmark import BenchmarkLike, named_benchmarks
from lpzero_hf.benchmarks.held_out import unseen
from lpzero_hf.benchmarks.matched import Sizes
from lpzero_hf.errors import LpzError, UsageError, one_line, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import Expression, parse
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.files import one_process, write_json
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.scoring.cache import ScoreCache, digest
from lpzero_hf.scoring.comparability import warn_of_differences
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.benchmark_scores import BenchmarkScores, Progress
from lpzero_hf.searching.choice import choose
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator
from lpzero_hf.searching.result import SearchResult, SettingGrades, Split, Winner, read_result
from lpzero_hf.searching.run_folder import RESULT_FILE, TEXT, SplitLog, begun_with, open_run
from lpzero_hf.searching.starts import check_unseen, started, widened
from lpzero_hf.searching.strategies import Iteration, Strategy, create

CHECKPOINT_SECONDS = 2.0
LISTED = 10  # runners-up in a result
FEWEST = 3  # architectures that have a ranking


@said_once
@one_process
def search(
    benchmarks: BenchmarkLike | Sequence[BenchmarkLike] | SearchConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    test: BenchmarkLike | Sequence[BenchmarkLike] = (),
    without: Collection[str] = (),
    ceiling: bool = False,
    minutes: float | None = None,
    start: Path | str | SearchResult | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SearchResult:
    """Search for expressions whose scores rank the architectures of a benchmark as their trained performance does.

    Each architecture is captured once, into tables that are kept in the cache; then an expression costs microseconds
    (for more than two unary operations in a branch, the raw statistics are kept). The winner is chosen on the
    architectures searched on, and its agreement is reported on the others. Same settings, same result.

    Args:
        benchmarks: one benchmark or several, by names or paths or as objects, or a whole `SearchConfig`.
        out: folder for configuration, history, checkpoints and result; None keeps nothing.
        resume: go on with the search in `out`.
        test: further benchmarks to test each split's winner on, none of those searched on.
        without: marks of architectures that the search must not see, see `lpzero_hf.benchmarks.held_out.marks_of`.
        ceiling: also search on all architectures at once, which bounds what can be reached.
        minutes: the search on each split ends after so many, capture not included, with what it has found; it is an end
            like any other, and one that is resumed with more minutes, or without a limit, goes on. None for no limit.
        start: an earlier search, or its folder, whose fittest expressions are the first that each split of an evolution
            looks at; it must not have seen what the split holds out. So a search over two operations in a branch, which
            tables make quick, is the beginning of one over four. Not needed to resume.
        executor: where to capture; by default in this process, with one thread. Its threads decide the rounding.
        plugins: where names are looked up; by default everything installed.
        progress: called with (name of the step, steps done, total number of steps, the highest fitness so far or None).
        settings: the other arguments of `SearchConfig`.

    Raises:
        UsageError: settings are invalid, or differ from those of the search to resume, or another process searches in
            the folder.
        LpzError: data are missing, an architecture cannot be captured, a file is damaged or cannot be written.

    Example:
        >>> from lpzero_hf import search
        >>> found = search("tiny-gpt2", strategy="exhaustive", train=50)  # doctest: +SKIP
        >>> found.splits[0].winner.expressions  # doctest: +SKIP
    """
    began = time.perf_counter()
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"a search cannot end after {minutes:g} minutes; give a number above 0")
    if unknown := sorted(set(settings) - {field.name for field in fields(SearchConfig)}):
        raise UsageError(f"a search has no setting '{unknown[0]}'; workers and threads are those of an executor")
    if isinstance(benchmarks, SearchConfig):
        config = replace(benchmarks, **settings)
    else:
        names, plugins = named_benchmarks(benchmarks, plugins)
        config = SearchConfig(names, **settings)
    testing, plugins = named_benchmarks(test, plugins)
    executor = LocalExecutor() if executor is None else executor
    report = progress or (lambda what, done, total, best: None)
    folder = None if out is None else Path(out)
    operations = installed_operations(plugins)
    if resume and folder is not None:
        config = begun_with(folder, config)
    elif start is not None:
        config = started(config, start if isinstance(start, SearchResult) else read_result(Path(start), operations))
    space = config.space(operations)
    searched = [BenchmarkScores(name, config, plugins, without) for name in config.benchmarks]
    tested = [BenchmarkScores(name, replace(config, train=None), plugins) for name in testing]
    rows = _rows_to_test(searched, tested, {mark for marks in config.saw for mark in marks})
    for benchmark in (*searched, *tested):
        warn_of_differences(benchmark.configs, config.setting)
    marks = [benchmark.marks for benchmark in searched]
    parts = [drawn_parts(marks, config.train, config.seed + number) for number in range(config.splits)]
    for number, saw in enumerate(config.saw):
        check_unseen(saw, number, marks, parts[number])
    starts = [[widened(parse(text, operations), space) for text in texts] for texts in config.starts]
    if not config.tabled:
        create(config, space, FitnessEvaluator([]), config.seed)  # raises if the space is too large for the strategy
    drawn = _portable(config.settings)
    if folder is not None:
        contents = {benchmark.name: benchmark.content for benchmark in [*searched, *tested]}
        open_run(folder, config, resume, contents | _texts(drawn))
    with ScoreCache() as cache:
        for benchmark, some in zip(searched, zip(*parts, strict=True), strict=True):
            rows_searched = None if ceiling or config.tabled_everywhere else set().union(*some)
            benchmark.capture(
                drawn, space.wanted if config.tabled else None, cache, executor, plugins, report, rows_searched
            )
        for benchmark in tested:
            benchmark.measure(drawn[0], cache, executor, plugins, report)
        captured = time.perf_counter() - began
        splits = [
            _search_split(number, config, space, searched, part, folder, report, minutes, begin)
            for number, (part, begin) in enumerate(zip(parts, starts or [[]] * config.splits, strict=True))
        ]
        bound = _ceiling(config, space, searched, report, minutes) if ceiling else None
    winners = [(split.winner.expressions[0], split.winner.orientations[0]) for split in splits]
    tests = {b.name: b.test(winners, rows[b.name], drawn, executor, plugins, report) for b in tested}
    result = SearchResult(
        config,
        space.size,
        {benchmark.name: benchmark.keys for benchmark in searched},
        {benchmark.name: benchmark.truth.tolist() for benchmark in searched},
        splits,
        {name: [graded.mean for graded in found] for name, found in tests.items()},
        bound,
        {"capture": captured, "all": time.perf_counter() - began},
        versions(),
        {benchmark.name: [sorted(marks) for marks in benchmark.marks] for benchmark in searched},
        {benchmark.name: benchmark.content for benchmark in searched},
        {benchmark.name: _known(benchmark.sizes) for benchmark in searched},
        [{name: [graded.settings[i] for graded in found] for name, found in tests.items()} for i in config.several],
        {benchmark.name: benchmark.baselines_on(rows[benchmark.name]) for benchmark in tested},
    )
    if folder is not None:
        write_json(folder / RESULT_FILE, result.to_json())
    return result


def _portable(settings: Sequence[Setting]) -> list[Setting]:
    """The settings with the content of their texts, which is read once for each minibatch, whatever it is."""
    drawn: dict[tuple[int, int], Setting] = {}
    for setting in settings:
        size = (setting.batch_size, setting.seq_len)
        if size not in drawn:
            drawn[size] = setting.portable()
    return [replace(setting, text=drawn[setting.batch_size, setting.seq_len].text) for setting in settings]


def _texts(settings: Sequence[Setting]) -> dict[str, str]:
    """A digest of the text, or of the texts that the settings take of it if these differ; none of the embedded one."""
    contents = list(dict.fromkeys(setting.content() for setting in settings if setting.text is not None))
    return {TEXT: contents[0] if len(contents) == 1 else digest(*contents)} if contents else {}


def _known(sizes: Sizes) -> list[float | None]:
    return [_finite(float(size)) for size in sizes.values]


def _rows_to_test(
    searched: Sequence[BenchmarkScores], tested: Sequence[BenchmarkScores], saw: Set[str]
) -> dict[str, list[int]]:
    """By benchmark to test on, its architectures that no benchmark to search on holds, and no search begun with saw.

    Raises:
        UsageError: a benchmark is given twice, under whatever name, or one to test on holds nothing new.
    """
    contents: dict[str, str] = {}
    for benchmark in searched:
        other = contents.setdefault(benchmark.content, benchmark.name)
        if other != benchmark.name:
            raise UsageError(f"'{other}' and '{benchmark.name}' are the same benchmark; name it once")
    known = saw | {mark for benchmark in searched for marks in benchmark.marks for mark in marks}
    rows = {benchmark.name: unseen(benchmark.marks, known) for benchmark in tested}
    for name, left in rows.items():
        if len(left) < FEWEST:
            raise UsageError(
                f"benchmark '{name}' cannot test what was searched on it ({len(left)} of its architectures were not); "
                "leave it out of `test=`: the winners are graded on the held-out architectures"
            )
    return rows


def _ceiling(
    config: SearchConfig, space: ExpressionSpace, searched: Sequence[BenchmarkScores], progress: Progress,
    minutes: float | None,
) -> Candidate:  # fmt: skip
    """The fittest expression on all architectures."""
    fitness = _evaluator(config, searched, [range(len(benchmark.keys)) for benchmark in searched])
    strategy, _ = _run(create(config, space, fitness, config.seed), None, "ceiling", progress, minutes)
    return strategy.archive.fittest()[0]


def _evaluator(
    config: SearchConfig, searched: Sequence[BenchmarkScores], rows: Sequence[Sequence[int]]
) -> FitnessEvaluator:
    """The fitness on some architectures of each benchmark."""
    parts = [part for benchmark, some in zip(searched, rows, strict=True) for part in benchmark.parts(some)]
    return FitnessEvaluator(
        parts, config.combine, config.early, settings=len(config.settings), over_settings=config.over_settings
    )


def drawn_parts(benchmarks: Sequence[Sequence[Set[str]]], train: int | None, seed: int) -> list[list[int]]:
    """The places of the architectures to search on, in each benchmark.

    What is drawn in one benchmark is preferred in those after it, so that as many as possible are held out of all.

    Args:
        benchmarks: the marks of every architecture.
        train: architectures of each; None for all.
        seed: of the draw.
    """
    parts: list[list[int]] = []
    seen: set[str] = set()
    for marks in benchmarks:
        everything, rng = range(len(marks)), random.Random(seed)
        part = list(everything)
        if train is not None:
            part = rng.sample(everything, train)
            if known := sorted(set(everything) - set(unseen(marks, seen))):
                known = rng.sample(known, min(train, len(known)))
                part = [*known, *(place for place in part if place not in known)][:train]
        parts.append(sorted(part))
        seen |= {mark for place in part for mark in marks[place]}
    return parts


def _search_split(
    number: int, config: SearchConfig, space: ExpressionSpace, searched: Sequence[BenchmarkScores],
    parts: Sequence[Sequence[int]], folder: Path | None, progress: Progress, minutes: float | None,
    starts: Sequence[Expression],
) -> Split:  # fmt: skip
    seed = config.seed + number
    fitness = _evaluator(config, searched, parts)
    place = None if folder is None else folder / f"split-{number:02d}"
    what = "search" if config.splits == 1 else f"search {number + 1} of {config.splits}"
    strategy, seconds = _run(create(config, space, fitness, seed, starts), place, what, progress, minutes)
    kept = strategy.archive.fittest()
    if not kept:
        raise LpzError("no expression has a valid score on these architectures; search a larger space, or for longer")
    winner, ensemble = choose(
        kept, fitness, config,
        lambda chosen: {e for b, part in zip(searched, parts, strict=True) for e in b.refused(chosen, part)},
    )  # fmt: skip
    seen = {mark for b, part in zip(searched, parts, strict=True) for i in part for mark in b.marks[i]}
    held = [unseen(b.marks, seen) for b in searched]  # of any benchmark, and not a duplicate either
    trained_on = {b.name: [b.keys[i] for i in part] for b, part in zip(searched, parts, strict=True)}
    baselines = {
        b.name: {name: b.agreement(scores, rest) for name, scores in b.baselines.items()}
        for b, rest in zip(searched, held, strict=True)
        if len(rest) > 1
    }
    return Split(
        seed,
        trained_on,
        _graded(winner, searched, parts, held, config.several),
        _graded(ensemble, searched, parts, held, config.several),
        kept[:LISTED],
        strategy.archive.pareto(),
        baselines,
        strategy.evaluated,
        dict(strategy.pruner.counts) if strategy.pruner else {},
        dict(strategy.rejections),
        seconds,
        strategy.done == strategy.total,
        {b.name: b.baselines_on(part) for b, part, rest in zip(searched, parts, held, strict=True) if len(rest) < 2},
    )


def _run(
    strategy: Strategy, place: Path | None, what: str, progress: Progress, minutes: float | None
) -> tuple[Strategy, float]:
    """Run all iterations, or those of some minutes, and write their history to the folder `place` if there is one."""
    log = None if place is None else SplitLog(place, strategy)
    start = time.perf_counter() - (log.seconds if log else 0.0)
    saved, limit = time.perf_counter(), math.inf if minutes is None else 60 * minutes
    unsaved = False
    progress(what, strategy.done, strategy.total, strategy.archive.best or None)
    while strategy.done < strategy.total and (not strategy.done or time.perf_counter() - start < limit):
        made = _iterate(strategy, place)
        progress(what, strategy.done, strategy.total, made.best)
        if log is None:
            continue
        log.write(made)
        unsaved = time.perf_counter() - saved <= CHECKPOINT_SECONDS
        if not unsaved:
            log.save(time.perf_counter() - start)
            saved = time.perf_counter()
    seconds = time.perf_counter() - start
    if log is not None:
        if unsaved:
            log.save(seconds)
        seconds = log.seconds
        log.close()
    return strategy, seconds


def _iterate(strategy: Strategy, place: Path | None) -> Iteration:
    """The next iteration. Raises `LpzError` if the device fails or runs out of memory; what was written stays."""
    try:
        return strategy.iterate()
    except (torch.AcceleratorError, torch.OutOfMemoryError) as error:
        further = "start again with `resume=True`" if place else "start again, with `out=` to be able to go on"
        smaller = ", and a smaller `batch=` or `train=`" if isinstance(error, torch.OutOfMemoryError) else ""
        raise LpzError(f"the device failed: {one_line(error)}; {further}{smaller}") from error


def _graded(
    chosen: Sequence[Candidate],
    searched: Sequence[BenchmarkScores],
    parts: Sequence[Sequence[int]],
    held: Sequence[Sequence[int]],
    several: Sequence[int],
) -> Winner:
    """What was chosen, graded on the architectures searched on and on those held out, under each of several settings
    too."""
    expressions = tuple(candidate.expression for candidate in chosen)
    orientations = tuple(candidate.orientation for candidate in chosen)
    train, rest, kept = {}, {}, {}
    for benchmark, part, other in zip(searched, parts, held, strict=True):
        scores = benchmark.scores(expressions, orientations)
        rows = scores.reshape(len(scores), len(chosen), -1).tolist()
        kept[benchmark.name] = [[[_finite(value) for value in row] for row in members] for members in rows]
        train[benchmark.name] = benchmark.graded(scores, part)
        if len(other) > 1:
            rest[benchmark.name] = benchmark.graded(scores, other)
    return Winner(
        expressions,
        orientations,
        {name: graded.mean for name, graded in train.items()},
        {name: graded.mean for name, graded in rest.items()},
        {name: settings[0] for name, settings in kept.items()},
        tuple(
            SettingGrades(
                {name: graded.settings[i] for name, graded in train.items()},
                {name: graded.settings[i] for name, graded in rest.items()},
                {name: settings[i] for name, settings in kept.items()},
            )
            for i in several
        ),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
