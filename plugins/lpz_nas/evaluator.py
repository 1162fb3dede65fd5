"""Scores architectures, with the method that Archai calls: `evaluate(arch, budget) -> float`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from lpzero_hf.errors import UsageError, once
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.executors.threads import threads
from lpzero_hf.models.minibatch import position_limit, vocabulary_size
from lpzero_hf.models.objective import head_kind
from lpzero_hf.models.unwrap import unwrapped
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Proxy, ranks_a_set
from lpzero_hf.proxies.resolve import ProxyLike, find_proxy, warn_of_minibatch
from lpzero_hf.scoring.cache import ScoreCache, digest
from lpzero_hf.scoring.cache_key import identity
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.load_proxy import LoadedProxy
from lpzero_hf.scoring.score import score_proxies
from lpzero_hf.scoring.scores import ScoreError
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.named import load_space, named_config

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """The score of one architecture, or the reason why there is none.

    Args:
        value: the score, higher is better whatever the proxy's own orientation; None if there is none.
        reason: why there is none.
    """

    value: float | None
    reason: str = ""


class ProxyEvaluator:
    """A proxy as an evaluator of architectures, to be maximised.

    It has the method of Archai's `ModelEvaluator`, but does not need Archai (`lpz_nas.archai_search` makes it one); any
    tool that takes a function of an architecture takes `evaluator.evaluate`. Scores are cached.

    Args:
        proxy: an argument of `load_proxy`, its result, or a plain function `f(model, batch) -> float`.
        space: of an `Architecture` or a bare text id; None if neither is used.
        setting: minibatch, seed, precision and device; the default is that of `lpzero_hf.Setting`.
        cache: stores scores of architectures beyond this process; None stores none.
        threads: CPU threads; they decide the last digits.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: the proxy or the space is unknown.

    Example:
        >>> from lpz_nas import ProxyEvaluator
        >>> evaluator = ProxyEvaluator("num_heads", space="tiny-gpt2")
        >>> evaluator.evaluate("d64.e32.k2-h2.i64-h4.i128")
        6.0
    """

    def __init__(
        self,
        proxy: ProxyLike | LoadedProxy,
        *,
        space: str | Path | SearchSpace | None = None,
        setting: Setting | None = None,
        cache: ScoreCache | None = None,
        threads: int = 1,
        plugins: PluginRegistry | None = None,
    ) -> None:
        self.plugins = load_plugins() if plugins is None else plugins
        self.proxy = proxy_of(proxy, self.plugins)
        self.space = None if space is None else load_space(space, self.plugins)
        if not isinstance(setting, Setting | None):
            raise UsageError(f"{setting!r} is no setting; give Setting(batch_size=..., seq_len=...)")
        self.setting = (Setting() if setting is None else setting).portable()  # the text is read once
        self._cache, self._executor = cache, LocalExecutor(threads)
        warn_of_minibatch([self.proxy], self.setting.batch_size, self.setting.seq_len)
        self._verdicts: dict[str, Verdict] = {}
        self._said: set[tuple[type[Warning], str]] = set()
        self._batches: dict[tuple[int, int | None, str], dict[str, Tensor]] = {}

    def evaluate(self, arch: Any, budget: float | None = None) -> float:
        """The score of an architecture; higher is better.

        Args:
            arch: an `Architecture` or text id of the evaluator's space, a name that `lpz score` knows (of the zoo,
                or `SPACE:ID`), a configuration, a `PreTrainedModel`, or an object that holds one of these as `.arch`,
                as Archai's `ArchaiModel` does. A name or a configuration is scored with random weights from the
                setting's seed, once. A model is scored with its own weights, every time, because they may have
                changed; but only once if it has an `archid`, as in Archai.
            budget: Archai's share of a full evaluation; without effect, because a proxy costs a single pass.

        Raises:
            UsageError: it is none of these, or the space has no such architecture.
            ScoreError: the proxy has no score of it; the message says why.
        """
        verdict = self.try_evaluate(arch)
        if verdict.value is None:
            raise ScoreError(f"proxy '{self.proxy.name}' has no score of this architecture: {verdict.reason}")
        return verdict.value

    def try_evaluate(self, arch: Any) -> Verdict:
        """As `evaluate`, but a missing score is returned with its reason instead of raised; a warning is said once."""
        caller = sys._getframe(1)
        with once(self._said, caller.f_code.co_filename, caller.f_lineno):
            return self._tried(arch)

    def _tried(self, arch: Any) -> Verdict:
        inner = getattr(arch, "arch", arch)
        if isinstance(inner, nn.Module):
            inner = unwrapped(inner)
            name = getattr(arch, "archid", None)
            if name is None:
                return self._of_model(inner)
            key = digest("archid", str(name))
            if key not in self._verdicts:
                self._verdicts[key] = self._of_model(inner)
            return self._verdicts[key]
        config = self._config(inner)
        key = digest("config", identity(config))
        if key not in self._verdicts:
            self._verdicts[key] = self._of_config(config)
        return self._verdicts[key]

    def _config(self, arch: Any) -> PreTrainedConfig:
        if isinstance(arch, PreTrainedConfig):
            return arch
        if isinstance(arch, Architecture):
            if self.space is None:
                raise UsageError("an Architecture belongs to a space; name it with ProxyEvaluator(..., space=...)")
            return self.space.config(arch)
        if not isinstance(arch, str):
            raise UsageError(
                f"{type(arch).__name__} is no architecture; give an Architecture, a text id, a configuration or a model"
            )
        config = named_config(arch, self.plugins)
        if config is not None:
            return config
        if self.space is None:
            raise UsageError(f"'{arch}' is neither in the zoo nor of the form SPACE:ID; name the space of a bare id")
        return self.space.config(self.space.parse(arch))

    def _of_config(self, config: PreTrainedConfig) -> Verdict:
        rows = evaluate(
            {"": config}, [self.proxy], self.setting,
            cache=self._cache, executor=self._executor, plugins=self.plugins,
        )  # fmt: skip
        row = rows[""][self.proxy.name]
        return verdict_of(row["value"], row["orientation"], row["status"], row["reason"])

    def _of_model(self, model: PreTrainedModel) -> Verdict:
        kind = (vocabulary_size(model), position_limit(model), head_kind(model))
        if kind not in self._batches:
            self._batches[kind] = self.setting.minibatch(model)
        with threads(self._executor.threads):
            scores = score_proxies(
                model, self._batches[kind], [self.proxy], seed=self.setting.seed, plugins=self.plugins
            )  # fmt: skip
        row = scores[self.proxy.name]
        return verdict_of(row.value, row.orientation, row.status, row.reason)


def verdict_of(value: float | None, orientation: int, status: str, reason: str) -> Verdict:
    """A row of scores as a verdict: times the orientation, so that higher is better."""
    return Verdict(None, f"{status}: {reason}") if value is None else Verdict(orientation * value)


def proxy_of(proxy: ProxyLike | LoadedProxy, plugins: PluginRegistry) -> Proxy:
    """The proxy of a user's argument. Raises `UsageError` if it is unknown, or gives no score to one architecture."""
    found = proxy.proxy if isinstance(proxy, LoadedProxy) else find_proxy(proxy, plugins)
    if ranks_a_set(found):
        raise UsageError(f"'{found.name}' ranks a given set, and this search scores one by one; use one of its members")
    return found
