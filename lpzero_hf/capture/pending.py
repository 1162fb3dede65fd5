"""Pending outputs: tensors whose gradients have not arrived yet.

With checkpointing, a block keeps only its inputs: its outputs are released when it has run, and taken from its second
run in the backward pass. A tensor and its gradient are passed on as soon as both are available.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lpzero_hf.capture.reducer import Where
from lpzero_hf.capture.tokens import TokenRows
from lpzero_hf.errors import CaptureError

Event = tuple[int, int]  # (index of a block, index of one of its layers and mixers), in the order in which they run


@dataclass
class LayerOutput:
    """The output of a layer, with its places, its block, how it is read, and the tensor's version then.

    A plain linear layer may have its input and weight [out, in] beside it, with the input's version.
    """

    name: str
    tensor: Tensor
    places: tuple[str, ...]
    block: int
    call: int
    rows: TokenRows
    event: Event | None = None
    version: int = -1
    made_of: tuple[Tensor, Tensor, int] | None = None

    def __post_init__(self) -> None:
        self.version = self.tensor._version

    @property
    def overwritten(self) -> bool:
        """Whether the model has written into it since."""
        return self.tensor._version != self.version

    def product(self, mask: Tensor) -> dict[str, Tensor]:
        """X [B, T, in] and W, whose product the output is but for a bias; X has no features where that is not known.

        Args:
            mask: [B, T], of the rows of the output.
        """
        if self.made_of is not None and self.made_of[0]._version == self.made_of[2]:
            read = self.rows.read(self.made_of[0], self.name)
            if read is not None and read[0].shape[:2] == mask.shape:
                return {"X": read[0], "W": self.made_of[1]}
        return {"X": self.tensor.new_zeros(*mask.shape, 0), "W": self.tensor.new_zeros(0, 0)}

    @property
    def where(self) -> Where:
        """The place it is read at."""
        return Where(self.places, self.block, self.name, self.call)


@dataclass
class GradientPair:
    """A tensor and its gradient, passed to `reduce` once both are available.

    Args:
        name: of the layer, or "" for a tensor that no model overwrites.
        reduce: takes the tensor and its gradient.
        tensor: None while it is released.
        version: of the tensor when its layer had run.
    """

    name: str
    reduce: Callable[[Tensor, Tensor], None]
    tensor: Tensor | None
    version: int
    gradient: Tensor | None = None

    @property
    def overwritten(self) -> bool:
        """Whether the model has written into the tensor since."""
        return self.tensor is not None and self.tensor._version != self.version

    def reduce_if_complete(self) -> None:
        """Pass both on, once."""
        if self.tensor is not None and self.gradient is not None:
            tensor, gradient, self.tensor, self.gradient = self.tensor, self.gradient, None, None
            self.reduce(tensor, gradient)


class PendingOutputs:
    """All pending outputs of one pass."""

    def __init__(self) -> None:
        self.pairs: list[GradientPair] = []
        self.released: dict[Event, list[GradientPair]] = {}  # those to be taken from the second run of their block

    def clear(self) -> None:
        """Forget everything."""
        self.pairs.clear()
        self.released.clear()

    def add(self, pair: GradientPair, tensor: Tensor, second_run: Event | None) -> None:
        """Wait for the gradient of `tensor`; with `second_run`, take the tensor itself from that event."""
        self.pairs.append(pair)
        tensor.register_hook(partial(self._on_gradient, pair))
        if second_run is not None:
            self.released.setdefault(second_run, []).append(pair)

    def _on_gradient(self, pair: GradientPair, gradient: Tensor) -> None:
        pair.gradient = gradient.detach()
        pair.reduce_if_complete()

    def release(self, block: int) -> set[str]:
        """Release the outputs that a second run of this block returns; the names of layers overwritten before that."""
        pairs = [pair for (ran, _), of_event in self.released.items() if ran == block for pair in of_event]
        overwritten = {pair.name for pair in pairs if pair.overwritten and pair.name}
        for pair in pairs:
            pair.tensor = None
        return overwritten

    def take(self, event: Event, tensor: Tensor) -> None:
        """Take an output of the second run of a block."""
        for pair in self.released.pop(event, ()):
            pair.tensor = tensor.detach()
            pair.version = tensor._version
            pair.reduce_if_complete()

    def overwritten(self) -> set[str]:
        """The layers whose outputs the model has overwritten."""
        return {pair.name for pair in self.pairs if pair.overwritten and pair.name}

    def check(self) -> None:
        """Raise `CaptureError` if a gradient has arrived without its tensor."""
        if any(pair.gradient is not None for pair in self.pairs):
            raise CaptureError(
                "the second run of a block differs from the first; score this model without checkpointing"
            )
