"""Scores many architectures with many proxies, and remembers what it has scored before."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

import lpzero_hf
from lpzero_hf.capture import fallback as halvings
from lpzero_hf.capture.spec import STATISTICS
from lpzero_hf.errors import MinibatchError, MinibatchWarning, one_line
from lpzero_hf.executors import Executor, Failure, executor_for
from lpzero_hf.models.load import build_model
from lpzero_hf.models.minibatch import (
    BATCH_SIZE,
    SEQUENCE_LENGTH,
    Text,
    embedded_tokenizer,
    minibatch,
    read_text,
    warn_of_size,
)
from lpzero_hf.plugins import OWN, Claim, PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Proxy, StatisticProxy, source_digest
from lpzero_hf.scoring.cache import ScoreCache, digest
from lpzero_hf.scoring.score import Wanted, choose, everything, score

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Row = dict[str, Any]  # a `Score` as plain data, its `seconds` with those of the pass it shares


@dataclass(frozen=True)
class Setting:
    """What decides a score beside the architecture and the proxy.

    Args:
        batch_size: sequences in the minibatch.
        seq_len: tokens of each.
        text: the file that the minibatch is drawn from; None for the embedded text.
        random_tokens: random token ids instead of text.
        seed: draws the weights and the minibatch.
        dtype: precision of the weights, as torch calls it.
        device: where to score.
    """

    batch_size: int = BATCH_SIZE
    seq_len: int = SEQUENCE_LENGTH
    text: Path | None = None
    random_tokens: bool = False
    seed: int = 42
    dtype: str = "float32"
    device: str = "cpu"

    def key(self, threads: int) -> str:
        """A digest of all that fixes the numbers: the setting, the contents of the text, the versions, CPU threads."""
        content = hashlib.sha256(read_text(self.text).encode()).hexdigest()
        facts = asdict(self) | {"text": content, "device": torch.device(self.device).type}
        return digest(facts, STATISTICS, lpzero_hf.__version__, torch.__version__, transformers.__version__, threads)

    def carried_text(self) -> Text | None:
        """The text with its contents, for workers on other machines."""
        return None if self.text is None else Text(self.text, read_text(self.text))


def evaluate(
    configs: Mapping[str, PreTrainedConfig],
    proxies: Wanted | Iterable[Wanted] = "all",
    setting: Setting | None = None,
    *,
    cache: ScoreCache | None = None,
    workers: int = 1,
    threads: int = 1,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Row]]:
    """Score every architecture with every proxy, sharing passes; a score known already is not made again.

    Each score reaches the cache when its architecture is done, so an interrupted call goes on where it
    stopped. A score that failed is not remembered, nor those of an architecture that was run in micro-batches for want
    of memory (with a `MicroBatchWarning`), which equal those of the whole minibatch but for rounding. One that cannot
    be built, or that kills every worker it is given to, fails alone.

    Args:
        configs: architectures by any name.
        proxies: as for `score`; several workers need names, or proxies that can be pickled.
        setting: minibatch, seed, precision and device.
        cache: None remembers nothing.
        workers: processes.
        threads: CPU threads in each; they decide the rounding, the number of workers does not.
        executor: where to work instead, see `lpzero_hf.executors`.
        plugins: where names are looked up; by default everything installed.
        progress: called with (architectures done, architectures in all).

    Returns:
        For each architecture in the given order, a row for each proxy in the given order.

    Raises:
        UsageError: a proxy is unknown.
        LpzError: the text or the cache cannot be read, or there are no workers to be had.
    """
    plugins = load_plugins() if plugins is None else plugins
    setting = Setting() if setting is None else setting
    chosen = choose(proxies, plugins)
    if not everything(proxies):
        warn_of_size(chosen, setting.batch_size, setting.seq_len)
    keys = {proxy.name: key for proxy in chosen if (key := _key(proxy, plugins))}
    executor = executor_for(executor, workers, threads)
    context = setting.key(executor.threads)
    subjects = {name: digest(identity(config), context) for name, config in configs.items()}
    kept = {} if cache is None else cache.get_many(subjects.values(), keys.values())
    rows: dict[str, dict[str, Row]] = {
        name: {proxy: kept[subject, key] for proxy, key in keys.items() if (subject, key) in kept}
        for name, subject in subjects.items()
    }
    wanted = {proxy.name: _reference(proxy, plugins) for proxy in chosen}
    missing = {name: [wanted[proxy] for proxy in wanted if proxy not in rows[name]] for name in configs}
    tasks = [(name, configs[name], proxies) for name, proxies in missing.items() if proxies]
    done = len(configs) - len(tasks)
    tell = progress or (lambda done, total: None)
    tell(done, len(configs))
    work = functools.partial(_score_one, setting=setting, text=setting.carried_text(), plugins=plugins)
    told: set[str] = set()
    for number, result in executor.map(work, tasks):
        name = tasks[number][0]
        if isinstance(result, Failure):
            made = {proxy.name: _failed(proxy, result.reason) for proxy in chosen if proxy.name not in rows[name]}
            halved: list[str] = []
        else:
            made, halved = result
        halvings.tell(halved, told)
        if cache is not None and not halved:  # here and not in the worker, which may be on another machine
            cache.put(subjects[name], {keys[p]: r for p, r in made.items() if p in keys and r["status"] != "failed"})
        rows[name] |= made
        done += 1
        tell(done, len(configs))
    return {name: {proxy.name: rows[name][proxy.name] for proxy in chosen} for name in configs}


def _offer(proxy: Proxy, plugins: PluginRegistry) -> Claim | None:
    """The claim of the plugin that offers this very proxy, or None if none does."""
    claim = plugins.proxies.get(proxy.name)
    return claim if claim is not None and claim.item is proxy else None


def _reference(proxy: Proxy, plugins: PluginRegistry) -> Wanted:
    """The name of a plugin's proxy, since not every proxy can be sent to another process."""
    return proxy.name if _offer(proxy, plugins) else proxy


