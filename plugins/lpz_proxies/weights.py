"""Proxies that need only the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import Proxy, StatisticProxy

if TYPE_CHECKING:
    from torch import Tensor


def weight_norm(W: Tensor) -> Tensor:
    """The Frobenius norm of a weight [out, in]."""
    return torch.linalg.vector_norm(W)


PROXIES: list[Proxy] = [
    StatisticProxy(
        name="l2_norm",
        formula="sum over linear layers of ||W||_F",
        citation="Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("W",), weight_norm),),
    ),
]
