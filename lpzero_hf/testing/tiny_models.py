"""Tiny models of a few families for checks of proxies, and minibatches that fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

VOCABULARY, POSITIONS, PADDING = 96, 32, 0
LENGTHS = (12, 7, 10, 4)  # real tokens of each sequence, where there is padding

MakeConfig = Callable[[], "PreTrainedConfig"]


def _gpt2() -> PreTrainedConfig:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS, bos_token_id=2, eos_token_id=2
    )


def _llama() -> PreTrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=POSITIONS, pad_token_id=PADDING, bos_token_id=2, eos_token_id=2,
    )  # fmt: skip


def _bert() -> PreTrainedConfig:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=POSITIONS, pad_token_id=PADDING,
    )  # fmt: skip


FAMILIES: Mapping[str, MakeConfig] = MappingProxyType({"gpt2": _gpt2, "llama": _llama, "bert": _bert})
"""Two decoders, one of them with grouped heads, gates and buffers, and an encoder."""


def tiny_model(
    family: str | MakeConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 42,
) -> PreTrainedModel:
    """A model of two blocks, 32 units wide, with seeded random weights, in eval mode.

    Args:
        family: one of `FAMILIES`, or a function that makes a configuration.
        dtype: precision of the weights.
        device: where the model goes.
        seed: draws the weights.

    Example:
        >>> from lpzero_hf.testing import tiny_model
        >>> tiny_model("llama").config.num_key_value_heads
        2
    """
    make = FAMILIES[family] if isinstance(family, str) else family
    return build_model(make(), seed=seed, dtype=dtype, device=device)


def tiny_batch(model: PreTrainedModel | None = None, *, padded: bool = True, seed: int = 42) -> dict[str, Tensor]:
    """A minibatch of four sequences of twelve random tokens.

    Args:
        model: that it must fit, and whose device it is on; by default any `tiny_model`, on the CPU.
        padded: three of the sequences are shorter, and padded at the end.
        seed: draws the tokens.

    Returns:
        `input_ids` and `attention_mask`, int64 [4, 12].

    Example:
        >>> from lpzero_hf.testing import tiny_batch
        >>> tiny_batch()["attention_mask"].sum(1)
        tensor([12,  7, 10,  4])
    """
    vocabulary = VOCABULARY if model is None else min(VOCABULARY, vocabulary_size(model))
    shape = (len(LENGTHS), max(LENGTHS))
    ids = torch.randint(3, vocabulary, shape, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    if padded:
        mask = (torch.arange(shape[1]) < torch.tensor(LENGTHS).unsqueeze(1)).long()
        ids = ids.masked_fill(mask == 0, PADDING)
    device = torch.device("cpu") if model is None else model.device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