def _key(proxy: Proxy, plugins: PluginRegistry) -> str:
    """What a proxy's scores are kept under; "" if they cannot be kept safely.

    A plugin's proxy is known by distribution, name and version, any other by its source as well.
    """
    if not proxy.version:
        return ""
    if claim := _offer(proxy, plugins):
        owner = "" if claim.distribution == OWN else f"{claim.distribution}:"
        return f"{owner}{proxy.name}@{proxy.version}"
    source = source_digest(proxy)
    return f"source {source}:{proxy.name}@{proxy.version}" if source else ""


def identity(config: PreTrainedConfig) -> dict[str, Any]:
    """What of a configuration decides the model, as plain data."""
    return {key: value for key, value in config.to_dict().items() if key != "transformers_version"}


def _score_one(
    task: tuple[str, PreTrainedConfig, Sequence[Wanted]],
    *,
    setting: Setting,
    text: Text | None,
    plugins: PluginRegistry,
) -> tuple[dict[str, Row], list[str]]:
    """The rows of one architecture, and what was said of micro-batches."""
    with halvings.hearing() as heard:
        rows = _rows(task, setting, text, plugins)
    return rows, heard


def _rows(
    task: tuple[str, PreTrainedConfig, Sequence[Wanted]], setting: Setting, text: Text | None, plugins: PluginRegistry
) -> dict[str, Row]:
    _, config, wanted = task
    chosen = choose(wanted, plugins)
    try:
        model = build_model(
            config,
            seed=setting.seed,
            dtype=getattr(torch, setting.dtype),
            device=setting.device,
            lazy=all(proxy.requires != "model" for proxy in chosen),
        )
        batch = minibatch(
            model,
            text=text,
            tokenizer=embedded_tokenizer(),
            batch_size=setting.batch_size,
            seq_len=setting.seq_len,
            seed=setting.seed,
            random_tokens=setting.random_tokens,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MinibatchWarning)  # said once for all
            scores = score(model, batch, chosen, seed=setting.seed, plugins=plugins)
    except MinibatchError:  # wrong for every architecture
        raise
    except Exception as error:  # one architecture must not cost the scores of the others
        return {proxy.name: _failed(proxy, one_line(error)) for proxy in chosen}
    rows = {row.proxy: asdict(row) for row in scores.rows}
    for proxy in chosen:
        if isinstance(proxy, StatisticProxy):
            rows[proxy.name]["seconds"] += scores.seconds[proxy.network.name]
    return rows


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
