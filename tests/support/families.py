"""Tiny configurations of many model families, for tests and for the table of `studies.proxies.families`."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from lpzero_hf.models.build import model_class

VOCABULARY = 4200  # a little more than the embedded tokenizer's

_DECODER = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=2,
)  # fmt: skip
_GROUPED = _DECODER | dict(num_key_value_heads=2, head_dim=8)
_ENCODER = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=80, pad_token_id=0,
)  # fmt: skip
_BART = dict(
    vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=2, eos_token_id=2, decoder_start_token_id=2,
)  # fmt: skip
_GPT2 = dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=2)
_T5 = dict(
    vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0,
    decoder_start_token_id=0, eos_token_id=2,
)  # fmt: skip
_MAMBA = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8, pad_token_id=0,
              bos_token_id=2, eos_token_id=2)  # fmt: skip

FAMILIES: dict[str, dict[str, object]] = {
    "gpt2": _GPT2,
    "gpt_neo": dict(
        vocab_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        window_size=8, max_position_embeddings=64, bos_token_id=2, eos_token_id=2,
    ),
    "gptj": _GPT2 | dict(rotary_dim=4),
    "gpt_neox": _DECODER,
    "gpt_bigcode": _GPT2,
    "opt": dict(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=64, word_embed_proj_dim=32, pad_token_id=0, bos_token_id=2, eos_token_id=2,
    ),
    "bloom": dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, bos_token_id=2, eos_token_id=2),
    "llama": _GROUPED,
    "mistral": _GROUPED,
    "mixtral": _GROUPED | dict(num_local_experts=4),
    "qwen2": _GROUPED,
    "qwen3": _GROUPED,
    "qwen3_moe": _GROUPED | dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, decoder_sparse_step=1),
    "qwen2_moe": _GROUPED | dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16
    ),
    "deepseek_v3": _DECODER | dict(
        n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, n_group=2, topk_group=1, kv_lora_rank=8,
        q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16, first_k_dense_replace=1,
        num_key_value_heads=4,
    ),
    "gpt_oss": _GROUPED | dict(num_local_experts=4, num_experts_per_tok=2),
    "ctrl": dict(vocab_size=VOCABULARY, n_positions=64, n_embd=32, dff=48, n_layer=2, n_head=4),
    "gemma": _GROUPED,
    "gemma2": _GROUPED,
    "gemma3_text": _GROUPED,
    "phi": _DECODER,
    "phi3": _GROUPED,
    "falcon": dict(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, bos_token_id=2,
        eos_token_id=2, max_position_embeddings=64,
    ),
    "mpt": dict(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "stablelm": _DECODER | dict(num_key_value_heads=4),
    "starcoder2": _GROUPED,
    "granite": _GROUPED,
    "cohere": _GROUPED,
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "distilbert": dict(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64, pad_token_id=0
    ),
    "albert": _ENCODER | dict(num_hidden_layers=3, embedding_size=16),
    "electra": _ENCODER | dict(embedding_size=32),
    "deberta-v2": _ENCODER | dict(relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"],
                                  share_att_key=True),
    "convbert": _ENCODER | dict(embedding_size=32, conv_kernel_size=3),
    "modernbert": _ENCODER | dict(bos_token_id=2, eos_token_id=2, cls_token_id=2, sep_token_id=2,
                                  global_attn_every_n_layers=2),
    "t5": _T5,
    "bart": _BART,
    "pegasus": _BART,
    "xlnet": dict(vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=48, pad_token_id=0,
                  bos_token_id=2, eos_token_id=2),
    "fnet": dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, intermediate_size=48,
                 max_position_embeddings=64, pad_token_id=0),
    "xlm": dict(vocab_size=VOCABULARY, emb_dim=32, n_layers=2, n_heads=4, max_position_embeddings=64, n_langs=1,
                pad_index=0, mask_index=1),
    "mobilebert": _ENCODER | dict(embedding_size=16, intra_bottleneck_size=16, num_feedforward_networks=2),
    "roberta-prelayernorm": _ENCODER,
    "rwkv": dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32,
                 intermediate_size=48, context_length=64),
    "mamba": _MAMBA,
    "mamba2": _MAMBA | dict(num_heads=8, head_dim=8, n_groups=1, chunk_size=8),
}  # fmt: skip
JETMOE = _GROUPED | dict(num_local_experts=4, num_experts_per_tok=2, kv_channels=8)  # its router is read by Python

_MOE = _GROUPED | dict(num_local_experts=4)
_SMALL_ENCODER = _ENCODER | dict(bos_token_id=2, eos_token_id=2, sep_token_id=2)
_MAMBA_HEADS = dict(mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=8)

RARE: dict[str, dict[str, object]] = {  # families with habits of their own: states, buffers, odd layers
    "big_bird": _ENCODER | dict(block_size=4, num_random_blocks=1),
    "recurrent_gemma": _GROUPED | dict(lru_width=32, attention_window_size=16, block_types=["recurrent", "attention"]),
    "reformer": dict(vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=4, attention_head_size=8,
                     feed_forward_size=48, attn_layers=["local", "local"], axial_pos_shape=[4, 4],
                     axial_pos_embds_dim=[16, 16], local_attn_chunk_length=8, max_position_embeddings=16,
                     is_decoder=True),
    "funnel": dict(vocab_size=VOCABULARY, d_model=32, n_head=4, d_head=8, d_inner=48, block_sizes=[1, 1],
                   num_decoder_layers=1),
    "mbart": _BART,
    "m2m_100": _BART,
    "marian": _BART,
    "blenderbot": _BART,
    "xglm": dict(vocab_size=VOCABULARY, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4,
                 max_position_embeddings=64),
    "fsmt": _BART | dict(langs=["en", "de"], src_vocab_size=VOCABULARY, tgt_vocab_size=VOCABULARY),
    "mra": _ENCODER,
    "yoso": _ENCODER,
    "nystromformer": _ENCODER,
    "longformer": _SMALL_ENCODER | dict(attention_window=8),
    "led": _BART | dict(attention_window=8, max_encoder_position_embeddings=64, max_decoder_position_embeddings=64),
    "prophetnet": dict(vocab_size=VOCABULARY, hidden_size=32, num_encoder_layers=2, num_decoder_layers=2,
                       num_encoder_attention_heads=4, num_decoder_attention_heads=4, encoder_ffn_dim=48,
                       decoder_ffn_dim=48, max_position_embeddings=64),
    "longt5": _T5 | dict(local_radius=4),
    "umt5": _T5,
    "switch_transformers": _T5 | dict(num_decoder_layers=2, num_experts=2, num_sparse_encoder_layers=1,
                                      num_sparse_decoder_layers=1),
    "flaubert": dict(vocab_size=VOCABULARY, emb_dim=32, n_layers=2, n_heads=4, max_position_embeddings=64),
    "mpnet": _ENCODER,
    "esm": _ENCODER | dict(mask_token_id=1),
    "rembert": _ENCODER | dict(input_embedding_size=16, output_embedding_size=16),
    "deberta": _ENCODER | dict(relative_attention=True, pos_att_type=["p2c", "c2p"], max_relative_positions=8),
    "codegen": dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, n_ctx=64),
    "jetmoe": _GROUPED | dict(num_local_experts=4, kv_channels=8),
    "granitemoe": _MOE,
    "jamba": _GROUPED | dict(attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, num_experts=2,
                             use_mamba_kernels=False),
    "bamba": _GROUPED | _MAMBA_HEADS | dict(attn_layer_indices=[1], mamba_n_heads=8),
    "falcon_h1": _GROUPED | _MAMBA_HEADS | dict(mamba_d_ssm=32),
    "lfm2": _GROUPED | dict(layer_types=["conv", "full_attention"]),
    "qwen3_next": _GROUPED | dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "minimax": _MOE | dict(layer_types=["full_attention", "linear_attention"], block_size=8),
    "diffllama": _GROUPED,
    "cpmant": dict(vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=4, dim_head=8, dim_ff=48,
                   num_hidden_layers=2),
    "xlstm": dict(vocab_size=VOCABULARY, hidden_size=32, num_heads=4, num_hidden_layers=2, embedding_dim=32,
                  chunk_size=8),
    "falcon_mamba": _MAMBA,
}  # fmt: skip


def tiny_model(family: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A model of `family` with two blocks and random weights, as `lpz score config.json` would build it."""
    config = AutoConfig.for_model(family, **((FAMILIES | RARE)[family] | changes))
    torch.manual_seed(seed)
    built = model_class(config)
    return (built.from_config if built.__module__.startswith(transformers.__name__ + ".models.auto") else built)(
        config
    ).eval()
