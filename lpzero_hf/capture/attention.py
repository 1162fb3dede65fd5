"""Sees attention probabilities and matrix products wherever a model computes them, without code for any model family.

Models either compute a softmax or call `scaled_dot_product_attention`. Both go through torch's function
protocol, so one mode intercepts both while the model runs exactly as its user configured it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)
PRODUCTS = {
    F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.bmm, Tensor.bmm, torch.mm,
    Tensor.mm, torch.addmm, torch.baddbmm, torch.einsum, F.conv1d, torch._grouped_mm,
}  # fmt: skip

SUMMED = (torch.addmm, torch.baddbmm)  # whose first operand is added to the product


class Listener(Protocol):
    """Gets what an `AttentionWatch` sees."""

    def on_softmax(self, result: Tensor) -> None:
        """A softmax, with its result."""

    def on_attention(self, heads: int, probabilities: Callable[[], Tensor], product: Tensor) -> None:
        """Attention with h heads in one call, a function that computes its probabilities [B, h, T, T], its result."""

    def on_product(self, operands: Sequence[Tensor], product: Tensor) -> None:
        """A matrix product or a convolution, with its operands and its result."""


class AttentionWatch(TorchFunctionMode):
    """Report each attention and each matrix product that a model computes while this mode is active."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in SOFTMAXES:
            self.listener.on_softmax(result.detach())
        elif func is F.scaled_dot_product_attention:
            query = kwargs["query"] if "query" in kwargs else args[0]
            self.listener.on_attention(query.shape[1], lambda: attention_probabilities(*args, **kwargs), result)
        elif func in PRODUCTS:
            operands = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            if func is not F.conv1d or operands[1].shape[-1] == 1:  # of one position, which is a linear layer
                self.listener.on_product(operands[func in SUMMED :], result)
        return result


@torch.no_grad()
def attention_probabilities(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The probabilities that `scaled_dot_product_attention` uses for the same arguments.

    Args:
        query: [B, h, T, d]; the other arguments are those of torch's function.

    Returns:
        [B, h, T, T'] in at least single precision; rows whose keys are all masked are zero.
    """
    if key.shape[1] != query.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1).nan_to_num(0.0)
