"""Proxies of the per-sample Jacobians: the gradients of the objective at the input embeddings.

Samples do not mix inside a language model, so one backward pass of the mean loss gives every sample's
Jacobian up to one common factor, which both proxies cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import InvalidScore, NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import Proxy, StatisticProxy

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf.models.layout import ModelLayout

SHIFT = 1e-5  # k of the paper
ROOT = 1 / 20


def per_sample(J: Tensor) -> Tensor:
    """The gradient [B, T, d] at the embeddings as one row per sample, in double precision."""
    return J.flatten(1).double()


def jacobian(values: list[Tensor]) -> Tensor:
    """One row per sample over every use of the embedding (encoder and decoder may share it).

    Raises:
        NotApplicable: there is only one sample.
    """
    rows = torch.cat(values, dim=1)
    if len(rows) < 2:
        raise NotApplicable("it compares samples, and the minibatch has only one")
    return rows


def covariance(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """- sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the samples' correlation matrix."""
    correlation = torch.corrcoef(jacobian(values[0]))
    if not correlation.isfinite().all():
        raise InvalidScore("the gradient of a sample is constant, so its correlations are undefined")
    v = torch.linalg.eigvalsh(correlation) + SHIFT
    return float(-(v.log() + 1 / v).sum())


def cosine(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """1 - mean over pairs i != j of |cos(J_i, J_j)|^(1/20).

    The diagonal of |Jn Jn^T - I| is zero; it is left out, because the 20th root of its rounding error
    would be as large as a real entry.
    """
    rows = torch.nn.functional.normalize(jacobian(values[0]), dim=1)
    cosines = (rows @ rows.T).abs_().pow_(ROOT).fill_diagonal_(0)
    return float(1 - cosines.sum() / (len(rows) ** 2 - len(rows)))


ROWS = Reduction("embedding", ("J",), per_sample)

PROXIES: list[Proxy] = [
    StatisticProxy(
        name="jacobian_covariance",
        formula="- sum of log(v + k) + 1/(v + k), v eigenvalues of the correlation of dl/d embeddings, k = 1e-5",
        citation="Mellor et al., Neural Architecture Search without Training, v1 2020, arXiv:2006.04647v1",
        batch_order_invariant=True,
        reductions=(ROWS,),
        combine=covariance,
    ),
    StatisticProxy(
        name="jacobian_cosine",
        formula="1 - 1/(N^2 - N) * sum |Jn Jn^T - I|^(1/20), rows of dl/d embeddings normalised",
        citation="Celotti et al., Improving Zero-Shot NAS with Parameters Cross-Jacobian, 2020, as in arXiv:2306.00288",
        batch_order_invariant=True,
        reductions=(ROWS,),
        combine=cosine,
    ),
]
