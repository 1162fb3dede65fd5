"""Proxies that run passes of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lpz_proxies import own_passes
from lpz_proxies.own_passes import Curvature
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lpzero_hf import score
from lpzero_hf.capture import microbatches
from lpzero_hf.capture.microbatches import Indivisible


def model(family: str = "llama", vocabulary: int = 40) -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "gpt2":
        made: PreTrainedModel = GPT2LMHeadModel(
            GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0)
        )
    else:
        made = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, vocab_size=vocabulary
            )
        )
    return made.double().eval()


def batch(samples: int = 6) -> dict[str, Tensor]:
    ids = torch.randint(40, (samples, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # samples have unlike numbers of targets
    return {"input_ids": ids, "attention_mask": mask}


def grasp(one: PreTrainedModel) -> float:
    return score(one, batch(), ["grasp"])["grasp"].require()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of layers' outputs that each differentiation had."""
    found: list[int] = []
    add = Curvature.add

    def counting(self: Curvature, loss: Tensor) -> None:
        found.append(len(self.outputs))
        add(self, loss)

    monkeypatch.setattr(Curvature, "add", counting)
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_grasp_in_parts_of_the_minibatch_is_that_of_the_whole(
    family: str, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = grasp(model(family))
    assert len(parts) == 1
    monkeypatch.setattr(own_passes, "TOGETHER", 16)
    assert grasp(model(family)) == pytest.approx(whole, rel=1e-5)  # transformers' losses are in single precision
    assert len(parts) == 1 + 3


def test_samples_that_influence_each_other_run_together(parts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise Indivisible("they do")

    whole = grasp(model())
    monkeypatch.setattr(own_passes, "TOGETHER", 16)
    monkeypatch.setattr(microbatches, "shares", refuse)
    assert grasp(model()) == whole
    assert len(parts) == 2


def test_a_layer_that_is_no_plain_product_is_differentiated_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is changed afterwards, so that its share of sum W * g is not the sum of output times gradient."""
    scaled = model()
    assert isinstance(scaled, LlamaForCausalLM)
    scaled.model.layers[0].mlp.up_proj.register_forward_hook(lambda module, inputs, output: output.tanh())
    value = grasp(scaled)
    monkeypatch.setattr(own_passes, "plain_layers", tuple)  # no layer is taken for a plain one
    assert value == pytest.approx(grasp(scaled), rel=1e-6)


def test_a_weight_that_two_layers_share_counts_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    tied = model()
    assert isinstance(tied, LlamaForCausalLM)
    first, second = (block.mlp for block in tied.model.layers)
    assert isinstance(first.up_proj, nn.Linear)
    second.up_proj.weight = first.up_proj.weight
    value = grasp(tied)
    monkeypatch.setattr(own_passes, "plain_layers", tuple)
    assert value == pytest.approx(grasp(tied), rel=1e-6)
