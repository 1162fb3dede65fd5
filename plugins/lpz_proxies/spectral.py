"""Neural Spectral Capacity: how large the singular values of the weights are, measured or expected.

Every linear layer of the blocks counts as one matrix, as the model stores it: a fused projection of queries, keys and
values is one, and each expert of a mixture has its own. (The published code splits attention into heads on GPT-2 and
keeps the fused projection on FlexiBERT.)
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from lpz_proxies.gram import smaller_gram
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import InvalidScore
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import ModelProxy, Proxy, StatisticProxy, Subject

if TYPE_CHECKING:
    from torch import Tensor

NSC = "Zhu et al., Neural Spectral Capacity, 2026, github.com/Optima-CityU/neural-spectral-capacity"


def capacity(W: Tensor) -> Tensor:
    """sum of ln(1 + s^2) over the singular values s of a weight [out, in].

    That is ln det(I + W W^T), from a Cholesky factor of the smaller of the two Gram matrices, whose eigenvalues are at
    least 1.

    Raises:
        InvalidScore: W is not finite.
    """
    products = smaller_gram(W)
    products.diagonal().add_(1)
    factor, failed = torch.linalg.cholesky_ex(products)
    if bool(failed):
        raise InvalidScore("a weight is not finite, or too large to be squared")
    return 2 * factor.diagonal().double().log_().sum()


@cache
def expected_capacity(rows: int, columns: int, variance: float) -> float:
    """The limit of `capacity` for a large matrix of independent entries around zero.

    The squared singular values then follow the law of Marchenko and Pastur, over which ln(1 + s^2) has a closed
    integral: the Shannon transform (Tulino and Verdu, Random Matrix Theory and Wireless Communications, 2004, 1.14).

    Args:
        rows: of the matrix.
        columns: of the matrix.
        variance: of its entries.
    """
    small, large = sorted((rows, columns))
    snr = large * variance
    if not small or not snr:
        return 0.0
    ratio = small / large
    low, high = (math.sqrt(snr * (1 + sign * math.sqrt(ratio)) ** 2 + 1) for sign in (-1, 1))
    f = (high - low) ** 2 / 4
    return small * (math.log1p(snr - f) + math.log1p(snr * ratio - f) / ratio - f / (ratio * snr))


def expected(subject: Subject) -> float:
    """The sum of `expected_capacity` over the linear layers of all blocks, each distinct one once.

    Raises:
        NotApplicable: see `InitialVariances`.
    """
    from lpzero_hf.models.initial_variance import InitialVariances

    variances = InitialVariances(subject.model)
    score = 0.0
    for site in subject.layout.weights:
        matrices = site.matrices(site.parameter)
        rows, columns = matrices[0].shape
        score += len(matrices) * expected_capacity(rows, columns, variances.of(site.name))
    return score


PROXIES: list[Proxy] = [
    StatisticProxy(
        name="nsc",
        formula="sum over linear layers of sum ln(1 + s^2), s the singular values of W",
        citation=NSC,
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("W",), capacity),),
    ),
    ModelProxy(
        name="nsc_expected",
        formula="nsc expected from the shape and initial variance of W by the law of Marchenko and Pastur",
        citation=NSC,
        batch_order_invariant=True,
        evaluate=expected,
        shapes_only=True,
    ),
]
