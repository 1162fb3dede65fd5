"""The scores of one benchmark's architectures in a search, and how well they agree with the trained performance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from lpzero_hf.benchmarks.agreement import Agreement, Truth
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES, spaced
from lpzero_hf.benchmarks.held_out import content_of, marks_of, unseen
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import UsageError
from lpzero_hf.executors.base import Executor
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.expression_proxy import wanted_by
from lpzero_hf.proxies.resolve import find_proxy, resolve
from lpzero_hf.scoring.cache import ScoreCache, cache_folder
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation, mid_ranks
from lpzero_hf.searching.direct_scores import DirectScores
from lpzero_hf.searching.fitness import SearchPart
from lpzero_hf.searching.score_source import ScoreSource
from lpzero_hf.searching.table_cache import make_tables

Progress = Callable[[str, int, int, float | None], None]


class BenchmarkScores:
    """One benchmark in a search: its architectures, their truth, and the source of their scores.

    Args:
        name: of the benchmark, or its path.
        config: of the search.
        plugins: where the benchmark is looked up.
        without: marks of architectures that are left out, see `lpzero_hf.benchmarks.held_out`.

    Attributes:
        keys: of the architectures.
        truth: [n], their trained performance as a target: higher is better.
        sizes: [n], after `measure`.
        baselines: [n] by name, the scores of trivial proxies, after `measure` if some architectures are held out.

    Raises:
        UsageError: there is no such benchmark, it has too few architectures, or all have the same performance.
    """

    def __init__(self, name: str, config: SearchConfig, plugins: PluginRegistry, without: Collection[str] = ()) -> None:
        benchmark = load_benchmark(name, plugins, config.table)
        entries = spaced(benchmark.trained(), config.limit)
        self.name = name
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
        self._source: ScoreSource | None = None
        if config.train is not None and config.train > len(entries):
            raise UsageError(f"benchmark '{name}' has {len(entries)} architectures, fewer than --train {config.train}")
        if not entries:
            raise UsageError(f"every architecture of benchmark '{name}' is left out; use another benchmark")
        if bool((self.truth == self.truth[0]).all()):
            raise UsageError(f"all architectures of benchmark '{name}' are equally good; use another benchmark")

    @property
    def source(self) -> ScoreSource:
        """The source of the scores, after `capture`."""
        assert self._source is not None, "capture comes first"
        return self._source

    def capture(
        self,
        config: SearchConfig,
        wanted: Wanted | None,
        cache: ScoreCache,
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
    ) -> None:
        """Make the tables for `wanted`, or with None prepare for passes over the models; and `measure`."""
        if wanted is None:
            self._source = DirectScores(self.configs, config.setting, plugins, cache=cache, executor=executor)
        else:
            self._tabulate(config, wanted, executor, plugins, progress)
        self.measure(config, cache, executor, plugins, progress)

    def measure(
        self, config: SearchConfig, cache: ScoreCache, executor: Executor, plugins: PluginRegistry, progress: Progress
    ) -> None:
        """The sizes of all architectures, and the scores of the baselines."""
        measure = find_proxy(config.match, plugins)
        held_out = config.train is not None and config.train < len(self.keys)
        baselines = resolve(BASELINES, plugins) if held_out else ()
        rows = evaluate(
            self.configs, list({proxy.name: proxy for proxy in (*baselines, measure)}.values()), config.setting,
            cache=cache, executor=executor, plugins=plugins,
            progress=lambda done, total: progress(f"baselines of {self.name}", done, total, None),
        )  # fmt: skip
        values = [rows[key][measure.name]["value"] for key in self.keys]
        self.sizes = Sizes([np.nan if v is None else v for v in values], measure.name, config.within)
        for proxy in baselines:
            values = [rows[key][proxy.name]["value"] for key in self.keys]
            if None not in values:
                self.baselines[proxy.name] = torch.tensor(values, dtype=torch.float64)

    def _tabulate(
        self, config: SearchConfig, wanted: Wanted, executor: Executor, plugins: PluginRegistry, progress: Progress
    ) -> None:
        tables = make_tables(
            self.configs, wanted, config.setting, cache_folder() / "tables",
            executor=executor, plugins=plugins,
            progress=lambda done, total: progress(f"capture of {self.name}", done, total, None),
        )  # fmt: skip
        self._source = Stack(tables, wanted, config.setting.device)

    def part(self, architectures: Sequence[int], config: SearchConfig) -> SearchPart:
        """Some of the architectures to search on."""
        truth = self.truth[list(architectures)]
        if bool((truth == truth[0]).all()):
            raise UsageError(f"the architectures of '{self.name}' to search on are all equally good; use more of them")
        sizes = self.sizes.part(architectures)
        correlation = RankCorrelation(truth.tolist(), config.fitness, self.source.device, sizes)
        return SearchPart(self.source.part(architectures), correlation)

    def scores(self, expressions: Sequence[Expression], orientations: Sequence[int]) -> Tensor:
        """[n] for one expression, [m, n] for several: the scores of all architectures, higher is better."""
        made = [self.source.score(e) * o for e, o in zip(expressions, orientations, strict=True)]
        return torch.stack(made).cpu() if len(made) > 1 else made[0].cpu()

    def test(
        self,
        winners: Sequence[tuple[Expression, int]],
        rows: Sequence[int],
        config: SearchConfig,
        executor: Executor,
        plugins: PluginRegistry,
        progress: Progress,
    ) -> list[Agreement]:
        """The agreement of each expression, with its orientation, on some of the architectures."""
        wanted = wanted_by([expression for expression, _ in winners], installed_operations(plugins))
        self._tabulate(config, wanted, executor, plugins, progress)
        some = list(rows)
        return [self.agreement(self.scores([winner], [sign]), some) for winner, sign in winners]

    def agreement(self, scores: Tensor, rows: Sequence[int]) -> Agreement:
        """The agreement of the scores [n] of all architectures, or [m, n] of an ensemble, on some of them."""
        some = list(rows)
        return agreement_of(scores[..., some], self.truth[some], self.sizes.part(some))


def agreement_of(scores: Tensor, truth: Tensor, sizes: Sizes | None = None) -> Agreement:
    """The agreement of scores [n], or of the summed ranks of several [m, n], on architectures with finite scores; at
    matched size too where sizes [n] are given."""
    finite = torch.isfinite(scores) if scores.dim() == 1 else torch.isfinite(scores).all(0)
    if (n := int(finite.sum())) < 2:
        return Agreement(n, None, None, 0.0)
    scores = scores[..., finite]
    if scores.dim() == 2:
        scores = mid_ranks(scores).sum(0)
    known = truth[finite].numpy()
    if sizes is None:
        return Truth(known).agreement(scores.numpy())
    return SizedTruth(known, sizes.part(finite.nonzero()[:, 0].tolist())).agreement(scores.numpy())
