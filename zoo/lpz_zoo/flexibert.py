"""FlexiBERT: a BERT-like encoder whose layers differ in how they mix tokens and how wide they are.

Search space: Tuli et al. 2022, "FlexiBERT: Are Current Transformer Architectures too Homogeneous and
Rigid?" (arXiv:2205.11656); with one hidden size per model and ELECTRA-small embeddings as in Serianni and
Kalita 2023, "Training-free Neural Architecture Search for RNNs and Transformers" (ACL 2023), whose
benchmark this model is for.

Where the code of that benchmark differs between its training and its scoring, or from its own
description, this model does the following:
- every layer's `width` counts; the scoring code uses one width for all layers;
- every mixer has an output projection, a residual and a LayerNorm, as in the training code; the scoring code hands
  the output of a Fourier or cosine transform straight to the feed-forward stack;
- padding is masked; the scoring code ignores the mask.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import field
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.utils.generic import can_return_tuple

OPERATIONS = ("sdp", "wma", "dft", "dct", "conv5", "conv9")


class LayerSpec(TypedDict):
    """One layer: its operation (one of `OPERATIONS`), `heads`, and `count` feed-forward layers of `width`."""

    operation: str
    heads: int
    width: int
    count: int


def _two_attention_layers() -> list[LayerSpec]:
    return [LayerSpec(operation="sdp", heads=2, width=512, count=1) for _ in range(2)]


class FlexiBertConfig(PreTrainedConfig):
    """An architecture of the FlexiBERT space.

    Args:
        vocab_size: number of token ids.
        embedding_size: features of an embedding; projected to `hidden_size` where they differ.
        hidden_size: features of every layer, 128 or 256 in the benchmark.
        layers: one `LayerSpec` per layer, in order; by default two of scaled dot-product attention.

    Raises:
        ValueError: there are no layers, or one cannot be built.

    Example:
        >>> config = FlexiBertConfig(layers=[{"operation": "dft", "heads": 4, "width": 1024, "count": 3}])
        >>> config.num_hidden_layers
        1
    """

    model_type = "lpz-flexibert"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 128
    layers: list[LayerSpec] = field(default_factory=_two_attention_layers)
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.layers = list(self.layers or [])
        if not self.layers:
            raise ValueError("a FlexiBERT has at least one layer; give 'layers' as a list of dicts")
        for index, layer in enumerate(self.layers):
            problem = _problem(layer, self.hidden_size)
            if problem:
                raise ValueError(f"layer {index} of the FlexiBERT: {problem}")
        self.num_hidden_layers = len(self.layers)


def _problem(layer: LayerSpec, hidden_size: int) -> str:
    """Why a layer cannot be built, with the remedy, or an empty string."""
    if not isinstance(layer, dict) or layer.keys() != LayerSpec.__annotations__.keys():
        return f"{layer!r} is no layer; give a dict of {', '.join(LayerSpec.__annotations__)}"
    if layer["operation"] not in OPERATIONS:
        return f"unknown operation {layer['operation']!r}; use one of {', '.join(OPERATIONS)}"
    sizes = {"heads": layer["heads"], "width": layer["width"], "count": layer["count"]}
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            return f"{name} is {size!r}; use a whole number of at least 1"
    if hidden_size % layer["heads"]:
        return f"hidden size {hidden_size} is not divisible by {layer['heads']} heads; change one of them"
    if layer["operation"].startswith("conv") and layer["heads"] % 2:
        return f"a convolution takes half of the heads, but there are {layer['heads']}; use an even number of heads"
    return ""


# Mixers -------------------------------------------------------------------------------------------------


class SelfAttention(nn.Module):
    """Self-attention by scaled dot product ("sdp") or weighted multiplicative attention ("wma").

    Both take softmax(Q K^T / sqrt(d_head)) V. In wma, Q is first multiplied by a learned matrix W without
    bias (the "general" score of Luong et al. 2015). As in the benchmark's code W is [hidden, hidden] and
    acts before the heads are split, and the scores are scaled as well: with W = 1 wma is sdp.
    """

    def __init__(self, config: FlexiBertConfig, layer: LayerSpec) -> None:
        super().__init__()
        size, self.num_heads = config.hidden_size, layer["heads"]
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.similarity: nn.Module = nn.Linear(size, size, bias=False) if layer["operation"] == "wma" else nn.Identity()
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.output = nn.Linear(size, size)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix `hidden` [B, T, hidden] over the positions that `mask` [B, T] calls real."""
        query, key, value = self.similarity(self.query(hidden)), self.key(hidden), self.value(hidden)
        mixed: Tensor = self.output(attend(query, key, value, self.num_heads, mask, self.dropout))
        return mixed


