"""One form for all minibatches that differ only in their padding.

Models are not indifferent to padding: absolute positions count it, convolutions and state spaces read it. So that it
changes no score, columns that are padding in every sample are cut off, and the token ids of the rest are replaced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # the label that transformers ignores in every loss


def without_padding(batch: dict[str, Any], token: int, *, apart: bool = False) -> dict[str, Any]:
    """`batch` without columns that are padding in every sample, and with `token` as the id of all other padding.

    Args:
        batch: `input_ids` [B, T], `attention_mask` [B, T], and others; all that have a column per token are cut as
            well. Without a mask of that shape nothing is changed.
        token: the id that padding gets.
        apart: `labels` [B, T'] are the targets of a decoder behind an encoder, with columns of their own.
    """
    ids, mask, cut = batch["input_ids"], batch.get("attention_mask"), dict(batch)
    if isinstance(mask, Tensor) and mask.shape == ids.shape and not (real := mask.bool()).all():
        kept = _extent(real)
        own = {name for name in batch if name.startswith("decoder_") or (apart and name == "labels")}
        cut |= {name: _columns(value, kept, ids.shape) for name, value in batch.items() if name not in own}
        cut["input_ids"] = cut["input_ids"].masked_fill(~real[:, kept], token)
    if apart:
        cut |= _without_padded_targets(cut)
    return cut


def _without_padded_targets(batch: dict[str, Any]) -> dict[str, Any]:
    """The entries of the decoder without the last columns, where no sample has a target."""
    labels, mask = batch.get("labels"), batch.get("decoder_attention_mask")
    if not isinstance(labels, Tensor) or labels.dim() != 2:
        return {}
    real = labels != IGNORED
    if isinstance(mask, Tensor) and mask.shape == labels.shape:
        real = real | mask.bool()
    kept = slice(0, _extent(real).stop)
    names = [name for name in batch if name.startswith("decoder_") or name == "labels"]
    return {name: _columns(batch[name], kept, labels.shape) for name in names}


def _extent(real: Tensor) -> slice:
    """From the first to the last column of `real` [B, T] that holds a real token; all columns if none does."""
    columns = real.any(0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(None)


def _columns(value: Any, kept: slice, shape: torch.Size) -> Any:
    """The kept columns of a tensor that has one per token of `shape` [B, T]."""
    samples, tokens = shape
    if not isinstance(value, Tensor):
        return value
    if value.shape == (tokens,):  # positions of a cache
        return value[kept]
    if value.dim() == 3 and value.shape[1:] == shape:  # several kinds of positions
        return value[:, :, kept]
    if value.dim() >= 2 and value.shape[0] in (1, samples) and value.shape[1] == tokens:
        value = value[:, kept]
        return value[:, :, kept] if value.dim() == 3 and value.shape[2] == tokens else value
    return value
