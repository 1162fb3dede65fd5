"""What to capture and what the result looks like: places, statistics, reductions, networks, captured values."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lpzero_hf.models.layout import ModelLayout
    from lpzero_hf.models.objective import Batch

Place = Literal[
    "linear", "mixer_linear", "ffn_linear", "ffn_hidden", "ffn_output", "mixer", "attention", "block", "embedding"
]
Statistic = Literal["W", "G", "A", "J", "H", "dH", "S", "X", "mask"]
Moment = Literal["weight", "gradient", "forward", "backward"]

WEIGHTS, OUTPUTS = {"W", "G"}, {"A", "J", "mask"}
TOGETHER: dict[str, tuple[set[str], ...]] = {
    "linear": (WEIGHTS, OUTPUTS),
    "mixer_linear": (WEIGHTS, OUTPUTS),
    "ffn_linear": (WEIGHTS, OUTPUTS),
    "ffn_hidden": (OUTPUTS, {"A", "X", "W", "mask"}),
    "ffn_output": (OUTPUTS,),
    "mixer": ({"H", "S", "mask"}, {"H", "dH", "mask"}),
    "attention": ({"S", "mask"},),
    "block": ({"A", "mask"},),
    "embedding": (OUTPUTS,),
}
STATISTICS = "1"  # the version of the definitions of W, G, A, J, H and S, which artifacts name
READING = "2"  # the version of how they are read from models; a change makes cached scores and tables invalid
WORDS: dict[str, str] = {
    "linear": "linear layers in its blocks whose rows are tokens",
    "mixer_linear": "linear layers in its mixers",
    "ffn_linear": "feed-forward linear layers",
    "ffn_hidden": "feed-forward pre-activations (it has no feed-forward part, or its experts run fused)",
    "ffn_output": "feed-forward output",
    "mixer": "per-head context (it has no mixer, or one that projects its heads outside a linear layer)",
    "attention": "softmax attention",
    "block": "output of blocks (none of its blocks is called itself and gives one row per token)",
    "embedding": "input embedding of tokens",
}


@dataclass(frozen=True)
class Reduction:
    """Reduce some statistics at every site of one kind to a small tensor.

    Args:
        place: `linear` (every linear layer of every block), `mixer_linear` and `ffn_linear` (those inside
            and outside the mixers), `ffn_hidden` (the feed-forward layers before the last one to run: the
            pre-activations), `ffn_output` (the last), `mixer`, `attention` (mixers with softmax
            attention), `block` (the hidden states that a block returns), `embedding` (the input embedding).
        reads: the statistics it needs, in the order the function takes them. W and G are [out, in]; A and
            J [B, T, out]; H and its gradient dH [B, h, T, d_head]; S [B, h, T, T], or [B, T, d] for a mixer
            without attention; mask [B, T] is true at real tokens. Each place offers some of them
            together: W with G, A with J (a block only A), H with S, H with dH. At `ffn_hidden`, X [B, T, in] and W are
            such that A is X W^T but for a bias; X has no features where the layer is no plain one of tokens.
        function: maps them to a small tensor; half-precision tensors arrive as float32. It must not
            write into them.

    Raises:
        ValueError: the statistics are not available together at that place.
    """

    place: Place
    reads: tuple[Statistic, ...]
    function: Callable[..., Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", tuple(self.reads))
        if not any(set(self.reads) <= group for group in TOGETHER.get(self.place, ())):
            raise ValueError(f"{' and '.join(self.reads)} do not appear together at '{self.place}'")
        if self.place == "ffn_hidden" and "W" in self.reads and not {"A", "X"} <= set(self.reads):
            raise ValueError("W appears at 'ffn_hidden' only together with A and X")

    @property
    def moment(self) -> Moment:
        """The moment of a pass at which everything it reads is available."""
        if "G" in self.reads:
            return "gradient"
        if {"J", "dH"} & set(self.reads):
            return "backward"
        return "weight" if set(self.reads) == {"W"} else "forward"


class Reduced(NamedTuple):
    """The reduced value of one site.

    Args:
        block: index in the layout of the block that holds the weight, layer or mixer (the first one, if several do).
        site: the name of the weight (with the expert's number), layer or mixer.
        value: the result of the reduction.
    """

    block: int
    site: str
    value: Tensor


@dataclass
class Captured:
    """The result of one pass.

    Args:
        values: per reduction, its value at every site, in the order of the blocks.
        failures: per reduction without complete values, the error: its own, or that of the pass.
        notes: per reduction, what its values leave out; nothing for a reduction whose values are complete.
        idle: names of the blocks of the layout that did not run, if the model did.
    """

    values: dict[Reduction, list[Reduced]]
    failures: dict[Reduction, Exception]
    notes: dict[Reduction, str] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()


def _unchanged(model: PreTrainedModel, layout: ModelLayout) -> AbstractContextManager[None]:
    return nullcontext()


def _own_loss(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    from lpzero_hf.models.objective import objective

    return objective(model, batch, seed)


def _labelled(model: PreTrainedModel, batch: Batch, seed: int) -> Batch:
    from lpzero_hf.models.objective import with_labels

    return with_labels(model, batch, seed)


@dataclass(frozen=True)
class Network:
    """Which network a pass runs on, and what is differentiated.

    Args:
        name: shown to people.
        objective: maps (model, batch, seed) to the scalar l.
        substitute: maps each parameter to its replacement; None keeps the parameters.
        context: entered around the pass, for a network that differs from the model.
        prepare: maps (model, batch, seed) to the input batch of the pass.
    """

    name: str
    objective: Callable[[PreTrainedModel, Batch, int], Tensor]
    substitute: Callable[[Tensor], Tensor] | None = None
    context: Callable[[PreTrainedModel, ModelLayout], AbstractContextManager[None]] = _unchanged
    prepare: Callable[[PreTrainedModel, Batch, int], Batch] = _labelled

    @property
    def departs(self) -> bool:
        """Whether the pass runs on a network that differs from the model."""
        return self.context is not _unchanged

    @property
    def own_loss(self) -> bool:
        """Whether the model's own loss is differentiated."""
        from lpzero_hf.models.objective import objective

        return self.objective in (_own_loss, objective)


LOSS = Network("loss", _own_loss)
