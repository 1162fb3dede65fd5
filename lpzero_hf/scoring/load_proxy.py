"""`load_proxy`: a proxy by name, expression, file or Hub repository, as a function `f(model, batch) -> float`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from torch import nn

from lpzero_hf.errors import once
from lpzero_hf.models.given_batch import GivenBatch
from lpzero_hf.models.minibatch import check_minibatch
from lpzero_hf.models.unwrap import unwrapped
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import ProxyLike, find_proxy, warn_of_minibatch
from lpzero_hf.scoring.score import score_proxies


@dataclass(frozen=True)
class LoadedProxy:
    """A proxy as a function for which higher is better, whatever the proxy's orientation.

    Args:
        proxy: what computes the score.
        plugins: where layouts are looked up.
        seed: for every random choice.
    """

    proxy: Proxy
    plugins: PluginRegistry
    seed: int = 42
    _said: set[tuple[type[Warning], str]] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of the proxy."""
        return self.proxy.name

    @property
    def citation(self) -> str:
        """The source of the proxy."""
        return self.proxy.citation

    def __call__(self, model: nn.Module, batch: GivenBatch) -> float:
        """The score of `model` on a minibatch, as `score` takes it, higher is better; leaves both unchanged. However
        often it is called, a warning is said once.

        Raises:
            ScoreError: the proxy is not applicable to this model, its score is not finite, or it failed.
            LpzError: the model or the minibatch cannot be used; the message says why.
        """
        caller = sys._getframe(1)
        with once(self._said, caller.f_code.co_filename, caller.f_lineno):
            scored = unwrapped(model)
            checked = check_minibatch(batch, scored)
            warn_of_minibatch([self.proxy], *checked["input_ids"].shape)
            made = score_proxies(scored, checked, [self.proxy], seed=self.seed, plugins=self.plugins)
        return self.proxy.orientation * made[self.proxy.name].require()


def load_proxy(source: ProxyLike, *, seed: int = 42, plugins: PluginRegistry | None = None) -> LoadedProxy:
    """The proxy that `source` names, as a function `f(model, batch) -> float` for which higher is better.

    Args:
        source: the name of an installed proxy (`snip`), an expression (`sum(sum(product(W, G)))`), an artifact's file
            (`found.json`), or a repository of the Hub with one (`user/repo`, `hub:user/repo`, `user/repo@REVISION`);
            a `Proxy`, or a plain function `f(model, batch) -> float`.
        seed: for every random choice of a proxy.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: there is no such proxy.
        LpzError: an artifact is damaged, or the Hub cannot be reached.

    Example:
        >>> from lpzero_hf import load_model, load_proxy, minibatch
        >>> model = load_model("gpt2-variant").model
        >>> load_proxy("decoder_params")(model, minibatch(model))
        4739072.0
    """
    plugins = load_plugins() if plugins is None else plugins
    return LoadedProxy(find_proxy(source, plugins), plugins, seed)
