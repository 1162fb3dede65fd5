"""Compares given models by proxies: who is ahead of whom, by how many proxies, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import LpzError, ModelError, UsageError, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.models.load import Models, load_config, named_models
from lpzero_hf.models.minibatch import position_limit
from lpzero_hf.models.model_kind import Kind, model_kind
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Proxy, single
from lpzero_hf.proxies.evidence import SIZES, evidence_of, recommended_beside_size
from lpzero_hf.proxies.resolve import ProxyLike, ProxySelection, installed_proxies, resolve
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.cache_key import architecture_content
from lpzero_hf.scoring.comparability import facts_of
from lpzero_hf.scoring.comparison import SURE, Comparison, Contestant, Draws, Row, compared
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SEEDS = 3
BESIDE = (*SIZES, "flops")  # shown beside the places


@dataclass(frozen=True)
class NamedModel:
    """A model that can be built.

    Args:
        name: the caller's.
        config: its configuration.
        model: lazy.
        content: of its class and its configuration, equal for one architecture under two names.
    """

    name: str
    config: PreTrainedConfig
    model: PreTrainedModel
    content: tuple[str, Mapping[str, Any]]

    @property
    def kind(self) -> Kind:
        """Encoder, decoder, ..."""
        return model_kind(self.model)


@said_once
def compare(
    models: Models,
    proxies: ProxyLike | Iterable[ProxyLike] | None = None,
    *,
    seeds: int = SEEDS,
    sure: float = SURE,
    setting: Setting | None = None,
    shorten: bool | None = None,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare models without training them.

    Each seed draws the weights and the minibatch anew, and each proxy ranks all models by each draw. A model's place is
    that of the mean of its ranks over proxies and seeds, all weighted alike. A proxy that lacks a score of any model in
    any draw has no vote. Models of one architecture are scored once, so that they share their places. All see the same
    tokens, those of the embedded tokenizer.

    Args:
        models: configurations, or names as `load_model` takes them, in a list or by other names: of the
            zoo, `SPACE:ID`, folders, `config.json` files or Hub ids. Their order does not matter.
        proxies: as for `score`; by default those recommended for the kinds of these models (`recommended`), without the
            sizes, which are shown beside.
        seeds: the number of draws; the first has the setting's seed, the others those that follow.
        sure: one model is ahead of another if it has the better score in more than this share of seeds and proxies,
            from 0.5 to below 1; else they are too close to tell.
        setting: minibatch, first seed, precision and device.
        shorten: reduce the tokens per sequence to the positions of the shortest model; by default only where no setting
            is given.
        cache: stores scores for later calls; None stores none.
        executor: where to work; by default in this process, with one thread.
        plugins: where names are looked up.
        progress: called with (models scored, total number), those of all draws.

    Returns:
        The models, the best first, with what is told of each pair. One that cannot be built or scored is among
        `failed`, and the others are compared.

    Raises:
        UsageError: fewer than two models, two of one name, an unknown proxy, or an option is out of range.
        LpzError: fewer than two can be built, or no proxy scores all of them.

    Example:
        >>> from lpzero_hf import Setting, compare
        >>> found = compare(["gpt2-variant", "llama-mini"], ["num_layers", "l2_norm"], setting=Setting(2, 16))
        >>> [model.name for model in found.models]
        ['llama-mini', 'gpt2-variant']
    """
    plugins = load_plugins() if plugins is None else plugins
    if seeds < 1:
        raise UsageError(f"{seeds} seeds give no score; ask for 1 or more")
    if not 0.5 <= sure < 1:
        raise UsageError(f"a share that counts as sure is from 0.5 to below 1, not {sure}")
    asked = None if proxies is None else resolve(proxies, plugins)
    failed: dict[str, LpzError] = {}
    shorten = setting is None if shorten is None else shorten
    setting = Setting() if setting is None else setting
    candidates = _candidates(models, setting, plugins, failed)
    selection = asked or _recommended(candidates, plugins)
    if shorten:
        setting = replace(setting, seq_len=min([setting.seq_len, *_positions(candidates)]))
    candidates, beside = _fed(candidates, selection, setting, plugins, failed)
    selection.warn_of_minibatch(setting.batch_size, setting.seq_len)
    draws = _scored(candidates, selection, beside, setting, seeds, cache, executor, plugins, progress)
    candidates = _several([c for c in candidates if _has_scores(c.name, selection, draws, failed)], failed)
    contestants = []
    for candidate in candidates:
        sizes = {proxy.name: draws[0][candidate.name][proxy.name]["value"] for proxy in beside}
        facts = facts_of(candidate.name, candidate.model)
        contestants.append(
            Contestant(candidate.name, candidate.kind, facts.vocabulary, sizes, facts.objective, facts.initial)
        )
    kinds = dict.fromkeys(contestant.kind for contestant in contestants)
    evidence = {proxy.name: {kind: evidence_of(proxy, kind, plugins) for kind in kinds} for proxy in selection}
    return compared(
        contestants, selection, draws,
        same=_groups(candidates), evidence=evidence, sure=sure, setting=setting, failed=failed,
    )  # fmt: skip


