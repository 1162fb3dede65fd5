"""Which kind of language model a model is."""

from __future__ import annotations

import pytest
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Model

from lpzero_hf.models.model_kind import model_kind
from tests.support.families import tiny_model


@pytest.mark.parametrize(
    ("family", "kind"),
    [("gpt2", "decoder"), ("llama", "decoder"), ("mamba", "decoder"), ("bert", "encoder"), ("fnet", "encoder"),
     ("t5", "encoder-decoder")],
)  # fmt: skip
def test_the_head_tells_the_kind(family: str, kind: str) -> None:
    assert model_kind(tiny_model(family)) == kind


def test_without_a_head_for_language_the_family_tells() -> None:
    small = dict(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=99)
    assert model_kind(BertModel(BertConfig(**small))) == "encoder"
    assert model_kind(BertForSequenceClassification(BertConfig(**small))) == "encoder"
    assert model_kind(BertModel(BertConfig(**small, is_decoder=True))) == "decoder"
    assert model_kind(GPT2Model(tiny_model("gpt2").config)) == "decoder"
