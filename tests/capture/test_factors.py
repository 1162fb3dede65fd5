"""The input and weight of a feed-forward layer beside its output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Captured, Reduction
from lpzero_hf.models.layout import layout_of


def rest(A: Tensor, X: Tensor, W: Tensor, mask: Tensor) -> Tensor:
    """The output less the product, at the first token less at the second: the bias cancels."""
    return (A - X @ W.T).diff(dim=1).abs().max() if X.shape[-1] else A.new_tensor(-1.0)


def model(family: str) -> PreTrainedModel:
    if family == "gpt2":
        sizes = dict(n_layer=2, n_embd=16, n_head=2, vocab_size=40, bos_token_id=0, eos_token_id=0)
        return GPT2LMHeadModel(GPT2Config(**sizes)).eval()
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, vocab_size=40)
    ).eval()


REST = Reduction("ffn_hidden", ("A", "X", "W", "mask"), rest)


def captured(one: PreTrainedModel, micro_batch: int | None = None) -> Captured:
    batch = {"input_ids": torch.arange(32).view(4, 8)}
    return capture(one, batch, [REST], layout_of(one), micro_batch=micro_batch)


@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_output_is_their_product_but_for_the_bias(family: str, micro_batch: int | None) -> None:
    found = captured(model(family), micro_batch)
    assert not found.failures
    assert len(found.values[REST]) == {"gpt2": 2, "llama": 4}[family]
    assert all(0 <= float(reduced.value) < 1e-5 for reduced in found.values[REST])


class Doubling(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_a_layer_that_is_no_plain_one_has_no_factors() -> None:
    one = model("llama")
    assert isinstance(one, LlamaForCausalLM)
    one.model.layers[0].mlp.up_proj.__class__ = Doubling
    values = [float(reduced.value) for reduced in captured(one).values[REST]]
    assert values.count(-1.0) == 1


def overwrite(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    inputs[0].mul_(1)


def test_an_input_that_the_model_has_overwritten_is_none() -> None:
    one = model("llama")
    assert isinstance(one, LlamaForCausalLM)
    one.model.layers[0].mlp.up_proj.register_forward_hook(overwrite)
    with torch.no_grad():
        values = [float(reduced.value) for reduced in captured(one).values[REST]]
    assert values.count(-1.0) == 1  # of the gate, which had read it before


@pytest.mark.parametrize("reads", [("W",), ("X", "W"), ("A", "W", "mask")])
def test_a_weight_is_offered_there_only_with_input_and_output(reads: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="W appears"):
        Reduction("ffn_hidden", reads, rest)  # type: ignore[arg-type]  # the letters are checked when it runs
