"""Proxies of the outputs of linear layers: activations and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lpz_proxies.gram import full, gram, scatter
from lpzero_hf.capture.spec import Reduced, Reduction
from lpzero_hf.capture.workspace import once
from lpzero_hf.errors import InvalidScore, NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import Proxy, StatisticProxy, total

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf.models.layout import ModelLayout

MELLOR = "Mellor et al., Neural Architecture Search without Training, ICML 2021, arXiv:2006.04647"
SERIANNI = "Serianni and Kalita, Training-free NAS for RNNs and Transformers, ACL 2023, arXiv:2306.00288"
WPCA = "Wang et al., W-PCA Based Gradient-Free Proxy, ICLR 2025, arXiv:2504.15983"


def fisher_information(A: Tensor, J: Tensor) -> Tensor:
    """sum over channels of the batch mean of (sum over tokens of A * J)^2, for A and J [B, T, out]."""
    return (A * J).sum(1).square_().mean(0).sum()


def agreement(codes: Tensor, real: Tensor) -> Tensor:
    """How often each pair of rows has equal signs: K [n, n] from codes [n, features], counting only
    features that are real in both rows (`real` [n, features])."""
    on = (codes > 0).to(codes.dtype) * real
    off = real - on
    return (on @ on.T + off @ off.T).double()


def sample_agreement(A: Tensor, mask: Tensor) -> Tensor:
    """The kernel K [B, B] of pre-activations A [B, T, out]: samples as rows, every token and unit a code."""
    real = mask.unsqueeze(-1).expand_as(A).to(A.dtype)
    return agreement(A.flatten(1), real.flatten(1))


def token_agreement(A: Tensor, mask: Tensor) -> Tensor:
    """sum of the kernel [T, T] of the first sample: tokens as rows."""
    first = A[0][mask[0]]
    return agreement(first, torch.ones_like(first)).sum()


def log_determinant(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """log |det K| of the kernel summed over sites."""
    return float(torch.linalg.slogdet(sum(values[0][1:], start=values[0][0])).logabsdet)


def variances(A: Tensor, mask: Tensor) -> Tensor:
    """The variances of the principal components of A [B, T, out], real tokens as rows: descending, up to one factor.

    Raises:
        InvalidScore: A is not finite.
    """
    return torch.linalg.eigvalsh(once(scatter, A, mask)).clamp_min_(0).flip(0)


def principal_components(A: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """How many principal components of A [B, T, out], real tokens as rows, reach `threshold` of the variance.

    Raises:
        InvalidScore: A is not finite.
    """
    return components(variances(A, mask), threshold)


def components(spectrum: Tensor, threshold: float) -> Tensor:
    """How many of the variances, the largest first, reach `threshold` of their sum."""
    reached = spectrum.cumsum(0) >= threshold * spectrum.sum()
    return reached.to(torch.int8).argmax() + 1


def factored_components(A: Tensor, X: Tensor, W: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """`principal_components` of A = X W^T + b, where X [B, T, in] is narrower than A [B, T, out] and than the tokens.

    The variances of A are the eigenvalues of L^T K L, [in, in], for the scatter K of X and L L^T = W^T W; all others
    are 0. They are those of A itself where L does not exist, or A has another total variance: no plain layer made it.

    Raises:
        InvalidScore: A is not finite.
    """
    features = X.shape[-1]
    if 0 < features < min(A.shape[-1], int(mask.sum())):
        factor, failed = torch.linalg.cholesky_ex(gram(W.double().T))
        if not failed:
            products = once(scatter, X, mask)
            spectrum = torch.linalg.eigvalsh(factor.T @ full(products) @ factor).clamp_min_(0).flip(0)
            rows = A.flatten(0, 1) if mask.all() else A[mask]
            total = rows.var(0, correction=0).sum().double() * len(rows)
            if (spectrum.sum() - total).abs() <= SAME_VARIANCE * total:
                return components(spectrum, threshold)
    return principal_components(A, mask, threshold)


def least_correlation(A: Tensor, mask: Tensor) -> Tensor:
    """The smallest eigenvalue of the correlation matrix [out, out] of the channels of A [B, T, out] over real tokens.

    It is exactly 0 where channels depend on each other: with no more tokens than channels, and where a channel is
    constant. In floating point it would be rounding noise there, so eigenvalues within that noise count as 0.

    Raises:
        InvalidScore: A is not finite.
    """
    tokens, channels = int(mask.sum()), A.shape[-1]
    if tokens <= channels:
        if not A[mask].isfinite().all():
            raise InvalidScore("the features are not finite")
        return A.new_zeros((), dtype=torch.float64)
    products = once(scatter, A, mask)
    norms = products.diagonal().sqrt()
    eps = _precision(A.masked_fill(~mask.unsqueeze(-1), 0))
    constant = norms <= eps * math.sqrt(tokens) * A.abs().masked_fill_(~mask.unsqueeze(-1), 0).amax((0, 1)).double()
    if constant.any():
        return A.new_zeros((), dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(products / norms / norms.unsqueeze(1))
    noise = eigenvalues[-1] * channels * max(eps**2, torch.finfo(torch.float64).eps)
    return torch.where(eigenvalues[0] > noise, eigenvalues[0], 0.0)


def _precision(tensor: Tensor) -> float:
    """The rounding unit of the coarsest type that holds all values of a tensor."""

    def holds(dtype: torch.dtype, part: Tensor) -> bool:
        return torch.equal(part.to(dtype).to(part.dtype), part)

    dtypes = (getattr(torch, name) for name in PRECISIONS)
    return next(torch.finfo(dtype).eps for dtype in dtypes if holds(dtype, tensor[0, 0]) and holds(dtype, tensor))


def total_of_least(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """The sum over sites.

    Raises:
        NotApplicable: all are 0, whatever the weights.
    """
    score = total(values[0])
    if not score:
        raise NotApplicable("the channels of every block depend on each other; a larger minibatch has more tokens")
    return score


class MeanShare(StatisticProxy):
    """A proxy of counts of principal components, each over the most that a layer's weight can have."""

    def finish(self, reduced: Sequence[Sequence[Reduced]], layout: ModelLayout) -> float:
        """The parameters times the mean share.

        Raises:
            NotApplicable: the weight of a pre-activation is unknown.
        """
        ranks = {
            name: min(matrix.shape)
            for site in layout.sites
            for name, matrix in zip(site.names, site.matrices(site.parameter), strict=True)
        }
        if unknown := [site for _, site, _ in reduced[0] if site not in ranks]:
            raise NotApplicable(f"the weight behind '{unknown[0]}' is unknown")
        shares = [float(count) / ranks[site] for _, site, count in reduced[0]]
        return layout.parameters * sum(shares) / len(shares)


