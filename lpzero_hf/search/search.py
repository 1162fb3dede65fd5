"""Searches for expressions that rank a benchmark's architectures, and says how well they rank the others."""

from __future__ import annotations

import math
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import lpzero_hf
from lpzero_hf.benchmarks.agreement import Agreement, Truth
from lpzero_hf.benchmarks.grade import BASELINES, spaced
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.executors import Executor, executor_for
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.files import write_json
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.expression_proxy import wanted_by
from lpzero_hf.scoring.cache import ScoreCache, cache_folder
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.search.archive import Candidate
from lpzero_hf.search.config import Plan
from lpzero_hf.search.correlation import Fitness, mid_ranks
from lpzero_hf.search.direct_scores import Passes
from lpzero_hf.search.expression_space import ExpressionSpace
from lpzero_hf.search.fitness import Judge, Subject
from lpzero_hf.search.result import SearchResult, Split, Winner
from lpzero_hf.search.run_folder import SplitLog, open_run
from lpzero_hf.search.selection import select
from lpzero_hf.search.strategies import Strategy
from lpzero_hf.search.table_cache import make_tables

CHECKPOINT_SECONDS = 2.0
LISTED = 10  # runners-up in a result
Progress = Callable[[str, int, int, float | None], None]


def search(
    benchmarks: str | Sequence[str] | Plan,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    test: Sequence[str] = (),
    ceiling: bool = False,
    workers: int = 1,
    threads: int = 1,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SearchResult:
    """Search expressions whose scores rank the architectures of a benchmark as their trained performance does.

    Each architecture is captured once, into tables that are kept in the cache; then an expression costs microseconds
    (for more than two unary operations in a branch, a pass over every model). The winner is chosen on the architectures
    searched on, and its agreement is reported on the others. Same settings, same result.

    Args:
        benchmarks: names or paths of one benchmark or several, or a whole `Plan`.
        out: folder for plan, history, checkpoints and result; None keeps nothing.
        resume: go on with the search in `out`.
        test: further benchmarks to test each split's winner on, none of those searched on.
        ceiling: also search on all architectures at once, which bounds what can be reached.
        workers: processes for capture.
        threads: CPU threads in each; they decide the rounding.
        executor: where to work instead, see `lpzero_hf.executors`.
        plugins: where names are looked up; by default everything installed.
        progress: called with (what is done, steps done, steps in all, the largest fitness so far or None).
        settings: the other arguments of `Plan`.

    Raises:
        UsageError: settings that make no sense, or other ones than those of the search to resume.
        LpzError: data are missing, an architecture cannot be captured, a file is damaged or cannot be written.

    Example:
        >>> from lpzero_hf import search
        >>> found = search("tiny-gpt2", strategy="exhaustive", train=50)  # doctest: +SKIP
        >>> found.splits[0].winner.expressions  # doctest: +SKIP
    """
    start = time.perf_counter()
    if isinstance(benchmarks, Plan):
        plan = replace(benchmarks, **settings)
    else:
        names = (benchmarks,) if isinstance(benchmarks, str) else tuple(benchmarks)
        plan = Plan(names, **settings)
    for name in test:
        if Path(name).resolve() in {Path(searched).resolve() for searched in plan.benchmarks}:
            raise UsageError(
                f"benchmark '{name}' cannot test what was searched on it; leave it out of --test: "
                "the winners are graded on its architectures held out"
            )
    plugins = load_plugins() if plugins is None else plugins
    executor = executor_for(executor, workers, threads)
    tell = progress or (lambda what, done, total, best: None)
    folder = None if out is None else Path(out)
    space = plan.space(plugins.operations)
    grounds = [_Ground(name, plan, plugins) for name in plan.benchmarks]
    tested = [_Ground(name, replace(plan, train=None), plugins) for name in test]
    if plan.strategy == "exhaustive" and not plan.tabled:
        plan.start(space, Judge([]), plan.seed)  # says that the space is too large
    if folder is not None:
        open_run(folder, plan.to_json(), resume)
    with ScoreCache() as cache:
        for ground in grounds:
            ground.capture(plan, space.wanted if plan.tabled else None, cache, executor, plugins, tell)
        captured = time.perf_counter() - start
        splits = [_search_split(number, plan, space, grounds, folder, tell) for number in range(plan.splits)]
        bound = None
        if ceiling:
            everything = [ground.subject(range(len(ground.keys)), plan) for ground in grounds]
            judge = Judge(everything, plan.combine, plan.early)
            whole = _run(plan.start(space, judge, plan.seed), None, "ceiling", tell)[0]
            bound = whole.archive.fittest()[0]
    result = SearchResult(
        plan,
        space.size,
        {ground.name: ground.keys for ground in grounds},
        {ground.name: ground.truth.tolist() for ground in grounds},
        splits,
        {ground.name: ground.test(splits, plan, executor, plugins, tell) for ground in tested},
        bound,
        {"capture": captured, "all": time.perf_counter() - start},
        {
            "lpzero-hf": lpzero_hf.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    )
    if folder is not None:
        write_json(folder / "result.json", result.to_json())
    return result


class _Ground:
    """One benchmark: its architectures, their truth, and the source of their scores."""

    def __init__(self, name: str, plan: Plan, plugins: PluginRegistry) -> None:
        benchmark = plugins.benchmark(name)
        entries = spaced(benchmark.trained(), plan.limit)
        self.name = name
        self.keys = [entry.key for entry in entries]
        self.configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
        self.truth = torch.tensor([benchmark.goodness(entry) for entry in entries], dtype=torch.float64)
        self.source: Stack | Passes | None = None
        self.baselines: dict[str, Tensor] = {}
        if plan.train is not None and plan.train > len(entries):
            raise UsageError(f"benchmark '{name}' has {len(entries)} architectures, fewer than --train {plan.train}")
        if bool((self.truth == self.truth[0]).all()):
            raise UsageError(
                f"all architectures of benchmark '{name}' are equally good; there is nothing to search for"
            )

    def capture(
        self,
        plan: Plan,
        wanted: Wanted | None,
        cache: ScoreCache,
        executor: Executor,
        plugins: PluginRegistry,
        tell: Progress,
    ) -> None:
        """Make the tables, and score the baselines."""
        if wanted is None:
            self.source = Passes(self.configs, plan.setting, plugins, cache=cache, executor=executor)
        else:
            self.source = self._stack(plan, wanted, executor, plugins, tell)
        if plan.train is not None and plan.train < len(self.keys):
            rows = evaluate(
                self.configs, BASELINES, plan.setting,
                cache=cache, executor=executor, plugins=plugins,
                progress=lambda done, total: tell(f"baselines of {self.name}", done, total, None),
            )  # fmt: skip
            for proxy in BASELINES:
                values = [rows[key][proxy]["value"] for key in self.keys]
                if None not in values:
                    self.baselines[proxy] = torch.tensor(values, dtype=torch.float64)

    def _stack(self, plan: Plan, wanted: Wanted, executor: Executor, plugins: PluginRegistry, tell: Progress) -> Stack:
        tables = make_tables(
            self.configs, wanted, plan.setting, cache_folder() / "tables",
            executor=executor, plugins=plugins,
            progress=lambda done, total: tell(f"capture of {self.name}", done, total, None),
        )  # fmt: skip
        return Stack(tables, wanted, plan.setting.device)

    def subject(self, part: Sequence[int], plan: Plan) -> Subject:
        """Some of the architectures to search on."""
        assert self.source is not None
        truth = self.truth[list(part)]
        if bool((truth == truth[0]).all()):
            raise UsageError(f"the architectures of '{self.name}' to search on are all equally good; use more of them")
        device = self.source.device if isinstance(self.source, Stack) else "cpu"
        return Subject(self.source.part(part), Fitness(truth.tolist(), plan.fitness, device))

    def test(
        self, splits: Sequence[Split], plan: Plan, executor: Executor, plugins: PluginRegistry, tell: Progress
    ) -> list[Agreement]:
        """How well each split's winner ranks all architectures."""
        wanted = wanted_by([split.winner.expressions[0] for split in splits], plugins.operations)
        self.source = self._stack(plan, wanted, executor, plugins, tell)
        return [
            agreement_of(_scores([self], [split.winner.expressions[0]], split.winner.orientations)[0], self.truth)
            for split in splits
        ]


def _search_split(
    number: int, plan: Plan, space: ExpressionSpace, grounds: Sequence[_Ground], folder: Path | None, tell: Progress
) -> Split:
    seed = plan.seed + number
    parts: list[list[int]] = []
    for ground in grounds:
        everything = range(len(ground.keys))
        part = everything if plan.train is None else random.Random(seed).sample(everything, plan.train)
        parts.append(sorted(part))
    judge = Judge(
        [ground.subject(part, plan) for ground, part in zip(grounds, parts, strict=True)], plan.combine, plan.early
    )  # fmt: skip
    strategy = plan.start(space, judge, seed)
    place = None if folder is None else folder / f"split-{number:02d}"
    what = "search" if plan.splits == 1 else f"search {number + 1} of {plan.splits}"
    strategy, seconds = _run(strategy, place, what, tell)
    kept = strategy.archive.fittest()
    if not kept:
        raise LpzError("no expression has a valid score on these architectures; search a larger space, or for longer")
    winner, ensemble = _choose(kept, judge, plan)
    held = [sorted(set(range(len(ground.keys))) - set(part)) for ground, part in zip(grounds, parts, strict=True)]
    trained_on = {g.name: [g.keys[i] for i in part] for g, part in zip(grounds, parts, strict=True)}
    baselines = {
        ground.name: {name: agreement_of(scores[rest], ground.truth[rest]) for name, scores in ground.baselines.items()}
        for ground, rest in zip(grounds, held, strict=True)
        if len(rest) > 1
    }
    return Split(
        seed,
        trained_on,
        _graded(winner, grounds, parts, held),
        _graded(ensemble, grounds, parts, held),
        kept[:LISTED],
        strategy.archive.pareto(),
        baselines,
        strategy.evaluated,
        dict(strategy.pruner.counts) if strategy.pruner else {},
        dict(strategy.rejections),
        seconds,
    )


def _run(strategy: Strategy, place: Path | None, what: str, tell: Progress) -> tuple[Strategy, float]:
    """Make all iterations, and write them down if there is a place to."""
    log = None if place is None else SplitLog(place, strategy)
    start = time.perf_counter() - (log.seconds if log else 0.0)
    saved = time.perf_counter()
    tell(what, strategy.done, strategy.total, strategy.archive.best or None)
    while strategy.done < strategy.total:
        made = strategy.iterate()
        tell(what, strategy.done, strategy.total, made.best)
        if log is None:
            continue
        log.write(made)
        if time.perf_counter() - saved > CHECKPOINT_SECONDS or strategy.done == strategy.total:
            log.save(time.perf_counter() - start)
            saved = time.perf_counter()
    seconds = time.perf_counter() - start
    if log is not None:
        seconds = log.seconds
        log.close()
    return strategy, seconds


def _choose(kept: Sequence[Candidate], judge: Judge, plan: Plan) -> tuple[list[Candidate], list[Candidate]]:
    """The winner and the ensemble, from the candidates that a search has kept, on its own architectures."""
    scores = [
        torch.stack([subject.source.score(c.expression) * c.orientation for c in kept]) for subject in judge.subjects
    ]
    truths = [subject.fitness.truth for subject in judge.subjects]
    winner, members = select(scores, truths, plan.fitness, plan.combine, plan.select, plan.seed)
    return [kept[winner]], [kept[member] for member in members]


def _scores(grounds: Sequence[_Ground], expressions: Sequence[Expression], orientations: Sequence[int]) -> list[Tensor]:
    """[n] per benchmark: an expression's scores, or the summed ranks of several."""
    found = []
    for ground in grounds:
        assert ground.source is not None
        scores = torch.stack([ground.source.score(e) * o for e, o in zip(expressions, orientations, strict=True)]).cpu()
        found.append(scores[0] if len(scores) == 1 else scores)
    return found


def _graded(
    chosen: Sequence[Candidate],
    grounds: Sequence[_Ground],
    parts: Sequence[Sequence[int]],
    held: Sequence[Sequence[int]],
) -> Winner:
    expressions = tuple(candidate.expression for candidate in chosen)
    orientations = tuple(candidate.orientation for candidate in chosen)
    all_scores = _scores(grounds, expressions, orientations)
    train, rest, kept = {}, {}, {}
    for ground, scores, part, other in zip(grounds, all_scores, parts, held, strict=True):
        rows = scores.reshape(len(chosen), -1).tolist()
        kept[ground.name] = [[value if math.isfinite(value) else None for value in row] for row in rows]
        train[ground.name] = agreement_of(scores[..., list(part)], ground.truth[list(part)])
        if len(other) > 1:
            rest[ground.name] = agreement_of(scores[..., list(other)], ground.truth[list(other)])
    return Winner(expressions, orientations, train, rest, kept)


def agreement_of(scores: Tensor, truth: Tensor) -> Agreement:
    """Of scores [n], or of the summed ranks of several [m, n], leaving out architectures without a finite one."""
    good = torch.isfinite(scores) if scores.dim() == 1 else torch.isfinite(scores).all(0)
    if (n := int(good.sum())) < 2:
        return Agreement(n, None, None, 0.0)
    scores = scores[..., good]
    if scores.dim() == 2:
        scores = mid_ranks(scores).sum(0)
    return Truth(truth[good].numpy()).agreement(scores.numpy())
