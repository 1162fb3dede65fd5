"""Named architectures, small enough to score on a laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lpzero_hf.spaces.named import ZooModel

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def _gpt2(**fields: Any) -> PreTrainedConfig:
    from transformers import GPT2Config

    return GPT2Config(**fields)


def _bert(**fields: Any) -> PreTrainedConfig:
    from transformers import BertConfig

    return BertConfig(**fields)


def _llama(**fields: Any) -> PreTrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(**fields)


MODELS = [
    ZooModel(
        "gpt2-variant",
        "a narrow GPT-2 decoder: 6 blocks of width 256, 8 heads",
        lambda: _gpt2(
            n_layer=6, n_embd=256, n_head=8, vocab_size=8192, n_positions=512, bos_token_id=2, eos_token_id=2
        ),
    ),
    ZooModel(
        "gpt2-small",
        "GPT-2 small as published: 12 blocks of width 768, 12 heads",
        _gpt2,
    ),
    ZooModel(
        "bert-mini",
        "BERT-Mini (Turc et al. 2019): 4 encoder blocks of width 256, 4 heads",
        lambda: _bert(num_hidden_layers=4, hidden_size=256, num_attention_heads=4, intermediate_size=1024),
    ),
    ZooModel(
        "llama-mini",
        "a Llama decoder: 6 blocks of width 256, 8 heads, 2 of keys and values, gated feed-forward",
        lambda: _llama(
            num_hidden_layers=6,
            hidden_size=256,
            num_attention_heads=8,
            num_key_value_heads=2,
            intermediate_size=688,
            vocab_size=8192,
            max_position_embeddings=512,
        ),
    ),
]
