"""Proxies of the mixers: attention probabilities and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import Proxy, StatisticProxy

if TYPE_CHECKING:
    from torch import Tensor

SERIANNI = "Serianni and Kalita, Training-free NAS for RNNs and Transformers, ACL 2023, arXiv:2306.00288"


def confidence(S: Tensor, mask: Tensor) -> Tensor:
    """The mean over heads and real queries of the largest probability.

    Args:
        S: [B, h, T, T], or [B, T, d] for a mixer without attention.
        mask: [B, T], true at real tokens.
    """
    largest = S.amax(-1)
    real = (mask.unsqueeze(1) if largest.dim() == 3 else mask).expand_as(largest)
    return largest[real].mean()


def largest_output(A: Tensor, mask: Tensor) -> Tensor:
    """The mean over samples and units of the largest output over real tokens, for A [B, T, out]."""
    return A.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1).mean()


def importance(H: Tensor, dH: Tensor) -> Tensor:
    """sum over heads of |sum of H * dl/dH|, for H [B, h, T, d_head]."""
    return (H * dH).double().sum((0, 2, 3)).abs_().sum()


PROXIES: list[Proxy] = [
    StatisticProxy(
        name="attention_confidence",
        formula="sum over attention sites of the mean over heads and queries of max over keys of S",
        citation=f"{SERIANNI}; after Voita et al., ACL 2019, arXiv:1905.09418",
        batch_order_invariant=True,
        reductions=(Reduction("attention", ("S", "mask"), confidence),),
    ),
    StatisticProxy(
        name="attention_confidence_lpzero",
        formula="sum over linear layers of the mean of max over tokens of A (LPZero's code for GPT-2)",
        citation=f"{SERIANNI}; as in the code of LPZero, arXiv:2410.04808",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("A", "mask"), largest_output),),
    ),
    StatisticProxy(
        name="softmax_confidence",
        formula="the same over all mixers; where one has no attention, on the softmax of its output",
        citation=SERIANNI,
        batch_order_invariant=True,
        reductions=(Reduction("mixer", ("S", "mask"), confidence),),
    ),
    StatisticProxy(
        name="head_importance",
        formula="sum over heads of |sum H * dl/dH|",
        citation="after Michel et al., Are Sixteen Heads Really Better than One?, NeurIPS 2019, arXiv:1905.10650",
        batch_order_invariant=True,
        reductions=(Reduction("mixer", ("H", "dH"), importance),),
    ),
]
