"""Finds the per-head context H of a running mixer, and its attention probabilities S.

H is the input of the output projection, the last linear layer after the attention product. A mixer that projects its
context in another way (fused experts) shows the product itself. In a mixer without attention, H is the input of its
last linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lpzero_hf.capture.tokens import TokenRows
from lpzero_hf.models.layout import Mixer

ENCODED = ("key_value_states", "encoder_hidden_states")  # what families call the encoder's output


class RunningMixer:
    """What a mixer has computed so far.

    Args:
        mixer: the mixer.
        inputs: of its call.
        keywords: of its call.
        rows: the tokens of its block.
    """

    def __init__(self, mixer: Mixer, inputs: Sequence[Any], keywords: Mapping[str, Any], rows: TokenRows) -> None:
        self.mixer, self.rows = mixer, rows
        self.heads = mixer.heads
        self.probabilities: Tensor | None = None
        self.product: Tensor | None = None  # [B, h, T, d]
        self._inputs = [tensor for tensor in (*inputs, *keywords.values()) if isinstance(tensor, Tensor)]
        self._encoded = [keywords[name] for name in ENCODED if isinstance(keywords.get(name), Tensor)]
        self._context: Tensor | None = None
        self._attended = False  # whether attention probabilities have been computed
        self._shape: Any = None  # of the softmax that gave the probabilities

    def rows_at(self, inputs: Any) -> TokenRows:
        """The tokens that a layer with these inputs works on."""
        return self.rows.of_encoder() if any(inputs is tensor for tensor in self._encoded) else self.rows

    def on_softmax(self, result: Tensor) -> None:
        """A softmax has run: its result are the probabilities if it has a row and a column for every token."""
        shape = result.shape
        if result.dim() == 3 and result.shape[0] % self.rows.samples == 0 and self.heads > 1:
            result = result.reshape(self.rows.samples, -1, *result.shape[1:])
        if result.dim() == 4 and result.shape[0] == self.rows.samples and result.shape[2] in self.rows.lengths:
            if result.shape[3] not in self.rows.lengths and result.shape[3] - 1 in self.rows.lengths:
                result = result[..., :-1]  # an attention sink in the last column is no token
            if result.shape[3] in self.rows.lengths:
                self.heads, self.probabilities, self._shape = result.shape[1], result, shape
                self._attended, self._context = True, None

    def on_attention(self, heads: int, probabilities: Tensor | None, product: Tensor) -> None:
        """Fused attention has run."""
        self.heads, self._attended = heads, True
        if probabilities is not None:
            self.probabilities = probabilities
        self._take_product(product)

    def on_product(self, left: Tensor, product: Tensor) -> None:
        """A matrix product has run: that of the probabilities and the values is the attention product."""
        if self._shape is not None and left.shape == self._shape:
            self._take_product(product)

    def _take_product(self, product: Tensor) -> None:
        self.product, self._context = product, None

    def on_linear(self, inputs: Tensor) -> None:
        """A linear layer has run."""
        if self._attended or not any(inputs is tensor for tensor in self._inputs):
            self._context = inputs

    def context(self, mixed: Any) -> tuple[Tensor | None, bool]:
        """H before its heads are split, and whether it is split already.

        Args:
            mixed: the mixer's output, which is the one head of a mixer that has neither heads nor weights.
        """
        if self._context is not None:
            return self._context, False
        if self.product is not None and self.product.dim() == 4:
            return self.product, True
        return (None, False) if self.heads or not isinstance(mixed, Tensor) else (mixed, False)

    def release(self) -> None:
        """Let go of all tensors: its number of heads is still needed when a gradient arrives."""
        self.probabilities = self.product = self._context = None
        self._inputs, self._encoded = [], []

    def rows_of(self, tensor: Tensor | None) -> int:
        """The number of query rows of H [B, h, n, d] or S [B, h, n, T], which must be those of the mixer's output."""
        return 0 if tensor is None else tensor.shape[2]

    def split_heads(self, context: Tensor, split: bool) -> Tensor | None:
        """`context` as [B, h, T, d], or None if its rows are not the tokens of the minibatch."""
        if split:
            return context if context.shape[2] in self.rows.lengths else None
        tokens = self.rows.read(context, self.mixer.name)
        if tokens is None:
            return None
        heads = self.mixer.head_count(tokens[0].shape[-1], self.heads)
        return tokens[0].reshape(*tokens[0].shape[:2], heads, -1).transpose(1, 2)
