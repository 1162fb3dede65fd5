"""SynFlow and its logarithmic forms, on the network of `lpz_proxies.synflow`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from lpzero_hf.capture.spec import Network, Reduction
from lpzero_hf.proxies.base import Proxy, StatisticProxy

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lpzero_hf.models.layout import ModelLayout
    from lpzero_hf.models.objective import Batch

ROUNDING = 1e-12  # of the largest gradient of a layer, in double precision


def _output_sum(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    from lpz_proxies.synflow import output_sum

    return output_sum(model, batch, seed)


def _positive(parameter: Tensor) -> Tensor:
    from lpz_proxies.synflow import positive

    return positive(parameter)


def _linear_network(model: PreTrainedModel, layout: ModelLayout) -> AbstractContextManager[None]:
    from lpz_proxies.synflow import linear_network

    return linear_network(model, layout)


def _one_sequence(model: PreTrainedModel, batch: Batch, seed: int) -> Batch:
    from lpz_proxies.synflow import one_sequence

    return one_sequence(model, batch, seed)


SYNFLOW = Network("synflow", _output_sum, substitute=_positive, context=_linear_network, prepare=_one_sequence)


def flow(W: Tensor, G: Tensor) -> Tensor:
    """sum of |W * dR/dW|."""
    return (W * G).abs_().sum()


def log_flow(W: Tensor, G: Tensor) -> Tensor:
    """sum of |W| * log(1 + |dR/dW|)."""
    return (W * G.abs().log1p_()).sum()


def absolute_log_flow(W: Tensor, G: Tensor) -> Tensor:
    """sum of |W| * |log |dR/dW||; entries without gradient, or with one that is only rounding, add nothing."""
    sizes = G.abs()
    rounding = sizes <= ROUNDING * sizes.max()
    return sizes.log_().abs_().masked_fill_(rounding, 0.0).mul_(W).sum()


PROXIES: list[Proxy] = [
    StatisticProxy(
        name="synflow",
        formula="sum |W * dR/dW|, R the output sum of the network with |W|, fed ones",
        citation="Tanaka et al., Pruning neural networks without any data, NeurIPS 2020, arXiv:2006.05467",
        batch_order_invariant=True,
        version="3",
        reductions=(Reduction("linear", ("W", "G"), flow),),
        network=SYNFLOW,
    ),
    StatisticProxy(
        name="logsynflow",
        formula="sum |W| * log(1 + |dR/dW|), R as in synflow",
        citation="Cavagnero et al., FreeREA, WACV 2023, arXiv:2207.05135",
        batch_order_invariant=True,
        version="3",
        reductions=(Reduction("linear", ("W", "G"), log_flow),),
        network=SYNFLOW,
    ),
    StatisticProxy(
        name="logsynflow_lpzero",
        formula="sum |W| * |log |dR/dW||, R as in synflow (LPZero's Table 1 and code)",
        citation="Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808",
        batch_order_invariant=True,
        version="4",
        reductions=(Reduction("linear", ("W", "G"), absolute_log_flow),),
        network=SYNFLOW,
    ),
]
