"""The deviation of random weights: what configurations say of it, and one for all."""

from __future__ import annotations

import copy

import pytest
from transformers import BartConfig, GPT2Config, LlamaConfig, LlavaConfig, T5Config

from lpzero_hf import LpzError, Setting, load_model
from lpzero_hf.models.initial_std import initial_stds, with_initial_std
from tests.support.families import tiny_model


def test_what_families_call_it_is_read() -> None:
    assert initial_stds(GPT2Config(initializer_range=0.1)) == {"initializer_range": 0.1}
    assert initial_stds(BartConfig(init_std=0.03))["init_std"] == 0.03
    assert initial_stds(T5Config()) == {"initializer_factor": 1.0}
    assert initial_stds(LlavaConfig(text_config=LlamaConfig(initializer_range=0.5))) == {"initializer_range": 0.5}


def test_one_deviation_is_that_of_the_weights() -> None:
    config = tiny_model("llama").config
    for std in (0.02, 0.2):
        model = Setting(init_std=std).model(config)
        assert model.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(std, rel=0.2)
    assert config.initializer_range == 0.02
    nested = with_initial_std(LlavaConfig(), 0.3)
    assert (nested.text_config.initializer_range, nested.vision_config.initializer_range) == (0.3, 0.3)


def test_two_spreads_of_one_architecture_become_one() -> None:
    first = tiny_model("gpt2").config
    second = copy.deepcopy(first)
    second.initializer_range = 0.1
    models = [Setting(init_std=0.05).model(config) for config in (first, second)]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), 11.0])
def test_what_is_no_deviation_is_refused(std: float) -> None:
    with pytest.raises(LpzError, match="standard deviation"):
        with_initial_std(GPT2Config(), std)


def test_a_family_without_one_and_a_checkpoint_are_refused() -> None:
    with pytest.raises(LpzError, match="no standard deviation"):
        with_initial_std(T5Config(), 0.02)
    with pytest.raises(LpzError, match="no checkpoint"):
        load_model("gpt2-variant", pretrained=True, init_std=0.02)