class LinearTransform(nn.Module):
    """A fixed transform over positions and the features of each head, between two projections.

    "dft" is the real part of the two-dimensional Fourier transform (FNet, Lee-Thorp et al. 2022), "dct" the
    two-dimensional cosine transform. Heads matter: each is transformed by itself, over d_head features.
    Padding is set to zero first: its content is lost, but how long it is still changes the transform.
    """

    def __init__(self, config: FlexiBertConfig, layer: LayerSpec) -> None:
        super().__init__()
        self.num_heads = layer["heads"]
        self.transform = fourier if layer["operation"] == "dft" else cosine
        self.input = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix `hidden` [B, T, hidden] over the positions that `mask` [B, T] calls real."""
        heads = split_heads(self.input(hidden) * mask[..., None], self.num_heads)
        mixed: Tensor = self.output(merge_heads(self.transform(heads)))
        return mixed


class MixedAttention(nn.Module):
    """Attention in one half of the heads, span-based dynamic convolution in the other ("conv5", "conv9").

    The mixed attention of ConvBERT (Jiang et al. 2020): the kernel at each position is a softmax over the
    span, made from the query and a separable convolution over that span, and shared by a head's features.
    Padding is set to zero before it is convolved.
    """

    def __init__(self, config: FlexiBertConfig, layer: LayerSpec) -> None:
        super().__init__()
        size, self.span = config.hidden_size, int(layer["operation"].removeprefix("conv"))
        self.num_heads, self.attention_head_size = layer["heads"], size // layer["heads"]
        self.each = layer["heads"] // 2  # heads of either kind
        self.query, self.key, self.value = (nn.Linear(size, size // 2) for _ in range(3))
        self.depthwise = nn.Conv1d(size, size, self.span, padding=self.span // 2, groups=size, bias=False)
        self.pointwise = nn.Linear(size, size // 2)
        self.kernel = nn.Linear(size // 2, self.each * self.span)
        self.span_value = nn.Linear(size, size // 2)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.output = nn.Linear(size, size)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix `hidden` [B, T, hidden] over the positions that `mask` [B, T] calls real."""
        query, key, value = self.query(hidden), self.key(hidden), self.value(hidden)
        attended = attend(query, key, value, self.each, mask, self.dropout)
        mixed: Tensor = self.output(torch.cat([attended, self.convolve(query, hidden, mask[..., None])], -1))
        return mixed

    def convolve(self, query: Tensor, hidden: Tensor, real: Tensor) -> Tensor:
        """The convolution, for queries [B, T, hidden / 2] and `real` [B, T, 1]: [B, T, hidden / 2]."""
        keys = self.pointwise(self.depthwise((hidden * real).transpose(1, 2)).transpose(1, 2))
        kernels = self.kernel(keys * query).unflatten(-1, (self.each, 1, self.span)).softmax(-1)
        reach = self.span // 2
        values = F.pad(self.span_value(hidden) * real, (0, 0, reach, reach)).unfold(1, self.span, 1)
        convolved: Tensor = (values.unflatten(2, (self.each, -1)) * kernels).sum(-1)
        return convolved.flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor, dropout: nn.Module) -> Tensor:
    """Attention [B, T, heads * d] to the positions that `mask` [B, T] calls real."""
    q, k, v = (split_heads(x, heads) for x in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
    return merge_heads(dropout(scores.softmax(-1)) @ v)


def fourier(x: Tensor) -> Tensor:
    """Real part of the unnormalised discrete Fourier transform over the last two dimensions of `x`."""
    transformed: Tensor = torch.fft.fft2(_at_least_single(x)).real
    return transformed.to(x.dtype)


def cosine(x: Tensor) -> Tensor:
    """Unnormalised discrete cosine transform, type II, over the last two dimensions of `x`."""
    wide = _at_least_single(x)
    return (_cosines(x.shape[-2], wide) @ wide @ _cosines(x.shape[-1], wide).T).to(x.dtype)


def _cosines(size: int, like: Tensor) -> Tensor:
    """C [size, size] with C x the cosine transform of x: 2 cos(pi k (2 n + 1) / (2 size)) in row k, column n.

    Made anew each time: a buffer would have to survive the meta device and changes of precision.
    """
    n = torch.arange(size, device=like.device)
    turn = n[:, None] * (2 * n + 1) % (4 * size)  # whole numbers, so that large angles stay exact
    return 2 * torch.cos(turn.to(like.dtype) * (math.pi / (2 * size)))


def _at_least_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # torch.fft takes no half precision


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, heads * d] as [B, heads, T, d]."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, T, d] as [B, T, heads * d]."""
    return x.transpose(1, 2).flatten(2)


# The encoder --------------------------------------------------------------------------------------------