def _candidates(
    models: Models, setting: Setting, plugins: PluginRegistry, failed: dict[str, LpzError]
) -> list[NamedModel]:
    """Those that can be built; the errors of the others are added to `failed`."""
    sources = named_models(models)
    if len(sources) < 2:
        raise UsageError("there is nothing to compare with; name at least two models")
    found = []
    for name, source in sources.items():
        try:
            given = load_config(source, plugins=plugins)[0]
            model = setting.model(given, lazy=True)
        except LpzError as error:
            failed[name] = error
        else:
            found.append(NamedModel(name, given, model, (type(model).__name__, architecture_content(given))))
    return _several(found, failed)


def _several(candidates: list[NamedModel], failed: Mapping[str, LpzError]) -> list[NamedModel]:
    if len(candidates) > 1:
        return candidates
    reasons = "; ".join(f"{e}" if f"'{name}'" in str(e) else f"{name}: {e}" for name, e in failed.items())
    kind = UsageError if any(isinstance(error, UsageError) for error in failed.values()) else LpzError
    raise kind(f"fewer than two of these models can be compared: {reasons}")


def _recommended(candidates: Sequence[NamedModel], plugins: PluginRegistry) -> ProxySelection:
    """The proxies recommended for any of the kinds, without the sizes."""
    kinds = dict.fromkeys(candidate.kind for candidate in candidates)
    return resolve(recommended_beside_size(kinds, plugins), plugins)


def _positions(candidates: Sequence[NamedModel]) -> list[int]:
    return [limit for candidate in candidates if (limit := position_limit(candidate.model)) is not None]


def _fed(
    candidates: list[NamedModel],
    proxies: Sequence[Proxy],
    setting: Setting,
    plugins: PluginRegistry,
    failed: dict[str, LpzError],
) -> tuple[list[NamedModel], list[Proxy]]:
    """The models that the minibatch fits, and the proxies to show beside; without FLOPs, which need a minibatch, where
    none is needed otherwise and one of the models takes none."""
    offered = installed_proxies(plugins)
    beside = [offered[name].item for name in BESIDE if name in offered]
    needed, fit = any(proxy.uses_minibatch for proxy in single(proxies)), []
    portable = setting.portable() if needed else setting
    for candidate in candidates:
        try:
            portable.minibatch(candidate.model)
        except LpzError as error:
            if needed:
                failed[candidate.name] = error
                continue
            beside = [proxy for proxy in beside if not proxy.uses_minibatch]
        fit.append(candidate)
    return _several(fit, failed), beside


def _has_scores(name: str, proxies: Sequence[Proxy], draws: Draws, failed: dict[str, LpzError]) -> bool:
    """Whether any proxy scores a model; if all failed, its error is added to `failed`."""
    rows = [draw[name][proxy.name] for draw in draws for proxy in proxies]
    if any(row["status"] != "failed" for row in rows):
        return True
    failed[name] = ModelError(f"'{name}' could not be scored: {rows[0]['reason']}")
    return False


def _groups(candidates: Sequence[NamedModel]) -> list[list[str]]:
    """The names of each architecture, in alphabetical order."""
    groups: list[tuple[object, list[str]]] = []
    for candidate in sorted(candidates, key=lambda candidate: candidate.name):
        group = next((names for content, names in groups if content == candidate.content), None)
        if group is None:
            groups.append((candidate.content, [candidate.name]))
        else:
            group.append(candidate.name)
    return [names for _, names in groups]


def _scored(
    candidates: Sequence[NamedModel],
    proxies: Sequence[Proxy],
    beside: Sequence[Proxy],
    setting: Setting,
    seeds: int,
    cache: ScoreCache | None,
    executor: Executor | None,
    plugins: PluginRegistry,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, dict[str, Row]]]:
    """By draw, the scores of each model by each proxy. The first of each architecture is scored for all."""
    by_name = {candidate.name: candidate.config for candidate in candidates}
    groups = _groups(candidates)
    configs = {names[0]: by_name[names[0]] for names in groups}
    draws = []
    for number in range(seeds):

        def step(done: int, total: int, before: int = number * len(configs)) -> None:
            if progress is not None:
                progress(before + done, seeds * total)

        wanted = tuple(dict.fromkeys([*proxies, *(beside if number == 0 else ())]))
        rows = evaluate(
            configs, wanted, replace(setting, seed=setting.seed + number),
            cache=cache, executor=executor, plugins=plugins, progress=step,
        )  # fmt: skip
        draws.append({name: rows[names[0]] for names in groups for name in names})
    return draws
