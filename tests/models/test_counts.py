"""Counts of parameters: no head and no embedding in the body, frozen weights as well as trained ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    PreTrainedModel,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    SwitchTransformersModel,
)

from lpzero_hf import minibatch, score
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.layout import count_parameters, layout_of
from tests.support.families import FAMILIES, tiny_model

T5_LIKE = dict(num_layers=2, d_model=32, num_heads=4, d_kv=8, d_ff=64, vocab_size=500, decoder_start_token_id=0)


def models_of(family: str, **settings: object) -> Iterator[PreTrainedModel]:
    """The bare model of a family, then every model of transformers that puts a head on it."""
    with torch.device("meta"):
        bare = AutoModel.from_config(AutoConfig.for_model(family, **settings))
        yield bare
        for name, made in vars(sys.modules[type(bare).__module__]).items():
            headed = isinstance(made, type) and issubclass(made, PreTrainedModel) and ("For" in name or "Head" in name)
            if headed and made.config_class is type(bare.config):
                yield made(AutoConfig.for_model(family, **settings))


def check_bodies(models: Iterator[PreTrainedModel]) -> None:
    bare = next(models)
    body, depth = count_body_parameters(bare), len(layout_of(bare).blocks)
    embedding = bare.get_input_embeddings().weight.numel()
    assert 0 < body <= count_parameters(bare) - embedding
    counted = [(type(m).__name__, count_body_parameters(m)) for m in models if len(layout_of(m).blocks) == depth]
    assert counted  # others hold an encoder or a decoder alone
    assert [(name, count) for name, count in counted if count != body] == []


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [*FAMILIES, "mt5", "umt5", "longt5"])
def test_the_body_is_the_same_with_every_head(family: str, tied: bool) -> None:
    check_bodies(models_of(family, **(FAMILIES.get(family, T5_LIKE) | {"tie_word_embeddings": tied})))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_is_its_own_base_does_not_count_its_head(tied: bool) -> None:
    sparse = dict(num_experts=2, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1)
    check_bodies(models_of("switch_transformers", **T5_LIKE, **sparse, tie_word_embeddings=tied))


def test_heads_of_the_parts_of_a_model_are_not_counted() -> None:
    settings = dict(vocab_size=500, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    encoder, decoder = BertConfig(**settings), BertConfig(**settings, is_decoder=True, add_cross_attention=True)
    model = EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    bodies = count_body_parameters(model.encoder), count_body_parameters(model.decoder)
    assert count_body_parameters(model) == sum(bodies)
    assert sum(bodies) + 32 * 32 < count_parameters(model)  # the decoder's head has a layer of its own


def test_the_score_is_that_count(batch: dict[str, Tensor]) -> None:
    config = SwitchTransformersConfig(
        **T5_LIKE, num_experts=2, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, tie_word_embeddings=False
    )
    headed, bare = SwitchTransformersForConditionalGeneration(config), SwitchTransformersModel(config)
    ids = {"input_ids": batch["input_ids"] % 500}
    bodies = [score(model, ids, "decoder_params")["decoder_params"].require() for model in (headed, bare)]
    assert bodies == [count_body_parameters(bare)] * 2


def gradient_sum(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A plain function that differentiates by the weights itself."""
    loss = model(**batch, labels=batch["input_ids"]).loss
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return float(sum(g.abs().sum() for g in gradients if g is not None))


@pytest.mark.parametrize("family", ["gpt2", "t5", "pegasus"])
def test_no_score_depends_on_what_is_frozen(family: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=4, seq_len=16)
    trained = {**score(model, batch, "all"), **score(model, batch, gradient_sum)}
    frozen_part = tiny_model(family)
    for index, parameter in enumerate(frozen_part.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    for frozen in (tiny_model(family).requires_grad_(False), frozen_part):
        flags = [p.requires_grad for p in frozen.parameters()]
        rows = {**score(frozen, batch, "all"), **score(frozen, batch, gradient_sum)}
        assert {name: row.value for name, row in rows.items()} == {name: row.value for name, row in trained.items()}
        assert [p.requires_grad for p in frozen.parameters()] == flags
    assert trained["params"].value == count_parameters(model)