class FlexiBertFeedForward(nn.Module):
    """hidden -> width [-> width ...] -> hidden: `count` layers of `width`, each followed by GELU."""

    def __init__(self, config: FlexiBertConfig, layer: LayerSpec) -> None:
        super().__init__()
        sizes = [config.hidden_size] + [layer["width"]] * layer["count"]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.output = nn.Linear(layer["width"], config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, hidden] to [B, T, hidden]."""
        for linear in self.hidden:
            hidden = F.gelu(linear(hidden))
        fed: Tensor = self.output(hidden)
        return fed


class FlexiBertLayer(GradientCheckpointingLayer):
    """A mixer, then a feed-forward stack, each with a residual and a LayerNorm behind it (as in BERT)."""

    def __init__(self, config: FlexiBertConfig, layer: LayerSpec) -> None:
        super().__init__()
        mixers = {"sdp": SelfAttention, "wma": SelfAttention, "dft": LinearTransform, "dct": LinearTransform}
        self.mixer: nn.Module = mixers.get(layer["operation"], MixedAttention)(config, layer)
        self.first_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FlexiBertFeedForward(config, layer)
        self.second_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[B, T, hidden] and a mask, bool [B, T], to [B, T, hidden]."""
        mixed = self.first_norm(hidden + self.dropout(self.mixer(hidden, mask)))
        layer: Tensor = self.second_norm(mixed + self.dropout(self.feed_forward(mixed)))
        return layer


class FlexiBertEmbeddings(nn.Module):
    """Word, position and token type embeddings, summed, normalised and projected to the hidden size."""

    def __init__(self, config: FlexiBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.embedding_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.project: nn.Module = nn.Identity()
        if config.embedding_size != config.hidden_size:
            self.project = nn.Linear(config.embedding_size, config.hidden_size)

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        """Token ids and token types, both [B, T], to [B, T, hidden]."""
        positions = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device))
        summed = self.word_embeddings(ids) + positions + self.token_type_embeddings(types)
        embedded: Tensor = self.project(self.dropout(self.norm(summed)))
        return embedded


class FlexiBertPreTrainedModel(PreTrainedModel):
    """What the models share; weights are drawn by transformers' own rule: normal, `initializer_range`."""

    config: FlexiBertConfig
    config_class = FlexiBertConfig
    base_model_prefix = "flexibert"
    supports_gradient_checkpointing = True
    _input_embed_layer = "word_embeddings"


class FlexiBertModel(FlexiBertPreTrainedModel):
    """The encoder without a head."""

    def __init__(self, config: FlexiBertConfig) -> None:
        super().__init__(config)
        self.embeddings = FlexiBertEmbeddings(config)
        self.layers = nn.ModuleList(FlexiBertLayer(config, layer) for layer in config.layers)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers leaves it untyped
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], zero where a token is padding; all are real by default.
            token_type_ids: [B, T], zero by default.
            output_hidden_states: whether to return the output of each layer.

        Raises:
            ValueError: T is more than the model's positions.
        """
        length, limit = input_ids.shape[1], self.config.max_position_embeddings
        if length > limit:
            raise ValueError(f"{length} tokens are more than {limit} positions; give a shorter sequence")
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states, mask = [self.embeddings(input_ids, types)], mask.bool()
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return BaseModelOutput(states[-1], tuple(states) if output_hidden_states else None)


class FlexiBertForMaskedLM(FlexiBertPreTrainedModel):
    """The encoder with a head that predicts masked tokens (as of ELECTRA's generator), tied to the embeddings."""

    _tied_weights_keys = {"lm_head.weight": "flexibert.embeddings.word_embeddings.weight"}

    def __init__(self, config: FlexiBertConfig) -> None:
        super().__init__(config)
        self.flexibert = FlexiBertModel(config)
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers leaves it untyped
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> MaskedLMOutput:
        """Predict tokens; the first arguments are those of `FlexiBertModel.forward`.

        Args:
            labels: [B, T], the tokens to predict, -100 where there is none.

        Returns:
            `logits` [B, T, vocabulary] and, given labels, `loss`: mean cross-entropy in nats.
        """
        encoded = self.flexibert(input_ids, attention_mask, token_type_ids, output_hidden_states, return_dict=True)
        logits = self.lm_head(self.norm(F.gelu(self.dense(encoded.last_hidden_state))))
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


def register() -> None:
    """Register FlexiBERT with the Auto classes of transformers."""
    AutoConfig.register(FlexiBertConfig.model_type, FlexiBertConfig, exist_ok=True)
    AutoModel.register(FlexiBertConfig, FlexiBertModel, exist_ok=True)
    AutoModelForMaskedLM.register(FlexiBertConfig, FlexiBertForMaskedLM, exist_ok=True)


register()
