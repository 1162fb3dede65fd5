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
        self._masks = real_tokens(batch), real_targets(batch)  # of the encoder's (or only) tokens, of the decoder's
        self._mask = self._masks[0]
        self.samples = len(self._mask)
        self.lengths = {mask.shape[1] for mask in self._masks}

    def of_block(self, name: str, hidden: Any = None) -> TokenRows:
        """The same in the block of this name, which runs on the hidden states [B, n, d] if they are known."""
        inside = copy(self)
        inside._mask = self._masks["decoder" in name.split(".")]
        inside.lengths = {mask.shape[1] for mask in self._masks}
        if isinstance(hidden, Tensor) and hidden.dim() == 3:
            inside.lengths.add(hidden.shape[0 if self.layout.time_major else 1])
        return inside

    def read(self, tensor: Any, name: str) -> tuple[Tensor, Tensor] | None:
        """`tensor` as [B, n, d] with the real ones of its rows, [B, n]; None if its rows are not tokens.

        Args:
            tensor: [B, n, d], [n, B, d], [B * n, d], [B, 1, n, d] or [B, n, h, d].
            name: of the layer or mixer whose output it is.
        """
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return None
        if tensor.dim() == 4 and tensor.shape[1] == 1 and tensor.shape[2] in self.lengths:
            tensor = tensor.squeeze(1)
        if tensor.dim() == 4 and tensor.shape[1] in self.lengths:
            tensor = tensor.flatten(2)
        if tensor.dim() == 3 and self._time_major(tensor, name):
            tensor = tensor.transpose(0, 1)
        if tensor.dim() == 2 and any(tensor.shape[0] == self.samples * n for n in self.lengths):
            tensor = tensor.reshape(self.samples, -1, tensor.shape[1])
        if tensor.dim() != 3 or tensor.shape[0] != self.samples or tensor.shape[1] not in self.lengths:
            return None
        mask = self._real(tensor.shape[1])
        return None if mask is None else (tensor, mask)

    def _time_major(self, tensor: Tensor, name: str) -> bool:
        if self.layout.time_major or name in self.layout.transposed:
            return True
        batch_first = tensor.shape[0] == self.samples and tensor.shape[1] in self.lengths
        return not batch_first and tensor.shape[1] == self.samples and tensor.shape[0] in self.lengths

    def _real(self, rows: int) -> Tensor | None:
        """Which of this many rows of every sample are real; None if that is unknown.

        A block may run on its tokens several times over, one after the other (ProphetNet's streams). Of other rows (a
        prefix, pooled tokens) it is only known if the minibatch has no padding.
        """
        for mask in (self._mask, *self._masks):
            if mask.shape[1] == rows:
                return mask
        if rows % self._mask.shape[1] == 0:
            return self._mask.repeat(1, rows // self._mask.shape[1])
        return self._mask.new_ones(self.samples, rows) if bool(self._mask.all()) else None
