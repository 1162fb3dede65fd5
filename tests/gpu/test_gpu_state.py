"""Scoring on a GPU leaves model and process as they were, whatever runs in the thread of the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf import score
from lpzero_hf.testing import tiny_batch
from lpzero_hf.testing.model_state import changes, disturb, state
from lpzero_hf.testing.tiny_models import tiny_model as small_model
from tests.support.families import tiny_model

pytestmark = pytest.mark.gpu
FAMILIES = ("gpt2", "llama", "bert", "mamba2", "mixtral", "t5", "rwkv")  # the last divides weights in place
CHANGES: dict[str, Callable[[Any], object]] = {
    "buffer": lambda layer: layer.mean.add_(1),
    "attribute": lambda layer: setattr(layer, "seen", layer.spare * 2),
    "frozen": lambda layer: layer.spare.requires_grad_(False),
    "gradient": lambda layer: setattr(layer.spare, "grad", torch.ones_like(layer.spare)),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "in place": lambda layer: layer.spare.div_(2),
    "copied": lambda layer: layer.spare.copy_(layer.spare * 2),
    "noise": lambda layer: layer.spare.normal_(),
}


def draws_and_fails(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A proxy with bad manners, in the generators too."""
    torch.manual_seed(0)
    torch.rand(3, device=model.device)
    model.train()
    model(**batch)
    raise RuntimeError("gave up")


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_as_it_was(family: str, card: torch.device) -> None:
    model = tiny_model(family).to(card)
    disturb(model)
    batch = tiny_batch(model)
    before = state(model, batch)
    assert len(before["random state of CUDA"]) == (torch.cuda.device_count() if card.type == "cuda" else 0)
    score(model, batch, ["all", draws_and_fails])
    assert changes(before, state(model, batch)) == []


class Backwards(nn.Linear):
    """A linear layer that changes itself in the backward pass: of a GPU, that is another thread's."""

    def __init__(self, like: nn.Linear, change: Callable[[Any], object]) -> None:
        super().__init__(like.in_features, like.out_features, bias=False, device=like.weight.device)
        self.change, self.seen = change, None
        self.spare = nn.Parameter(torch.ones(3, device=like.weight.device))  # the pass itself needs the others
        self.register_buffer("mean", torch.zeros(2, device=like.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        result = super().forward(x)
        if result.requires_grad:
            result.register_hook(self.on_gradient)
        return result

    def on_gradient(self, gradient: Tensor) -> None:
        with torch.no_grad():
            self.change(self)


def backwards(card: torch.device, change: Callable[[Any], object]) -> PreTrainedModel:
    torch.manual_seed(0)
    model = small_model("llama", device=card)
    last = model.model.layers[1].mlp
    last.down_proj = Backwards(last.down_proj, change)
    return model.eval()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_model_changes_in_its_backward_pass_is_put_back(
    change: str, checkpointing: bool, card: torch.device
) -> None:
    times: list[int] = []

    def counted(layer: Any) -> None:
        times.append(1)
        CHANGES[change](layer)

    model = backwards(card, counted)
    batch = tiny_batch(model)
    before = state(model, batch)
    first = score(model, batch, ["snip", "grad_norm"], checkpointing=checkpointing)
    assert times
    assert changes(before, state(model, batch)) == []
    again = score(model, batch, ["snip", "grad_norm"], checkpointing=checkpointing)
    assert {row.status for row in first.rows} == {"ok"}
    assert [row.value for row in first.rows] == [row.value for row in again.rows]


@pytest.mark.parametrize("change", WRITES)
def test_a_weight_that_is_written_in_the_backward_pass_is_named(change: str, card: torch.device) -> None:
    """Torch's modes, which notice writes, are off while it differentiates; the versions of the weights tell."""
    model = backwards(card, WRITES[change])
    row = score(model, tiny_batch(model), "snip")["snip"]
    assert row.status == "failed"
    assert "load it again" in row.reason


def halving(layer: nn.Linear, inputs: Any) -> None:
    """A layer that overwrites its weight whenever it runs."""
    with torch.no_grad():
        layer.weight.div_(2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_weights_that_blocks_overwrite_when_they_run_again_are_put_back(
    checkpointing: bool, card: torch.device
) -> None:
    """With checkpointing they run a second time within the backward pass."""
    model = small_model("llama", device=card)
    model.model.layers[1].mlp.down_proj.register_forward_pre_hook(halving)
    batch = tiny_batch(model)
    before = state(model, batch)
    score(model, batch, ["snip", "grad_norm"], checkpointing=checkpointing)
    assert changes(before, state(model, batch)) == []
