"""Whether a score hangs on rounding: how much it changes when the statistics change as rounding changes them.

Kernels differ in the last bit: attention by softmax or in one fused call, a CPU or a GPU. Most scores do not notice. A
logarithm of entries that are zero but for rounding does (the gradient of the first query in causal attention), so does
the reciprocal of a sum that cancels. Expressions in which that is possible are evaluated a second time, on disturbed
tensors.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lpzero_hf.errors import InvalidScore, RoundingWarning
from lpzero_hf.expressions.canonical import facts, step
from lpzero_hf.expressions.expression import Chain, Expression, Operations, letter
from lpzero_hf.expressions.operations import Interval
from lpzero_hf.models.later import torch

if TYPE_CHECKING:
    from torch import Tensor

NOTICED, INVALID = 1e-3, 0.1  # relative changes of a score
LAST = {8: (0, 29, 45), 4: (0, 16)}  # where the last bits are, also of narrower numbers, by the bytes of one
GENTLE = {
    "abs", "pow", "exp", "relu", "frobenius_norm", "normalized_sum", "l1_norm", "softmax", "sigmoid", "logsoftmax",
    "sqrt", "revert", "min_max_normalize", "to_mean_scalar", "to_std_scalar", "no_op",
}  # fmt: skip
SUMS = {"normalized_sum", "to_mean_scalar"}
UNIT = 2.0**-23  # for double tensors too: models compute parts of them in single precision
PART = 2**15  # elements that are disturbed at a time
ZERO = 1  # units in the last place of the largest entry


def steady(expression: Expression, operations: Operations) -> bool:
    """Whether rounding in the statistics cannot show in the score, by what is known of its operations.

    No operation is steep where rounding is (at zero), and no sum has terms of both signs, which may cancel.
    """
    kept = [branch for branch in expression.branches if not branch.dropped]
    if {letter(branch.statistic) for branch in kept} <= {"W"}:
        return True  # there is no rounding in weights
    signs = [_sign(branch.statistic, branch.chain, operations) for branch in kept]
    if len(kept) == 2 and expression.op == "difference":
        signs[1] = -signs[1]
    product = expression.op in ("product", "matmul")
    return 0 not in signs and (product or len(set(signs)) == 1)


def _sign(statistic: str, chain: Chain, operations: Operations) -> int:
    """The sign of all that a branch sums up: 1, -1, or 0 for both, also where one of its operations is steep."""
    known = facts(statistic, ())
    for name in chain:
        if name not in GENTLE or (name in SUMS and not _sign_of(known.interval)):
            return 0
        known = step(known, operations[name])
    return _sign_of(known.interval)


def _sign_of(interval: Interval) -> int:
    return 1 if interval.low >= 0 else -1 if interval.high <= 0 else 0


def disturbed(statistic: str, tensor: Tensor) -> Tensor:
    """`tensor` with errors of the size of rounding, the same ones each time.

    A, J, G and H are sums of products, whose errors are a part of the largest entries: one unit in the last place (of
    single precision) of the largest; entries of that size become 0, which another kernel may well give. The errors of
    a softmax are a part of each entry. W is exact.
    """
    if letter(statistic) == "W" or not tensor.numel():
        return tensor
    relative = statistic == "S"
    limit = tensor.new_zeros(()) if relative else tensor.abs().max() * UNIT
    flat = tensor.contiguous().view(-1)
    result = torch.empty_like(flat)
    for start in range(0, len(flat), PART):
        part = slice(start, start + PART)
        _disturb(flat[part], result[part], limit, relative)
    return result.view(tensor.shape)


def _disturb(tensor: Tensor, result: Tensor, limit: Tensor, relative: bool) -> None:
    """Write `tensor` with errors into `result`; few elements, so that all stay in the processor's cache."""
    bits = tensor.view(torch.int64 if tensor.element_size() == 8 else torch.int32)
    first, *places = reversed(LAST[tensor.element_size()])
    mixed = bits >> first
    for place in places:
        mixed ^= bits >> place if place else bits
    sign = result.copy_(mixed.bitwise_and_(1)).mul_(2).sub_(1)  # as good as random
    if relative:
        sign.mul_(tensor).mul_(UNIT).add_(tensor)
    else:
        sign.mul_(limit).add_(tensor).masked_fill_(tensor.abs() <= ZERO * limit, 0.0)


def checked(score: float, again: float) -> float:
    """`score`, if `again`, its value on disturbed tensors, is about the same; warns (`RoundingWarning`) if not quite.

    Raises:
        InvalidScore: they differ by more than a tenth: the score is mostly rounding.
    """
    if score - score != 0 or score == again:
        return score
    change = abs(score - again) / max(abs(score), abs(again))
    if not change <= INVALID:
        raise InvalidScore(
            f"rounding decides it: errors in the last place change it from {score:.4g} to {again:.4g}; "
            "use an expression without logarithms, reciprocals or differences of what is zero but for rounding"
        )
    if change > NOTICED:
        warnings.warn(
            "hangs on rounding here: another kernel or device may change it by "
            f"{'a percent or more' if change > 1e-2 else 'a tenth of a percent or more'}",
            RoundingWarning,
            stacklevel=2,
        )
    return score


def decided(scores: Tensor, again: Tensor) -> Tensor:
    """Where rounding decides scores, by their values on disturbed tensors: where `checked` would raise.

    Args:
        scores: of any shape.
        again: of the same shape, on disturbed tensors.
    """
    change = (scores - again).abs() / torch.maximum(scores.abs(), again.abs())
    return torch.isfinite(scores) & (scores != again) & ~(change <= INVALID)
