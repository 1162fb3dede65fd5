"""Reads attention probabilities wherever a model computes them, without code for any model family.

Models either compute a softmax or call `scaled_dot_product_attention`. Both go through torch's function
protocol, so one mode intercepts both while the model runs exactly as its user configured it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)


class AttentionWatch(TorchFunctionMode):
    """Report each attention that a model computes while this mode is active.

    Args:
        on_softmax: called with every softmax result.
        on_attention: called with the heads h of each `scaled_dot_product_attention` call, and a function
            that computes its probabilities [B, h, T, T].
    """

    def __init__(
        self, on_softmax: Callable[[Tensor], None], on_attention: Callable[[int, Callable[[], Tensor]], None]
    ) -> None:
        super().__init__()
        self.on_softmax = on_softmax
        self.on_attention = on_attention

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in SOFTMAXES:
            self.on_softmax(result.detach())
        elif func is F.scaled_dot_product_attention:
            query = kwargs["query"] if "query" in kwargs else args[0]
            self.on_attention(query.shape[1], lambda: attention_probabilities(*args, **kwargs))
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
