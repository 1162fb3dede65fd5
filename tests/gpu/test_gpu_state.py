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
WRITES: dict[str, Callable[[Any], object]] = {
    "in place": lambda layer: layer.weight.div_(2),
    "through data": lambda layer: layer.weight.data.mul_(2),
    "copied": lambda layer: layer.weight.copy_(layer.weight * 2),
    "noise": lambda layer: layer.weight.normal_(),
    "buffer": lambda layer: layer.mean.add_(1),
    "attribute": lambda layer: setattr(layer, "seen", layer.weight * 2),
    "frozen": lambda layer: layer.requires_grad_(False),
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
        self.change, self.changed, self.seen = change, [0], None
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
@pytest.mark.parametrize("change", WRITES)
def test_what_a_model_writes_in_its_backward_pass_is_put_back(
    change: str, checkpointing: bool, card: torch.device
) -> None:
    times: list[int] = []

    def counted(layer: Any) -> None:
        times.append(1)
        WRITES[change](layer)

    model = backwards(card, counted)
    batch = tiny_batch(model)
    before = state(model, batch)
    first = score(model, batch, ["snip", "grad_norm"], checkpointing=checkpointing)
    assert times
    assert changes(before, state(model, batch)) == []
    again = score(model, batch, ["snip", "grad_norm"], checkpointing=checkpointing)
    assert {row.status for row in first.rows} == {"ok"}
    assert [row.value for row in first.rows] == [row.value for row in again.rows]


def test_a_write_in_the_backward_pass_that_no_one_saw_is_named(card: torch.device) -> None:
    def unseen(layer: Any) -> None:
        with torch._C.DisableTorchFunction():
            layer.weight.mul_(2)

    model = backwards(card, unseen)
    row = score(model, tiny_batch(model), "snip")["snip"]
    assert row.status == "failed"
    assert "load it again" in row.reason
