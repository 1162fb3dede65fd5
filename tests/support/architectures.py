"""Configurations small enough that many are scored in a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lpz_zoo.gpt2 import FlexibleGPT2Config
from transformers import BertConfig, GPT2Config, PreTrainedConfig

from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.proxies.base import Subject
from lpzero_hf.scoring.score import score
from lpzero_hf.scoring.setting import Setting

SMALL = Setting(batch_size=2, seq_len=8)


def gpt2_config(width: int = 16, layers: int = 1) -> GPT2Config:
    return GPT2Config(n_layer=layers, n_embd=width, n_head=2, vocab_size=4096, n_positions=32)


def flexible_config(inner: int = 16, **changes: Any) -> FlexibleGPT2Config:
    layers = [{"heads": 2, "inner": inner}, {"heads": 1, "inner": 24}]
    sizes = dict(vocab_size=4096, cutoffs=(1024, 2560), d_model=16, d_embed=16, k=2)
    return FlexibleGPT2Config(layers=layers, **(sizes | changes))


def bert_config() -> BertConfig:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.vocab_size, config.architectures = 4096, ["BertForMaskedLM"]
    return config


CONFIGS: dict[str, PreTrainedConfig] = {"plain": gpt2_config(), "flexible": flexible_config(), "masked": bert_config()}
TWO = {"narrow": gpt2_config(), "wide": gpt2_config(24)}


def one_by_one(configs: Mapping[str, PreTrainedConfig], setting: Setting) -> dict[str, dict[str, dict[str, Any]]]:
    """What `score` says of each architecture."""
    found = {}
    for name, config in configs.items():
        model = build_model(config, seed=setting.seed, dtype=getattr(torch, setting.dtype))
        batch = minibatch(
            model, text=setting.text, tokenizer=embedded_tokenizer(), batch_size=setting.batch_size,
            seq_len=setting.seq_len, seed=setting.seed, random_tokens=setting.random_tokens,
        )  # fmt: skip
        found[name] = {row["proxy"]: row for row in score(model, batch, "all", seed=setting.seed).to_dict()["scores"]}
    return found


def size(subject: Subject) -> float:
    """The number of parameters, as a proxy of its own."""
    return float(sum(p.numel() for p in subject.model.parameters()))
