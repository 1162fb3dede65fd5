"""Tells which tensors of a pass have the tokens of the minibatch as their rows, and which of these are real."""

from __future__ import annotations

from copy import copy
from typing import Any

from torch import Tensor

from lpzero_hf.models.layout import ModelLayout
from lpzero_hf.models.objective import Batch, real_targets, real_tokens


class TokenRows:
    """The tokens of one minibatch, outside of blocks or in one of them.

    Args:
        batch: `input_ids` [B, T] and the model's other inputs.
        layout: of the model.
    """

    def __init__(self, batch: Batch, layout: ModelLayout) -> None:
        self.layout = layout
        # Of the encoder's (or only) tokens, of the decoder's:
        self._masks: tuple[Tensor, ...] = real_tokens(batch), real_targets(batch)
        self._mask = self._masks[0]
        self.samples = len(self._mask)
        self.lengths = {mask.shape[1] for mask in self._masks}

    def of_block(self, name: str) -> TokenRows:
        """The same in the block of this name."""
        inside = copy(self)
        decoder = "decoder" in name.split(".")
        inside._mask = self._masks[decoder]
        if decoder and self.layout.streams > 1:
            inside._masks = (*self._masks, self._masks[1].repeat(1, self.layout.streams))
            inside.lengths = {mask.shape[1] for mask in inside._masks}
        return inside

    def of_encoder(self) -> TokenRows:
        """The same where a decoder's block works on the encoder's tokens (keys and values of cross-attention)."""
        inside = copy(self)
        inside._mask = self._masks[0]
        return inside

    def read(self, tensor: Any, name: str) -> tuple[Tensor, Tensor] | None:
        """`tensor` as [B, n, d] with the real ones of its rows, [B, n]; None if its rows are not tokens.

        Args:
            tensor: [B, n, d], [n, B, d], [B * n, d], [B, n, h, d], or [B, k, n, d], whose rows are k times the tokens.
            name: of the layer or mixer whose output it is.
        """
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return None
        copies = 1
        if tensor.dim() == 4 and tensor.shape[1] in self.lengths:
            tensor = tensor.flatten(2)
        elif tensor.dim() == 4 and tensor.shape[0] == self.samples and tensor.shape[2] in self.lengths:
            copies = tensor.shape[1]
            tensor = tensor.flatten(1, 2)
        if tensor.dim() == 3 and self._time_major(tensor, name):
            tensor = tensor.transpose(0, 1)
        if tensor.dim() == 2 and any(tensor.shape[0] == self.samples * n for n in self.lengths):
            tensor = tensor.reshape(self.samples, -1, tensor.shape[1])
        rows = tensor.shape[1] / copies
        if tensor.dim() != 3 or tensor.shape[0] != self.samples or rows not in self.lengths:
            return None
        mask = next(mask for mask in (self._mask, *self._masks) if mask.shape[1] == rows)
        return tensor, mask.repeat(1, copies)

    def _time_major(self, tensor: Tensor, name: str) -> bool:
        if self.layout.time_major or name in self.layout.transposed:
            return True
        batch_first = tensor.shape[0] == self.samples and tensor.shape[1] in self.lengths
        return not batch_first and tensor.shape[1] == self.samples and tensor.shape[0] in self.lengths
