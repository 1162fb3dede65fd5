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


def flexibert_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """An encoder over BERT's vocabulary."""
    from lpz_zoo.flexibert import FlexiBertConfig

    return FlexiBertConfig(hidden_size=cast("int", shared["hidden"]), layers=cast("list[LayerSpec]", layers))


def gpt2_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> PreTrainedConfig:
    """A decoder over WikiText-103's 50,264 words, as LiteTransformerSearch trains them."""
    from lpz_zoo.gpt2 import FlexibleGPT2Config

    return FlexibleGPT2Config(**cast("dict[str, Any]", shared), layers=cast("list[dict[str, int]]", layers))


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


def space_files() -> list[ShippedSpace]:
    """The spaces of this package that are files: `lpz zoo show llama` tells what is in one."""
    return [
        ShippedSpace(
            "llama", "Llama decoders: width, depth, heads, key-value heads, feed-forward", FOLDER / "llama.yaml"
        ),
        ShippedSpace("bert", "BERT encoders: width, depth, heads, feed-forward width", FOLDER / "bert.yaml"),
        ShippedSpace("mamba2", "Mamba-2 decoders: width, depth, expansion, heads, state", FOLDER / "mamba2.yaml"),
        ShippedSpace(
            "hybrid", "decoders whose layers attend or update a state, layer by layer", FOLDER / "hybrid.yaml"
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