KERNEL = Reduction("ffn_hidden", ("A", "mask"), sample_agreement)
COMPONENTS = Reduction("ffn_output", ("A", "mask"), partial(principal_components, threshold=0.99))
SAME_VARIANCE = 1e-3  # relative; half precision is off by less
PRECISIONS = ("bfloat16", "float16", "float32", "float64")  # the first that holds a tensor's values

PROXIES: list[Proxy] = [
    StatisticProxy(
        name="fisher",
        formula="sum over channels of mean over samples of (sum over tokens A * J)^2",
        citation="Turner et al., BlockSwap, ICLR 2020, arXiv:1906.04113",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("A", "J"), fisher_information),),
    ),
    StatisticProxy(
        name="nwot",
        formula="log |det K|, K[i,j] = equal signs of feed-forward pre-activations of samples i and j",
        citation=MELLOR,
        batch_order_invariant=True,
        reductions=(KERNEL,),
        combine=log_determinant,
    ),
    StatisticProxy(
        name="activation_distance",
        formula="sum of K, K as in nwot",
        citation=f"{SERIANNI}; {MELLOR}",
        batch_order_invariant=True,
        reductions=(KERNEL,),
        combine=lambda values, layout: total([kernel.sum() for kernel in values[0]]),
    ),
    StatisticProxy(
        name="activation_distance_lpzero",
        formula="sum of K over the tokens of the first sample (LPZero's code)",
        citation=f"{SERIANNI}; as in the code of LPZero, arXiv:2410.04808",
        reductions=(Reduction("ffn_hidden", ("A", "mask"), token_agreement),),
    ),
    StatisticProxy(
        name="w_pca",
        formula="parameters * sum over blocks of the principal components of the feed-forward output that reach 0.99",
        citation=WPCA,
        version="2",
        batch_order_invariant=True,
        reductions=(COMPONENTS,),
        combine=lambda values, layout: layout.parameters * total(values[0]),
    ),
    StatisticProxy(
        name="v_pca",
        formula="w_pca without the parameters",
        citation=WPCA,
        batch_order_invariant=True,
        reductions=(COMPONENTS,),
    ),
    MeanShare(
        name="w_pca_code",
        formula="parameters * mean over feed-forward pre-activations of components that reach 0.99 / min(in, out)",
        citation=f"{WPCA}; as in the code of github.com/ra225/W-PCA",
        batch_order_invariant=True,
        reductions=(Reduction("ffn_hidden", ("A", "X", "W", "mask"), partial(factored_components, threshold=0.99)),),
    ),
    StatisticProxy(
        name="meco",
        formula="sum over blocks of the smallest eigenvalue of the correlation of the feed-forward output's channels",
        citation="Jiang et al., MeCo, NeurIPS 2023, github.com/HamsterMimi/MeCo",
        batch_order_invariant=True,
        reductions=(Reduction("ffn_output", ("A", "mask"), least_correlation),),
        combine=total_of_least,
    ),
]
