"""Compares the architectures of a list that fit a budget: with few candidates there is nothing to search."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import verdict_of
from lpz_nas.outcome import Tried, best, none_within, without_score
from lpzero_hf.executors.base import Executor
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import Architecture, SearchSpace

Progress = Callable[[int, int, float | None], None]


def compare(
    space: SearchSpace,
    architectures: Iterable[Architecture],
    proxy: Proxy,
    budget: Budget,
    *,
    trials: int,
    setting: Setting,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
) -> tuple[list[Tried], int]:
    """Score the architectures of a list that are within a budget.

    Args:
        space: of the architectures.
        architectures: the candidates; one that appears twice counts once.
        proxy: scores.
        budget: limits of the number of parameters.
        trials: maximum number of architectures to score; of more within the budget, a sample by the setting's seed.
        setting: minibatch, seed, precision and device.
        cache: stores scores for later calls; None stores none.
        executor: where to work; by default in this process, with one thread.
        plugins: where names are looked up.
        progress: called with (architectures scored, architectures to score, None).

    Returns:
        The scored architectures, in the order of the list, and the number of different candidates.

    Raises:
        LpzError: none is within the budget, or none has a score.
    """
    sizes = {architecture: count(space.config(architecture)) for architecture in dict.fromkeys(architectures)}
    within = [architecture for architecture, params in sizes.items() if budget.allows(params)]
    if not within:
        raise none_within(budget, sizes.values())
    if len(within) > trials:
        drawn = set(random.Random(setting.seed).sample(range(len(within)), trials))
        within = [architecture for place, architecture in enumerate(within) if place in drawn]
    rows = evaluate(
        {space.text(architecture): space.config(architecture) for architecture in within},
        [proxy],
        setting,
        cache=cache,
        executor=executor,
        plugins=plugins,
        progress=None if progress is None else lambda done, total: progress(done, total, None),
    )
    made = []
    for architecture in within:
        name = space.text(architecture)
        row = rows[name][proxy.name]
        verdict = verdict_of(row["value"], row["orientation"], row["status"], row["reason"])
        made.append(Tried(name, sizes[architecture], verdict.value, verdict.reason))
    if all(tried.score is None for tried in made):
        raise without_score(proxy.name, made)
    if progress is not None:
        progress(len(made), len(made), best(made).score)
    return made, len(sizes)
