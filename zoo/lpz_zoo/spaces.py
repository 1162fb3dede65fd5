"""The spaces of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from lpzero_hf.spaces import Choice, Space, Value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LITE = "Javaheripi et al., LiteTransformerSearch, NeurIPS 2022, arXiv:2203.02094"


def gpt2_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over WikiText-103's 50,264 words, as LiteTransformerSearch trains them."""
    from lpz_zoo.gpt2_model import FlexibleGPT2Config

    return FlexibleGPT2Config(**_numbers(shared), layers=[_numbers(layer) for layer in layers])


def tiny_gpt2_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over the 4,096 ids of the embedded tokenizer, without dropout."""
    from lpz_zoo.gpt2_model import FlexibleGPT2Config

    return FlexibleGPT2Config(
        **_numbers(shared),
        layers=[_numbers(layer) for layer in layers],
        vocab_size=4096,
        cutoffs=(1024, 2560),
        max_position_embeddings=128,
        dropout=0.0,
    )


def _numbers(values: Mapping[str, Value]) -> dict[str, int]:
    return cast("dict[str, int]", dict(values))


SPACES = [
    Space(
        name="gpt2",
        summary="GPT-2 decoders: heads and feed-forward width per layer, adaptive embedding",
        citation=LITE,
        shared=(
            Choice("d", "d_model", (64, 128, 256, 512)),
            Choice("e", "d_embed", (128, 256, 512)),
            Choice("k", "k", (1, 2, 4)),
        ),
        depths=range(2, 17),
        layer=(Choice("h", "heads", (2, 4, 8)), Choice("i", "inner", range(512, 2049))),
        build=gpt2_config,
    ),
    Space(
        name="tiny-gpt2",
        summary="GPT-2 decoders small enough to train on a laptop",
        citation=LITE,
        shared=(
            Choice("d", "d_model", (64, 96, 128, 192)),
            Choice("e", "d_embed", (32, 64, 128)),
            Choice("k", "k", (1, 2, 4)),
        ),
        depths=range(1, 9),
        layer=(Choice("h", "heads", (1, 2, 4, 8)), Choice("i", "inner", range(64, 513, 64))),
        build=tiny_gpt2_config,
    ),
]
