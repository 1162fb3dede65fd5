"""The scores of one benchmark's architectures in a search, and how well they agree with the trained performance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lpzero_hf.benchmarks.agreement import Agreement, Truth
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES, spaced
from lpzero_hf.benchmarks.held_out import content_of, marks_of, unseen
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import ModelWarning, UsageError
from lpzero_hf.executors.base import Executor
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.rounding import steady
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.expression_proxy import wanted_by
from lpzero_hf.proxies.resolve import find_proxy, resolve
from lpzero_hf.scoring.cache import ScoreCache, cache_folder
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks
from lpzero_hf.searching.direct_scores import DirectScores
from lpzero_hf.searching.fitness import SearchPart
from lpzero_hf.searching.score_source import ScoreSource
from lpzero_hf.searching.table_cache import make_tables

Progress = Callable[[str, int, int, float | None], None]


@dataclass(frozen=True)
class Graded:
    """How well scores agree with the truth under several settings.

    Args:
        mean: of the settings, on the architectures with finite scores under all.
        settings: the agreement under each.
    """

    mean: Agreement
    settings: tuple[Agreement, ...]


class BenchmarkScores:
    """One benchmark in a search: its architectures, their truth, and the sources of their scores under each setting.

    Args:
        name: of the benchmark, or its path.
        config: of the search.
        plugins: where the benchmark is looked up.
        without: marks of architectures that are left out, see `lpzero_hf.benchmarks.held_out`.

    Attributes:
        keys: of the architectures.
        truth: [n], their trained performance as a target: higher is better.
        sizes: [n], after `measure`; like the baselines' scores, under the first setting.
        baselines: [n] by name, the scores of trivial proxies, after `measure`.

    Raises:
        UsageError: there is no such benchmark, it has too few architectures, or all have the same performance.
    """

    def __init__(self, name: str, config: SearchConfig, plugins: PluginRegistry, without: Collection[str] = ()) -> None:
        benchmark = load_benchmark(name, plugins, config.table)
        entries = spaced(benchmark.trained(), config.limit)
        self.name, self.config = name, config
        configs = benchmark.configs(entries)
        entries = [entry for entry in entries if entry.key in configs]
        marks = [marks_of(benchmark.space, entry.architecture) for entry in entries]
        left = unseen(marks, without)
        entries, self.marks = [entries[place] for place in left], [marks[place] for place in left]
        self.keys = [entry.key for entry in entries]
        self.configs = {key: configs[key] for key in self.keys}
        self.truth = torch.tensor([benchmark.target(entry) for entry in entries], dtype=torch.float64)
        self.content = content_of(benchmark, entries)
        self.baselines: dict[str, Tensor] = {}
        self.sizes = Sizes(np.full(len(entries), np.nan), config.match, config.within)
        self.direct: list[DirectScores] = []
        self.sources: list[ScoreSource] = []
        self.tabled = list(range(len(entries)))
        if config.train is not None and config.train > len(entries):
            raise UsageError(f"benchmark '{name}' has {len(entries)} architectures, fewer than `train={config.train}`")
        if not entries:
            raise UsageError(f"every architecture of benchmark '{name}' is left out; use another benchmark")
        if bool((self.truth == self.truth[0]).all()):
            raise UsageError(f"all architectures of benchmark '{name}' are equally good; use another benchmark")

    def capture(
        self,
        settings: Sequence[Setting],
        wanted: Wanted | None,
        cache: ScoreCache,
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
        tabled: Collection[int] | None = None,
    ) -> None:
        """Make the tables for `wanted`, or with None prepare for stores of raw statistics; and `measure`.

        Args:
            settings: those of the configuration, with the content of their texts.
            wanted: the content of the tables.
            cache: of scores.
            executor: where to work.
            plugins: where operations and layouts are looked up.
            progress: called as that of `search`.
            tabled: places of the architectures to make tables of, None for all; the others are scored by passes.
        """
        self.direct = [
            DirectScores(
                self.configs, setting, plugins, cache=cache, executor=executor,
                statistics=self.config.space(installed_operations(plugins)).statistics,
                progress=lambda what, done, total: progress(f"{self.name}, {what}", done, total, None),
            )
            for setting in settings
        ]  # fmt: skip
        self.sources = list(self.direct)
        if wanted is not None:
            self._tabulate(settings, wanted, executor, plugins, progress, tabled)
        self.measure(settings[0], cache, executor, plugins, progress)

    def measure(
        self,
        setting: Setting,
        cache: ScoreCache,
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
    ) -> None:
        """The sizes of all architectures, and the scores of the baselines."""
        measure, baselines = find_proxy(self.config.match, plugins), resolve(BASELINES, plugins)
        rows = evaluate(
            self.configs, list({proxy.name: proxy for proxy in (*baselines, measure)}.values()), setting,
            cache=cache, executor=executor, plugins=plugins,
            progress=partial(_without_fitness, progress, f"baselines of {self.name}"),
        )  # fmt: skip
        values = [rows[key][measure.name]["value"] for key in self.keys]
        self.sizes = Sizes([np.nan if v is None else v for v in values], measure.name, self.config.within)
        for proxy in baselines:
            values = [rows[key][proxy.name]["value"] for key in self.keys]
            if None not in values:
                self.baselines[proxy.name] = torch.tensor(values, dtype=torch.float64)

    def _tabulate(
        self,
        settings: Sequence[Setting],
        wanted: Wanted,
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
        tabled: Collection[int] | None = None,
    ) -> None:
        self.sources = []
        self.tabled = list(range(len(self.keys))) if tabled is None else sorted(tabled)
        configs = {self.keys[place]: self.configs[self.keys[place]] for place in self.tabled}
        for setting, label in zip(settings, self.config.labels, strict=True):
            what = f"capture of {self.name}" + (f" ({label})" if label else "")
            tables = make_tables(
                configs, wanted, setting, cache_folder() / "tables",
                executor=executor, plugins=plugins,
                progress=partial(_without_fitness, progress, what),
            )  # fmt: skip
            self.sources.append(Stack(tables, wanted, setting.device))

    def parts(self, architectures: Sequence[int]) -> list[SearchPart]:
        """Some of the architectures to search on, under each setting."""
        truth = self.truth[list(architectures)]
        if bool((truth == truth[0]).all()):
            raise UsageError(f"the architectures of '{self.name}' to search on are all equally good; use more of them")
        sizes = self.sizes.part(architectures)
        correlation = RankCorrelation(truth.tolist(), self.config.fitness, self.sources[0].device, sizes)
        places = [self.tabled.index(place) for place in architectures]
        return [SearchPart(source.part(places), correlation) for source in self.sources]

    def refused(self, expressions: Collection[Expression], architectures: Sequence[int]) -> set[Expression]:
        """The expressions that a scorer refuses on some architectures because rounding decides their scores.

        A search does not see that of all; those in question are scored anew, in one pass over each model.
        """
        found: set[Expression] = set()
        for direct in self.direct:
            left = [e for e in expressions if e not in found and not steady(e, direct.operations)]
            if left:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ModelWarning)  # it is only asked whether there is a score
                    scored = torch.isfinite(direct.of(architectures).scores(left)).all(1).tolist()
                found |= {expression for expression, finite in zip(left, scored, strict=True) if not finite}
        return found

    def scores(self, expressions: Sequence[Expression], orientations: Sequence[int]) -> Tensor:
        """[s, n] for one expression, [s, m, n] for several: the scores of all architectures under each setting, higher
        is better."""
        signs = torch.tensor(orientations)[:, None]
        made = torch.stack([self._scores(number, expressions) * signs for number in range(len(self.sources))])
        return made if len(expressions) > 1 else made[:, 0]

    def _scores(self, setting: int, expressions: Sequence[Expression]) -> Tensor:
        """[m, n], under one setting."""
        source = self.sources[setting]
        source.prepare(expressions)
        known = torch.stack([source.score(expression) for expression in expressions]).cpu()
        others = sorted(set(range(len(self.keys))) - set(self.tabled))
        if not others:
            return known
        made = known.new_empty(len(expressions), len(self.keys))
        made[:, self.tabled] = known
        made[:, others] = self.direct[setting].of(others).scores(expressions)
        return made

    def test(
        self,
        winners: Sequence[tuple[Expression, int]],
        rows: Sequence[int],
        settings: Sequence[Setting],
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
    ) -> list[Graded]:
        """The agreement of each expression, with its orientation, on some of the architectures, under each setting."""
        wanted = wanted_by([expression for expression, _ in winners], installed_operations(plugins))
        self._tabulate(settings, wanted, executor, plugins, progress)
        return [self.graded(self.scores([winner], [sign]), rows) for winner, sign in winners]

    def baselines_on(self, rows: Sequence[int]) -> dict[str, Agreement]:
        """The agreement of the trivial proxies on some of the architectures, by name."""
        return {name: self.agreement(scores, rows) for name, scores in self.baselines.items()}

    def graded(self, scores: Tensor, rows: Sequence[int]) -> Graded:
        """The agreement of the scores [s, n] or [s, m, n] of all architectures on some of them."""
        some = list(rows)
        mean = mean_agreement(scores[..., some], self.truth[some], self.sizes.part(some))
        single = len(scores) == 1
        return Graded(mean, (mean,) if single else tuple(self.agreement(one, some) for one in scores))

    def agreement(self, scores: Tensor, rows: Sequence[int]) -> Agreement:
        """The agreement of the scores [n] of all architectures, or [m, n] of an ensemble, on some of them."""
        some = list(rows)
        return agreement_of(scores[..., some], self.truth[some], self.sizes.part(some))


def _without_fitness(progress: Progress, what: str, done: int, total: int) -> None:
    progress(what, done, total, None)


def agreement_of(scores: Tensor, truth: Tensor, sizes: Sizes | None = None) -> Agreement:
    """The agreement of scores [n], or of the summed ranks of several [m, n], on architectures with finite scores; at
    matched size too where sizes [n] are given."""
    return mean_agreement(scores[None], truth, sizes)


def mean_agreement(scores: Tensor, truth: Tensor, sizes: Sizes | None = None) -> Agreement:
    """The mean over settings of the agreement of scores [s, n], or of the summed ranks of several [s, m, n], on
    architectures with finite scores under all settings; the arguments are otherwise those of `agreement_of`."""
    finite = torch.isfinite(scores).flatten(0, -2).all(0)
    if (n := int(finite.sum())) < 2:
        return Agreement(n, None, None, 0.0)
    scores = scores[..., finite]
    if scores.dim() == 3:
        scores = torch.stack([mid_ranks(members).sum(0) for members in scores])
    known = truth[finite].numpy()
    if sizes is None:
        return Truth(known).mean_agreement(list(scores.numpy()))
    return SizedTruth(known, sizes.part(finite.nonzero()[:, 0].tolist())).mean_agreement(list(scores.numpy()))
