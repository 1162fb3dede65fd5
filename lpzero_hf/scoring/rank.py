"""Ranks architectures by proxies, best first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.errors import LpzError, UsageError, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.models.load import Models, load_config, named_models
from lpzero_hf.models.model_kind import Kind, model_kind
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.evidence import SIZES, chosen
from lpzero_hf.proxies.resolve import ProxyLike
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.comparability import warn_of_differences
from lpzero_hf.scoring.display import Displayed, Panel, Points, columns
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.scores import Score
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import SearchSpace
from lpzero_hf.spaces.named import load_space

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Ranked:
    """One architecture in a ranking.

    Args:
        name: `SPACE:ID`, as `load_model` takes it, or the caller's name for it.
        rank: the mean over the proxies of its rank by each, 1 for the best; None if any has no score of it.
        rows: the score of each proxy, by its name.
    """

    name: str
    rank: float | None
    rows: dict[str, Score]


class Ranking(list[Ranked], Displayed):
    """Architectures by proxies, the best first. A notebook shows them as a table."""

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> Ranked: ...

    @overload
    def __getitem__(self, place: slice, /) -> Ranking: ...

    def __getitem__(self, place: SupportsIndex | slice, /) -> Ranked | Ranking:
        """One of them; a part is a ranking too."""
        return Ranking(list(self)[place]) if isinstance(place, slice) else super().__getitem__(place)

    @property
    def proxies(self) -> list[str]:
        """The names of the proxies."""
        return list(self[0].rows) if self else []

    @property
    def title(self) -> str:
        """Of how many, by what."""
        return f"{len(self)} architectures, ranked by {', '.join(map(self._named, self.proxies))}"

    def _named(self, proxy: str) -> str:
        return f"{proxy} (lower is better)" if self[0].rows[proxy].orientation < 0 else proxy

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every architecture: its mean rank, the score by each proxy, and why one is missing."""
        rows = []
        for one in self:
            reasons = [f"{name}: {row.reason}" for name, row in one.rows.items() if row.value is None]
            fixed = {"architecture": one.name, "rank": one.rank, "reason": "; ".join(reasons)}
            rows.append(columns(fixed, {name: row.value for name, row in one.rows.items()}, "proxy"))
        return rows

    def panels(self) -> list[Panel]:
        """The rank by each proxy against the place; by a single proxy, the scores."""
        ranked = [one for one in self if one.rank is not None]
        places = list(range(1, len(ranked) + 1))
        points = []
        for name in self.proxies:
            values = [one.rows[name].require() for one in ranked]
            ranks = [float(place) for place in rankdata([-(one.rows[name].oriented or 0.0) for one in ranked])]
            points.append(Points(name, places, values if len(self.proxies) == 1 else ranks))
        return [
            Panel("place", self._named(self.proxies[0]) if len(self.proxies) == 1 else "rank by each proxy", points)
        ]


@said_once
def rank(
    architectures: str | Path | SearchSpace | Models,
    proxies: ProxyLike | Iterable[ProxyLike] | None = None,
    *,
    n: int = 100,
    by: Literal["architecture", "choice"] = "choice",
    setting: Setting | None = None,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ranking:
    """Rank architectures without training them.

    With several proxies, architectures are ordered by the mean of their ranks.

    Args:
        architectures: a space, from which `n` architectures are drawn, or models: names as `load_model` takes them or
            configurations, in a list or by name; those without names are called by family and place,
            "gpt2 1", "llama 2".
        proxies: as for `score`; by default those recommended for the kinds of these models (`recommended`), without the
            sizes.
        n: number of architectures to draw.
        by: how to draw them, see `Space.sample`, with the setting's seed.
        setting: minibatch, seed, precision and device.
        cache: stores scores for later calls; None stores none.
        executor: where to work; by default in this process, with one thread. Its threads decide the last digits.
        plugins: where names are looked up.
        progress: called with (architectures done, total number of architectures).

    Returns:
        The best first; architectures without a score of some proxy come last. It is a list of `Ranked`. Warns
        (`ComparisonWarning`) of vocabularies, objectives and initial weights that differ between them.

    Raises:
        UsageError: the space or a proxy is unknown, there is nothing to rank, or nothing that can be built, by which
            proxies could be recommended.

    Example:
        >>> from lpzero_hf import rank
        >>> best = rank("tiny-gpt2", ["decoder_params", "num_heads"], n=8)[0]
        >>> best.name.startswith("tiny-gpt2:d"), best.rank <= 4
        (True, True)
    """
    if n < 1:
        raise UsageError(f"{n} architectures are nothing to rank; draw more: `n=1` or more")
    plugins = load_plugins() if plugins is None else plugins
    setting = setting or Setting()
    prefix = ""
    if isinstance(architectures, str | Path):
        prefix, architectures = str(architectures), load_space(architectures, plugins)
    if isinstance(architectures, SearchSpace):
        space, prefix = architectures, prefix or architectures.name
        drawn = space.samples(n, setting.seed, by)
        configs = {f"{prefix}:{space.text(architecture)}": space.config(architecture) for architecture in drawn}
    else:
        models = named_models(architectures)
        configs = {name: load_config(model, plugins=plugins)[0] for name, model in models.items()}
    if not configs:
        raise UsageError("there are no architectures to rank")
    kinds = _kinds(configs.values(), setting) if proxies is None else ()
    selection = chosen(proxies, kinds, plugins, without=SIZES)
    selection.warn_of_minibatch(setting.batch_size, setting.seq_len)
    rows = evaluate(
        configs,
        selection,
        setting,
        cache=cache,
        executor=executor,
        plugins=plugins,
        progress=progress,
    )
    warn_of_differences(configs, setting)
    scored = [name for name, scores in rows.items() if all(row["value"] is not None for row in scores.values())]
    places = dict.fromkeys(scored, 0.0)
    names = list(next(iter(rows.values())))
    for proxy in names if scored else []:
        ranks = rankdata([-rows[name][proxy]["orientation"] * rows[name][proxy]["value"] for name in scored])
        for name, place in zip(scored, ranks, strict=True):
            places[name] += float(place) / len(names)
    ranking = [
        Ranked(name, places.get(name), {proxy: Score(**row) for proxy, row in scores.items()})
        for name, scores in rows.items()
    ]
    return Ranking(sorted(ranking, key=lambda ranked: (ranked.rank is None, ranked.rank)))


def _kinds(configs: Iterable[PreTrainedConfig], setting: Setting) -> tuple[Kind, ...]:
    """The kinds of models, of which one of each class is looked at."""
    kinds: dict[object, Kind] = {}
    for config in configs:
        same = (type(config), getattr(config, "is_decoder", False))
        if same not in kinds:
            with suppress(LpzError):  # one that cannot be built is told with its row
                kinds[same] = model_kind(setting.model(config, lazy=True))
    if not kinds:
        raise UsageError("none of these architectures can be built, so no proxy is recommended; name some: `proxies=`")
    return tuple(dict.fromkeys(kinds.values()))
