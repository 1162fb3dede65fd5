"""Gram matrices and what is computed from them, of which proxies of one site share what they can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpzero_hf.errors import InvalidScore
from lpzero_hf.models.later import torch

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS, SMALL = 4, 256  # row blocks of a Gram matrix, and the rows up to which it is computed whole


def gram(matrix: Tensor) -> Tensor:
    """The lower triangle of M M^T for M [rows, columns], which is all that decompositions of symmetric matrices read.

    Above the diagonal it is 0 or M M^T: with 4 blocks of rows 3/8 of the products are left out.
    """
    rows = len(matrix)
    if rows <= SMALL:
        return matrix @ matrix.T
    step = -(-rows // BLOCKS)
    result = matrix.new_zeros(rows, rows)
    for start in range(0, rows, step):
        end = min(start + step, rows)
        torch.mm(matrix[start:end], matrix[:end].T, out=result[start:end, :end])
    return result


def smaller_gram(matrix: Tensor) -> Tensor:
    """The smaller of M M^T and M^T M, which have the same eigenvalues but for zeros; lower triangle."""
    return gram(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)


def full(products: Tensor) -> Tensor:
    """A symmetric matrix of its lower triangle."""
    return products.tril() + products.tril(-1).T


def centred_rows(A: Tensor, mask: Tensor) -> Tensor:
    """The features [B, T, d] of real tokens as rows, less their mean, in double precision.

    Raises:
        InvalidScore: A is not finite.
    """
    rows = (A.flatten(0, 1) if mask.all() else A[mask]).double()
    rows = rows - rows.mean(0)
    if not rows.isfinite().all():
        raise InvalidScore("the features are not finite")
    return rows


def scatter(A: Tensor, mask: Tensor) -> Tensor:
    """The smaller Gram matrix of the centred rows of A [B, T, d]: of features, or of tokens if those are fewer."""
    return smaller_gram(centred_rows(A, mask))
