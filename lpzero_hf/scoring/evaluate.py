"""Scores many architectures with many proxies, and caches the scores."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from lpzero_hf.capture import worker_warnings
from lpzero_hf.errors import MinibatchError, ModelWarning, one_line
from lpzero_hf.executors.base import Executor, Failure
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.foreign import Survived
from lpzero_hf.plugins import OWN, PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Proxy, StatisticProxy, single, source_digest
from lpzero_hf.proxies.resolve import PortableProxies, claim_of
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.cache_key import architecture_key
from lpzero_hf.scoring.composite_scores import add_composite_scores
from lpzero_hf.scoring.fitting import NARROWER, TOO_LARGE, Crowded, fitting
from lpzero_hf.scoring.score import score_proxies
from lpzero_hf.scoring.scores import Score
from lpzero_hf.scoring.setting import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Row = dict[str, Any]  # a `Score` as plain data, its `seconds` with those of the pass it shares
Made = tuple[dict[str, Row], list[worker_warnings.Recorded]]  # the rows of one architecture, and the warnings
Asked = tuple[str, "PreTrainedConfig", PortableProxies]  # a name, its architecture, and the proxies that it lacks


def evaluate(
    configs: Mapping[str, PreTrainedConfig],
    proxies: Sequence[Proxy],
    setting: Setting | None = None,
    *,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Row]]:
    """Score every architecture with every proxy, sharing passes; cached scores are not computed again.

    Scores are cached when their architecture is done, so that an interrupted call continues where it stopped. Failed
    scores are not cached, nor those of an architecture that ran in micro-batches because the device was out of memory
    (with a `MicroBatchWarning`): they equal those of the whole minibatch except for rounding. If an architecture
    cannot be built, or crashes every worker, only its own scores fail. Before a large model is built its memory is
    estimated: one that needs more than its worker's share is scored alone, after the others; proxies that would not
    fit even so fail, and the others are scored.

    Args:
        configs: architectures by any name.
        proxies: as `resolve` returns them; one that ranks a set ranks `configs`, by the cached scores of its members.
            Several workers need proxies that a plugin offers or that can be pickled.
        setting: minibatch, seed, precision and device.
        cache: stores scores for later calls; None stores none.
        executor: where to work; by default in this process, with one thread. Its threads decide the rounding.
        plugins: where proxies and layouts come from; by default everything installed.
        progress: called with (architectures done, total number of architectures).

    Returns:
        For each architecture in the given order, a row for each proxy in the given order.

    Raises:
        LpzError: the text or the cache cannot be read, or no worker can be started.
    """
    plugins = load_plugins() if plugins is None else plugins
    setting = (Setting() if setting is None else setting).portable()
    executor = LocalExecutor() if executor is None else executor
    requested, proxies = proxies, single(proxies)
    keys = {proxy.name: key for proxy in proxies if (key := _key(proxy, plugins))}
    context = setting.key(executor.threads)
    subjects = {name: architecture_key(config, context, plugins) for name, config in configs.items()}
    kept = {} if cache is None else cache.get_many(filter(None, subjects.values()), keys.values(), _sound)
    rows: dict[str, dict[str, Row]] = {
        name: {
            proxy.name: kept[subject, keys[proxy.name]] | {"orientation": proxy.orientation}  # as it is now
            for proxy in proxies
            if (subject, keys.get(proxy.name)) in kept
        }
        for name, subject in subjects.items()
    }
    missing = {name: tuple(proxy for proxy in proxies if proxy.name not in rows[name]) for name in configs}
    tasks = [(name, configs[name], PortableProxies(some, plugins)) for name, some in missing.items() if some]
    done = len(configs) - len(tasks)
    report = progress or (lambda done, total: None)
    report(done, len(configs))
    reported: set[str] = set()
    for number, result in _results(executor, tasks, setting, plugins):
        name = tasks[number][0]
        if isinstance(result, Failure):
            made = {proxy.name: _failed(proxy, result.reason) for proxy in missing[name]}
            messages: list[worker_warnings.Recorded] = []
        else:
            made, messages = result
        worker_warnings.report(messages, reported)
        if cache is not None and subjects[name] and not worker_warnings.in_parts(messages):
            # Here and not in the worker, which may be on another machine.
            cache.put(subjects[name], {keys[p]: r for p, r in made.items() if p in keys and r["status"] != "failed"})
        rows[name] |= made
        done += 1
        report(done, len(configs))
    ordered = {name: {proxy.name: rows[name][proxy.name] for proxy in proxies} for name in configs}
    notes = Counter(n for made in ordered.values() for n in {r["reason"] for r in made.values() if r["status"] == "ok"})
    for message in worker_warnings.counted({note: number for note, number in notes.items() if note}, len(ordered)):
        warnings.warn(message, ModelWarning, stacklevel=2)
    add_composite_scores(ordered, requested)
    return {name: {proxy.name: made[proxy.name] for proxy in requested} for name, made in ordered.items()}


def _sound(row: Row) -> bool:
    """Whether a cached row is a score as `_rows` makes it."""
    numbers = [row.get("seconds"), 0.0 if row.get("value") is None else row["value"]]
    return (
        row.keys() == {field.name for field in fields(Score)}
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        and all(isinstance(row[name], str) for name in ("proxy", "status", "reason"))
        and (row["status"] == "ok") == (row["value"] is not None)
    )


def _key(proxy: Proxy, plugins: PluginRegistry) -> str:
    """The cache key of a proxy's scores; "" if they cannot be cached safely.

    One of this library is identified by name and version; any other also by its code, and by the distribution of the
    plugin that offers it.
    """
    if not proxy.version:
        return ""
    claim = claim_of(proxy, plugins)
    if claim is not None and claim.distribution == OWN:
        return f"{proxy.name}@{proxy.version}"
    owner = "" if claim is None else f"{claim.distribution}:"
    code = source_digest(proxy)
    return f"{owner}source {code}:{proxy.name}@{proxy.version}" if code else ""


def _results(
    executor: Executor, tasks: Sequence[Asked], setting: Setting, plugins: PluginRegistry
) -> Iterator[tuple[int, Made | Failure]]:
    """(number, result) of each task as it is finished; those that need more than a share of the memory come last."""
    work = functools.partial(_score_one, setting=setting, plugins=plugins)
    large = []
    for number, result in executor.map(functools.partial(work, sharing=executor.sharing), tasks):
        if result is None:
            large.append(number)
        else:
            yield number, result
    for number in large:
        for _, result in executor.map(work, [tasks[number]]):
            assert result is not None  # nobody to wait for
            yield number, result


def _score_one(task: Asked, *, setting: Setting, plugins: PluginRegistry, sharing: int = 1) -> Made | None:
    """The rows of one architecture and the warnings; None if it needs more than its share of the memory."""
    with worker_warnings.recording() as recorded:
        try:
            rows = _rows(task[1], task[2].proxies, setting, plugins, sharing)
        except Crowded:
            return None
    return rows, recorded


def _rows(
    config: PreTrainedConfig, proxies: Sequence[Proxy], setting: Setting, plugins: PluginRegistry, sharing: int
) -> dict[str, Row]:
    try:
        with Survived():
            model = setting.model(config, lazy=True)
            batch = setting.minibatch(model) if any(proxy.uses_minibatch for proxy in proxies) else None
            plan = fitting(model, batch, proxies, plugins, device=setting.device, sharing=sharing)
            scores = score_proxies(model, batch, proxies, plan, seed=setting.seed, plugins=plugins)
    except (MinibatchError, Crowded):  # wrong for every architecture, or not to be done now
        raise
    except Exception as error:  # one architecture must not cost the scores of the others
        return {proxy.name: _failed(proxy, one_line(error)) for proxy in proxies}
    rows = {row.proxy: asdict(row) for row in scores.rows if row.status != "left out"}
    for proxy in proxies:
        if isinstance(proxy, StatisticProxy) and proxy.name in rows:
            rows[proxy.name]["seconds"] += scores.seconds[proxy.network.name]
    too_large = NARROWER if setting.dtype in ("float32", "float64") else TOO_LARGE
    return rows | {proxy.name: _failed(proxy, too_large) for proxy in proxies if proxy.name not in rows}


def _failed(proxy: Proxy, reason: str) -> Row:
    return {
        "proxy": proxy.name,
        "value": None,
        "status": "failed",
        "reason": reason,
        "orientation": proxy.orientation,
        "passes": proxy.passes,
        "seconds": 0.0,
    }
