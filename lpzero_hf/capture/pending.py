"""Outputs that wait for their gradients, and for themselves where a block lets them go and runs again.

With checkpointing, a block keeps its inputs alone: what it put out is let go when it has run, and taken from its
second run in the backward pass. A gradient and its tensor are handed on as soon as both are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lpzero_hf.errors import CaptureError

Event = tuple[int, int]  # (how-manieth block to run, how-manieth of its layers and mixers to finish)


@dataclass
class GradientPair:
    """A tensor and its gradient, handed to `meet` once both are there.

    Args:
        name: of the layer, or "" for what no model overwrites.
        meet: takes both.
        tensor: None while it is let go.
        version: of the tensor when its layer had run.
    """

    name: str
    meet: Callable[[Tensor, Tensor], None]
    tensor: Tensor | None
    version: int
    gradient: Tensor | None = None

    @property
    def overwritten(self) -> bool:
        """Whether the model has written into the tensor since."""
        return self.tensor is not None and self.tensor._version != self.version

    def settle(self) -> None:
        """Hand both on, once."""
        if self.tensor is not None and self.gradient is not None:
            tensor, gradient, self.tensor, self.gradient = self.tensor, self.gradient, None, None
            self.meet(tensor, gradient)


class PendingOutputs:
    """All the outputs of one pass that wait."""

    def __init__(self) -> None:
        self.pairs: list[GradientPair] = []
        self.let_go: dict[Event, list[GradientPair]] = {}  # those to be taken from the second run of their block

    def clear(self) -> None:
        """Forget everything."""
        self.pairs.clear()
        self.let_go.clear()

    def hold(self, pair: GradientPair, tensor: Tensor, again: Event | None) -> None:
        """Wait for the gradient of `tensor`; with `again`, also for the tensor itself, which that event brings back."""
        self.pairs.append(pair)
        tensor.register_hook(partial(self._on_gradient, pair))
        if again is not None:
            self.let_go.setdefault(again, []).append(pair)

    def _on_gradient(self, pair: GradientPair, gradient: Tensor) -> None:
        pair.gradient = gradient.detach()
        pair.settle()

    def block_has_run(self, block: int) -> set[str]:
        """Let go what this block will put out again; the names of layers that were overwritten by then."""
        gone = [pair for (ran, _), pairs in self.let_go.items() if ran == block for pair in pairs]
        spoilt = {pair.name for pair in gone if pair.overwritten and pair.name}
        for pair in gone:
            pair.tensor = None
        return spoilt

    def take(self, event: Event, tensor: Tensor) -> None:
        """Hand on what the second run put out."""
        for pair in self.let_go.pop(event, ()):
            pair.tensor = tensor.detach()
            pair.version = tensor._version
            pair.settle()

    def overwritten(self) -> set[str]:
        """The layers whose outputs the model has overwritten."""
        return {pair.name for pair in self.pairs if pair.overwritten and pair.name}

    def check(self) -> None:
        """Raise `CaptureError` if a gradient has come whose tensor has not."""
        if any(pair.gradient is not None for pair in self.pairs):
            raise CaptureError("a block ran otherwise a second time; score this model without checkpointing")
