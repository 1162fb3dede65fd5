"""Named architectures, small enough to score on a laptop."""

from __future__ import annotations

from transformers import BertConfig, GPT2Config, LlamaConfig

from lpz_zoo import flexibert as flexibert_model
from lpz_zoo import gpt2 as gpt2_model
from lpzero_hf.spaces.named import ZooModel

OWN_FAMILIES = (flexibert_model, gpt2_model)  # imported so that transformers knows their model types

MODELS = [
    ZooModel(
        "gpt2-variant",
        "a narrow GPT-2 decoder: 6 blocks of width 256, 8 heads",
        lambda: GPT2Config(
            n_layer=6, n_embd=256, n_head=8, vocab_size=8192, n_positions=512, bos_token_id=2, eos_token_id=2
        ),
    ),
    ZooModel(
        "gpt2-small",
        "GPT-2 small as published: 12 blocks of width 768, 12 heads",
        lambda: GPT2Config(),
    ),
    ZooModel(
        "bert-mini",
        "BERT-Mini (Turc et al. 2019): 4 encoder blocks of width 256, 4 heads",
        lambda: BertConfig(num_hidden_layers=4, hidden_size=256, num_attention_heads=4, intermediate_size=1024),
    ),
    ZooModel(
        "llama-mini",
        "a Llama decoder: 6 blocks of width 256, 8 heads, 2 of keys and values, gated feed-forward",
        lambda: LlamaConfig(
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
