"""A model that changes itself while it runs is put back, whatever it changes and however."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lpzero_hf import score
from lpzero_hf.models.isolation import isolated
from lpzero_hf.testing.model_state import changes, state

Change = Callable[[Any], object]
WRITES: dict[str, Change] = {
    "in place": lambda m: m.weight.div_(2),
    "through data": lambda m: m.weight.data.mul_(2),
    "through a view": lambda m: m.weight.T[1].add_(1),
    "by index": lambda m: m.weight.__setitem__(0, 7.0),
    "augmented": lambda m: m.weight.data.__imul__(3),
    "many at once": lambda m: torch._foreach_mul_([m.weight, m.bias], 2.0),
    "out": lambda m: torch.add(m.weight, 1, out=m.weight.data),
    "inplace": lambda m: F.relu(m.weight, inplace=True),
    "initialised": lambda m: nn.init.ones_(m.weight),
    "embedding": lambda m: F.embedding(torch.tensor([0, 1]), m.weight.data, max_norm=0.01),
    "other memory": lambda m: setattr(m.weight, "data", m.weight.data * 2),
    "copied": lambda m: m.weight.copy_(m.weight * 2),
    "noise": lambda m: m.weight.normal_(),
}
CHANGES: dict[str, Change] = {
    "attribute": lambda m: setattr(m, "mode", "other"),
    "new attribute": lambda m: setattr(m, "state", m.weight * 2),
    "no attribute": lambda m: delattr(m, "mode"),
    "tensor": lambda m: m.plain.add_(1),
    "tensor in a tuple": lambda m: m.pair[0].add_(1),
    "tensor in a list": lambda m: m.things[0].add_(1),
    "list": lambda m: m.things.append(m.weight),
    "nested": lambda m: m.table["inner"].update(more=m.weight),
    "set": lambda m: m.kept.add("more"),
    "deque": lambda m: m.queue.popleft(),
    "order": lambda m: m.ordered.move_to_end("a"),
    "buffer": lambda m: m.register_buffer("scale", torch.ones(2), persistent=False),
    "buffer in place": lambda m: m.mean.add_(1),
    "no buffer": lambda m: delattr(m, "mean"),
    "parameter": lambda m: setattr(m, "weight", nn.Parameter(torch.ones(2, 2))),
    "submodule": lambda m: setattr(m, "child", nn.Linear(2, 2)),
    "hidden module": lambda m: m.hidden[0].weight.mul_(2),
    "gradient": lambda m: setattr(m.weight, "grad", torch.ones_like(m.weight)),
    "frozen": lambda m: m.requires_grad_(False),
    "mode": lambda m: m.train(),
    "hook": lambda m: m.register_forward_hook(lambda *_: None),
    "weight's hook": lambda m: m.bias.register_hook(lambda gradient: gradient),
    "forward": lambda m: setattr(m, "forward", lambda x: x),
    "configuration": lambda m: setattr(m.config, "rope_theta", 3.0),
    "dict of the configuration": lambda m: m.config.extra.update(a=2),
}
BATCH = {"input_ids": torch.arange(16).view(2, 8)}


class Restless(nn.Linear):
    """A linear layer that changes itself when it runs."""

    def __init__(self, config: LlamaConfig, change: Change) -> None:
        super().__init__(8, 8)
        self.config, self.change = config, change
        self.mode, self.plain, self.pair = "own", torch.zeros(2), (torch.zeros(2), 1)
        self.things: list[Any] = [torch.zeros(2), 2]
        self.hidden = [nn.Linear(2, 2)]
        self.table: dict[str, dict[str, Any]] = {"inner": {"a": 1}}
        self.kept, self.queue, self.ordered = {"a"}, deque([1, 2]), OrderedDict(a=1, b=2)
        self.register_buffer("mean", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        result = super().forward(x)
        with torch.no_grad():
            self.change(self)
        return result + 0.0 * x


def restless(change: Change) -> PreTrainedModel:
    """A tiny model with a `Restless` layer."""
    sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=4200)
    config = LlamaConfig(**sizes, max_position_embeddings=16, extra={"a": 1})  # type: ignore[arg-type]
    torch.manual_seed(0)
    model: PreTrainedModel = LlamaForCausalLM(config).eval()
    model.model.layers[0].mlp.down_proj = Restless(config, change)
    return model


def runs(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A proxy of a user."""
    return float(model(**batch).logits.detach().double().sum())


@pytest.mark.parametrize("change", [*WRITES, *CHANGES])
def test_a_model_that_changes_itself_is_put_back(change: str) -> None:
    model = restless((WRITES | CHANGES)[change])
    batch = dict(BATCH)
    before = state(model, batch)
    proxies = ["snip", "flops", runs]
    first = score(model, batch, proxies)
    assert changes(before, state(model, batch)) == []
    again = score(model, batch, proxies)
    assert [row.value for row in first.values()] == [row.value for row in again.values()]


@pytest.mark.parametrize("change", [*WRITES, *CHANGES])
def test_a_model_that_changes_itself_and_fails_is_put_back(change: str) -> None:
    def fails(layer: Restless) -> None:
        (WRITES | CHANGES)[change](layer)
        raise RuntimeError("gave up")

    model = restless(fails)
    batch = dict(BATCH)
    before = state(model, batch)
    rows = score(model, batch, ["snip", "zen", runs])
    assert {row.status for row in rows.values()} == {"failed"}
    assert changes(before, state(model, batch)) == []


def test_a_weight_that_was_overwritten_unseen_is_named() -> None:
    def write(layer: Restless) -> None:
        with torch._C.DisableTorchFunction():
            layer.weight.mul_(2)

    model = restless(write)
    batch = dict(BATCH)
    row = score(model, batch, "snip")["snip"]
    assert row.status == "failed"
    assert "load it again" in row.reason


def test_the_memory_of_a_flattened_recurrent_layer_is_exchanged_too() -> None:
    layer = nn.LSTM(4, 4)
    with isolated(layer):
        layer(torch.ones(3, 1, 4))[0].sum().backward()
        assert vars(layer)["_flat_weights"][0] is layer.weight_ih_l0
    assert layer.weight_ih_l0.grad is None
