"""A small configuration of any model type of transformers, made from its defaults."""

from __future__ import annotations

import re
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

VOCABULARY = 4200
SIZES: tuple[tuple[str, Any], ...] = (  # the first pattern that matches a whole name decides
    (r"(.*_)?vocab_size|n_vocab|char_vocab.*|.*_vocabulary_size", VOCABULARY),
    (r"(num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|num_(en|de)coder_layers|depth|num_blocks"
     r"|(speech_|text_|t2u_|vision_)?(encoder|decoder)_layers|num_attention_layers|num_hidden_layers_.*"
     r"|attention_layers|num_global_layers)", 2),
    (r"num_key_value_heads|n_kv_heads|num_kv_heads|multi_query_group_num|num_query_groups|kv_heads", 2),
    (r"(.*_)?(num_attention_heads|num_heads|n_heads?|attention_heads|num_v_heads)|linear_num_value_heads", 4),
    (r"linear_num_key_heads|linear_num_heads", 2),
    (r"(.*_)?head_dim|d_head|d_kv|attention_head_size|kv_channels|linear_(key|value)_head_dim|mamba_d_head", 8),
    (r"mamba_headdim|mamba_head_dim", 8),
    (r"mamba_n_heads|n_mamba_heads|mamba_num_heads", 8),
    (r"qk_rope_head_dim|qk_nope_head_dim|v_head_dim|rotary_dim", 8),
    (r"(.*_)?(hidden_size|d_model|n_embd|emb_dim|embed_dim|embedding_size|word_embed_proj_dim|embedding_dim"
     r"|hidden_dim|dim|projection_dim|proj_dim|lru_width|attention_hidden_size)", 32),
    (r"(.*_)?(intermediate_size|ffn_dim|d_ff|d_inner|n_inner|ffn_hidden_size|encoder_ffn_dim|decoder_ffn_dim|dff"
     r"|feed_forward_size|mlp_dim|feedforward_dim|intermediate_dim)|block_ff_dim", 48),
    (r"moe_(intermediate|expert)_size|shared_expert_intermediate_size|expert_dim", 16),
    (r"(num|n)_(local_|routed_)?experts|moe_num_experts|num_experts_total", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|num_selected_experts|top_k_experts", 2),
    (r"n_group|topk_group|n_groups|mamba_n_groups|num_expert_groups?", 1),
    (r"(kv|q|o)_lora_rank", 16),
    (r"(mamba_d_state|state_size|ssm_state_size|mamba_d_ssm)", 8),
    (r"(mamba_)?chunk_size|mamba_chunk_size", 8),
    (r"(max|n)_(.*_)?position(s|_embeddings)|n_ctx|max_seq_len|context_length|max_(source|target)_positions", 128),
    (r"image_size", 28), (r"patch_size", 14), (r"num_channels", 3),
    (r"sliding_window|attention_window_size|local_attention|attention_chunk_size", 8),
    (r"first_k_dense_replace|num_dense_layers", 1),
)  # fmt: skip
DROPPED = re.compile(
    r"(.*_)?layer_types|layers_block_type|block_types|.*rope.*|.*_token_index|.*quantization.*|transformers_version"
    r"|(torch_)?dtype|no_rope_layers|.*_token_id|.*_per_layer"
)
TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}


def small_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """The default configuration of `model_type`, with a few layers of few units."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**(_small(kind().to_dict()) | TOKENS | changes))


def _small(values: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        if DROPPED.fullmatch(name):
            continue
        size = next((size for pattern, size in SIZES if re.fullmatch(pattern, name)), None)
        if isinstance(value, dict):
            made[name] = _small(value) if "config" in name else value
        elif size is not None and isinstance(value, int) and not isinstance(value, bool):
            made[name] = min(value, size) if value > 0 else value
        else:
            made[name] = value
    return made
