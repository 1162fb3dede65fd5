"""Proxies of the weights and their gradients. They share the one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpz_proxies.gram import gram, smaller_gram
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import Proxy, StatisticProxy, mean, total

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf.models.layout import ModelLayout

ZERO_COST = "Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134"
SERIANNI = "Serianni and Kalita, Training-free NAS for RNNs and Transformers, ACL 2023, arXiv:2306.00288"
TF_TAS = "Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, arXiv:2203.12217"
COARSE, UNITS = 2e-5, 8  # relative error of a sum of singular values; rounding of eigenvalues in units of the largest
EXACT = 2**24  # integers below it are exact in single precision
LPZERO = "Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808"


def gradient_norm(G: Tensor) -> Tensor:
    """The Frobenius norm of a gradient [out, in]."""
    return torch.linalg.vector_norm(G)


def saliency(W: Tensor, G: Tensor) -> Tensor:
    """sum of W * G, in double precision because its terms cancel."""
    return (W * G).sum(dtype=torch.float64)


def absolute_saliency(W: Tensor, G: Tensor) -> Tensor:
    """sum of |W * G|."""
    return (W * G).abs_().sum()


def nuclear_norm(matrix: Tensor) -> Tensor:
    """The sum of singular values, from the eigenvalues of the smaller Gram matrix in double precision.

    That costs a fraction of a full decomposition; a singular value is exact to about 1e-8 of the largest.
    """
    return torch.linalg.eigvalsh(smaller_gram(matrix.double())).clamp_min_(0).sqrt_().sum()


def well_conditioned_norm(matrix: Tensor) -> Tensor:
    """The nuclear norm in the matrix's own precision where that is off by no more than `COARSE`, as for weights before
    any training; else as `nuclear_norm`.

    Rounding moves an eigenvalue s^2 by some units of the largest, and so s by that over 2 s, or by its root if s is
    smaller. (Gradients have singular values too small for this.)
    """
    if matrix.dtype != torch.float32 or torch.get_float32_matmul_precision() != "highest":
        return nuclear_norm(matrix)
    eigenvalues = torch.linalg.eigvalsh(smaller_gram(matrix)).clamp_min_(0).double()
    singular = eigenvalues.sqrt()
    moved = UNITS * torch.finfo(torch.float32).eps * eigenvalues[-1]
    bound = torch.minimum(moved / (2 * singular), moved.sqrt()).sum()
    return singular.sum() if bound <= COARSE * singular.sum() else nuclear_norm(matrix)


def nuclear_product(W: Tensor, G: Tensor) -> Tensor:
    """The product of the nuclear norms of W and G."""
    return well_conditioned_norm(W) * nuclear_norm(G)


def sign_determinant(G: Tensor) -> Tensor:
    """sigmoid(log |det(s s^T)|) with s = sign(G).

    Where s s^T is singular the term is exactly 0: always with more rows than columns, and whenever rows of
    signs depend on each other. In floating point it would be the logarithm of rounding noise, so the rank is
    decided on bounds of the eigenvalues: a Cholesky factor L shows that the smallest is at least 1 / ||L^-1||_F^2, and
    only where that is not above the noise are they computed. (s s^T is a matrix of integers, which is exact in single
    precision up to 2^24 columns.)
    """
    rows, columns = G.shape
    if rows > columns:
        return G.new_zeros(())
    signs = G.sign() if columns < EXACT else G.sign().double()
    products = gram(signs).double()
    factor, failed = torch.linalg.cholesky_ex(products)
    noise = products.diagonal().sum() * rows * torch.finfo(torch.float64).eps  # the trace bounds the largest eigenvalue
    if not failed:
        inverse = torch.linalg.solve_triangular(factor, torch.eye(rows).to(factor), upper=False)
        if 1 / inverse.square_().sum() > noise:
            return (2 * factor.diagonal().log().sum()).sigmoid()
    eigenvalues = torch.linalg.eigvalsh(products)
    if eigenvalues[0] <= eigenvalues[-1] * rows * torch.finfo(torch.float64).eps:
        return G.new_zeros(())
    return eigenvalues.log().sum().sigmoid()


def gpt2_winner(W: Tensor, G: Tensor) -> Tensor:
    """mean(|W^2|) + mean(softmax(G, dim 0)^2) on [out, in] matrices."""
    return W.square().mean() + G.softmax(0).square_().mean()


def wide_saliency(W: Tensor, G: Tensor) -> Tensor:
    """sum of |W * G| of a layer with 128 or more outputs, else 0."""
    return absolute_saliency(W, G) if W.shape[0] >= 128 else W.new_zeros(())


def total_of_all(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """The sum over the sites of all reductions."""
    return sum(total(sites) for sites in values)


SALIENCY = Reduction("linear", ("W", "G"), saliency)
FFN_SALIENCY = Reduction("ffn_linear", ("W", "G"), saliency)
DIVERSITY = Reduction("mixer_linear", ("W", "G"), nuclear_product)

PROXIES: list[Proxy] = [
    StatisticProxy(
        name="grad_norm",
        formula="sum over linear layers of ||G||_F",
        citation=ZERO_COST,
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("G",), gradient_norm),),
    ),
    StatisticProxy(
        name="plain", formula="sum W * G", citation=ZERO_COST, batch_order_invariant=True, reductions=(SALIENCY,)
    ),
    StatisticProxy(
        name="snip",
        formula="sum |W * G|",
        citation="Lee et al., SNIP, ICLR 2019, arXiv:1810.02340",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("W", "G"), absolute_saliency),),
    ),
    StatisticProxy(
        name="synaptic_diversity",
        formula="sum over mixer linear layers of ||W||_nuc * ||G||_nuc",
        citation=TF_TAS,
        batch_order_invariant=True,
        reductions=(DIVERSITY,),
    ),
    StatisticProxy(
        name="synaptic_diversity_lpzero",
        formula="sum over all linear layers of ||W||_nuc * ||G||_nuc (LPZero's code for GPT-2)",
        citation=f"{TF_TAS}; as in the code of {LPZERO}",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("W", "G"), nuclear_product),),
    ),
    StatisticProxy(
        name="head_importance_lpzero",
        formula="sum |W * G| over linear layers with 128 or more outputs (LPZero's code for GPT-2)",
        citation=f"{SERIANNI}; as in the code of {LPZERO}",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("W", "G"), wide_saliency),),
    ),
    StatisticProxy(
        name="synaptic_saliency",
        formula="sum over feed-forward linear layers of W * G",
        citation=TF_TAS,
        batch_order_invariant=True,
        reductions=(FFN_SALIENCY,),
    ),
    StatisticProxy(
        name="synaptic_saliency_lpzero",
        formula="sum over feed-forward linear layers of |W * G| (LPZero's code)",
        citation=f"{TF_TAS}; as in the code of {LPZERO}",
        batch_order_invariant=True,
        reductions=(Reduction("ffn_linear", ("W", "G"), absolute_saliency),),
    ),
    StatisticProxy(
        name="dss",
        formula="synaptic_diversity + synaptic_saliency: ||W||_nuc * ||G||_nuc in mixers, W * G in feed-forward layers",
        citation=TF_TAS,
        batch_order_invariant=True,
        reductions=(DIVERSITY, FFN_SALIENCY),
        combine=total_of_all,
    ),
    StatisticProxy(
        name="eznas",
        formula="sum over linear layers of ||sigmoid(log |det(s s^T)|)||_F, s = sign(G)",
        citation=f"Akhauri et al., EZNAS, NeurIPS 2022, arXiv:2209.07413; as in the code of {LPZERO}",
        batch_order_invariant=True,
        reductions=(Reduction("linear", ("G",), sign_determinant),),
    ),
    StatisticProxy(
        name="lpzero_paper_gpt2",
        formula="mean over linear layers of mean |W^2| + mean softmax(G, 0)^2",
        citation=f"{LPZERO}, the GPT-2 winner of its code",
        batch_order_invariant=True,
        orientation=-1,
        reductions=(Reduction("linear", ("W", "G"), gpt2_winner),),
        combine=lambda values, layout: mean(values[0]),
    ),
]
