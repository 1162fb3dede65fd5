"""The spaces of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lpzero_hf.spaces.base import Value
from lpzero_hf.spaces.shipped_space import ShippedSpace
from lpzero_hf.spaces.space import Choice, Space

FOLDER = Path(__file__).parent / "data" / "spaces"

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lpz_zoo.flexibert import LayerSpec

FLEXIBERT = (
    "Tuli et al. 2022, arXiv:2205.11656; this subset: Serianni and Kalita, Training-free Neural Architecture Search "
    "for RNNs and Transformers, ACL 2023, arXiv:2306.00288"
)
LITE = "Javaheripi et al., LiteTransformerSearch, NeurIPS 2022, arXiv:2203.02094"
GEMSTONES = "McLeish et al., Gemstones: A Model Suite for Multi-Faceted Scaling Laws, 2025, arXiv:2502.06857"


def flexibert_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """An encoder over BERT's vocabulary."""
    from lpz_zoo.flexibert import FlexiBertConfig

    return FlexiBertConfig(hidden_size=cast("int", shared["hidden"]), layers=cast("list[LayerSpec]", layers))


def gpt2_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over WikiText-103's 50,264 words, as LiteTransformerSearch trains them."""
    from lpz_zoo.gpt2 import FlexibleGPT2Config

    return FlexibleGPT2Config(**cast("dict[str, Any]", shared), layers=cast("list[dict[str, int]]", layers))


def lm1b_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over LM1B's 50,264 words in sequences of 32, with word vectors as wide as the blocks.

    The published cutoffs are above the vocabulary, so that there is one cluster; all that k decides then is whether
    its word vectors are projected.
    """
    from lpz_zoo.gpt2 import FlexibleGPT2Config

    return FlexibleGPT2Config(
        **cast("dict[str, Any]", shared),
        d_embed=cast("int", shared["d_model"]),
        layers=cast("list[dict[str, int]]", layers),
        cutoffs=(),
        max_position_embeddings=32,
    )


def gemstones_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder of Gemma's blocks, with the facts that give every published number of parameters exactly.

    Heads are 128 wide; there are half as many of keys and values, or one where that is no whole number.
    """
    from transformers import GemmaConfig

    width = cast("int", shared["width"])
    heads = width // 128
    return GemmaConfig(
        vocab_size=50_304,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        num_key_value_heads=1 if heads % 2 else heads // 2,
        head_dim=128,
        intermediate_size=4 * width,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )


def tiny_gpt2_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over the 4,096 ids of the embedded tokenizer, without dropout."""
    from lpz_zoo.gpt2 import FlexibleGPT2Config

    return FlexibleGPT2Config(
        **cast("dict[str, Any]", shared),
        layers=cast("list[dict[str, int]]", layers),
        vocab_size=4096,
        cutoffs=(1024, 2560),
        max_position_embeddings=128,
        dropout=0.0,
    )


TINY_LM = ShippedSpace(
    "tiny-lm",
    "Llama decoders small enough to train many of: width, depth, heads, feed-forward",
    FOLDER / "tiny-lm.yaml",
    size=59_268,
)


def space_files() -> list[ShippedSpace]:
    """The spaces of this package that are files: `lpz zoo show llama` tells what is in one."""
    return [
        ShippedSpace(
            "llama",
            "Llama decoders: width, depth, heads, key-value heads, feed-forward",
            FOLDER / "llama.yaml",
            563_208,
        ),
        TINY_LM,
        ShippedSpace("bert", "BERT encoders: width, depth, heads, feed-forward width", FOLDER / "bert.yaml", 4_895),
        ShippedSpace(
            "mamba2", "Mamba-2 decoders: width, depth, expansion, heads, state", FOLDER / "mamba2.yaml", 31_208
        ),
        ShippedSpace(
            "hybrid",
            "decoders whose layers attend or update a state, layer by layer",
            FOLDER / "hybrid.yaml",
            1_007_388_648,
        ),
    ]


SPACES = [
    Space(
        name="flexibert",
        summary="FlexiBERT encoders: attention, Fourier or convolution mixing, layer by layer",
        citation=FLEXIBERT,
        shared=(Choice("h", "hidden", (128, 256)),),
        depths=(2, 4),
        layer=(
            Choice("", "operation", ("sdp", "wma", "dft", "dct", "conv5", "conv9")),
            Choice("a", "heads", (2, 4)),
            Choice("f", "width", (512, 1024)),
            Choice("n", "count", (1, 3)),
        ),
        build=flexibert_config,
    ),
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
        name="gpt2-lm1b",
        summary="GPT-2 decoders: heads and feed-forward width per layer, word vectors as wide as the blocks",
        citation=LITE,
        shared=(Choice("d", "d_model", (128, 256, 512)), Choice("k", "k", (1, 2, 4))),
        depths=range(2, 17),
        layer=(Choice("h", "heads", (2, 4, 8)), Choice("i", "inner", range(512, 2049))),
        build=lm1b_config,
    ),
    Space(
        name="gemstones",
        summary="Gemma-like decoders of many widths and depths, 29M to 12B parameters",
        citation=GEMSTONES,
        shared=(Choice("w", "width", (256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2560, 3072)),),
        depths=range(3, 81),
        layer=(),
        build=gemstones_config,
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
