"""A proxy for lpzero-hf: the mean entropy of attention at initialisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lpzero_hf import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf import ModelLayout, Proxy


def entropy(S: Tensor, mask: Tensor) -> Tensor:
    """The entropy in nats of attention rows S [B, h, T, T], averaged over heads and real queries (mask [B, T])."""
    rows = S.clamp_min(1e-30).log().mul(S).sum(-1).neg()
    return rows[mask.unsqueeze(1).expand_as(rows)].mean()


def mean_over_sites(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """The mean of what the first reduction made of every attention site."""
    return sum(float(value) for value in values[0]) / len(values[0])


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The one proxy of this package."""
    from lpzero_hf import Reduction, StatisticProxy  # imports torch, which `lpz --help` does not need

    yield StatisticProxy(
        name="attention_entropy",
        formula="mean over attention sites, heads and queries of - sum over keys of S * log S",
        citation="after Zhai et al., ICML 2023, arXiv:2303.06296",
        reductions=(Reduction("attention", ("S", "mask"), entropy),),
        combine=mean_over_sites,
    )
