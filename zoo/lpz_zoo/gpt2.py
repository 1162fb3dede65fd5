"""A GPT-2 decoder whose layers may differ, with adaptive input embedding and adaptive softmax.

The architecture of LiteTransformerSearch (Javaheripi et al., NeurIPS 2022, arXiv:2203.02094): GPT-2 blocks
with the number of heads and the feed-forward width chosen layer by layer; word vectors of width d_embed whose
width shrinks by the factor k from one frequency cluster to the next (Baevski and Auli, ICLR 2019); an
adaptive softmax that shares the word vectors. Its parameter counts equal the published ones exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput


class FlexibleGPT2Config(PreTrainedConfig):
    """The configuration of a `FlexibleGPT2`.

    Args:
        vocab_size: number of token ids; smaller ids should be the more frequent.
        d_model: width of the blocks.
        layers: per block, its number of heads and the width of its feed-forward layer.
        d_embed: width of the word vectors of the most frequent cluster.
        k: each next cluster's word vectors are narrower by this factor; 1 for one width.
        cutoffs: the ids at which the second, third, ... cluster begin; none for one cluster and a plain softmax.
        max_position_embeddings: the longest sequence.
        dropout: of embeddings and residual branches.
        attention_dropout: of attention probabilities.
        layer_norm_epsilon: added to the variance.
        initializer_range: standard deviation of the random weights.

    Raises:
        ValueError: the parts do not fit together; the message says which.
    """

    model_type = "lpz-gpt2"
    attribute_map = {"hidden_size": "d_model"}

    def __init__(
        self,
        vocab_size: int = 50264,
        d_model: int = 128,
        layers: Sequence[Mapping[str, int]] = ({"heads": 2, "inner": 512}, {"heads": 2, "inner": 512}),
        d_embed: int = 128,
        k: int = 1,
        cutoffs: Sequence[int] = (19997, 39997),
        max_position_embeddings: int = 192,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        edges = [0, *cutoffs, vocab_size]
        if any(high <= low for low, high in pairwise(edges)):
            raise ValueError(f"cutoffs {list(cutoffs)} must rise from 1 to below the vocabulary of {vocab_size}")
        if not layers:
            raise ValueError("a model needs at least one layer; give `layers` as [{'heads': 2, 'inner': 512}, ...]")
        for layer in layers:
            if not {"heads", "inner"} <= layer.keys() or min(layer["heads"], layer["inner"]) < 1:
                raise ValueError(f"layer {dict(layer)} must give 'heads' and 'inner', both at least 1")
            if d_model % layer["heads"]:
                raise ValueError(f"d_model {d_model} is no multiple of {layer['heads']} heads")
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        if d_embed // k ** len(cutoffs) < 1:
            raise ValueError(f"d_embed {d_embed} leaves no width after {len(cutoffs)} divisions by k = {k}")
        self.vocab_size = vocab_size
        self.d_model = d_model
        self.layers = [dict(layer) for layer in layers]
        self.num_hidden_layers = len(self.layers)
        self.d_embed = d_embed
        self.k = k
        self.cutoffs = list(cutoffs)
        self.max_position_embeddings = max_position_embeddings
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.layer_norm_epsilon = layer_norm_epsilon
        self.initializer_range = initializer_range
        super().__init__(**kwargs)

    @property
    def clusters(self) -> list[tuple[int, int]]:
        """The first id of each frequency cluster, and the first after it."""
        return list(pairwise([0, *self.cutoffs, self.vocab_size]))


class AdaptiveEmbedding(nn.Module):
    """Word vectors by frequency cluster, each projected to the width of the blocks."""

    def __init__(self, config: FlexibleGPT2Config) -> None:
        super().__init__()
        self.num_embeddings = config.vocab_size
        self.embedding_dim = config.d_model
        self.clusters = config.clusters
        if config.k == 1:
            sizes = [(config.vocab_size, config.d_embed)]
        else:
            sizes = [(high - low, config.d_embed // config.k**i) for i, (low, high) in enumerate(config.clusters)]
        self.tables = nn.ModuleList(nn.Embedding(*size) for size in sizes)
        plain = config.k == 1 and config.d_embed == config.d_model
        self.projections = nn.ModuleList(
            nn.Identity() if plain else nn.Linear(width, config.d_model, bias=False) for _, width in sizes
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [B, T, d_model] of token ids [B, T], scaled as in Transformer-XL."""
        scale = math.sqrt(self.embedding_dim)
        if len(self.tables) == 1:
            return self.projections[0](self.tables[0](ids)) * scale  # type: ignore[no-any-return]  # nn.Module
        flat = ids.flatten()
        embedded = self.vectors(0).new_zeros(flat.numel(), self.embedding_dim)
        for (low, high), table, projection in zip(self.clusters, self.tables, self.projections, strict=True):
            (where,) = ((flat >= low) & (flat < high)).nonzero(as_tuple=True)
            embedded = embedded.index_copy(0, where, projection(table(flat[where] - low)).to(embedded.dtype))
        return embedded.view(*ids.shape, -1) * scale

    def vectors(self, cluster: int) -> Tensor:
        """The word vectors [ids, width] of a cluster."""
        low, high = self.clusters[cluster]
        table = cast("nn.Embedding", self.tables[min(cluster, len(self.tables) - 1)])
        return table.weight[low:high] if len(self.tables) == 1 else table.weight

    def narrow(self, hidden: Tensor, cluster: int) -> Tensor:
        """Hidden states [..., d_model] mapped by the transpose of a cluster's projection to its width."""
        projection = self.projections[min(cluster, len(self.projections) - 1)]
        return hidden @ projection.weight if isinstance(projection, nn.Linear) else hidden


class AdaptiveSoftmax(nn.Module):
    """Log-probabilities of the next token: of the frequent ids and of the rarer clusters, then within these.

    Grave et al. 2017 (arXiv:1609.04309), with the word vectors of an `AdaptiveEmbedding`; the most frequent
    cluster has a projection of its own, the others use the embedding's.
    """

    def __init__(self, config: FlexibleGPT2Config) -> None:
        super().__init__()
        self.clusters = config.clusters
        plain = config.k == 1 and config.d_embed == config.d_model
        self.projection = nn.Identity() if plain else nn.Linear(config.d_model, config.d_embed, bias=False)
        self.gate = nn.Linear(config.d_embed, len(config.cutoffs)) if config.cutoffs else None
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        """Log-probabilities [..., vocabulary] after hidden states [..., d_model]."""
        head = self._head(hidden, embedding)
        frequent = self.clusters[0][1]
        parts = [head[..., :frequent]]
        for i in range(1, len(self.clusters)):
            parts.append(head[..., frequent + i - 1, None] + self._tail(hidden, embedding, i))
        return torch.cat(parts, -1)

    def loss(self, hidden: Tensor, targets: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        """The mean negative log-likelihood of `targets` [N] after `hidden` [N, d_model]; computes a rarer
        cluster only for the targets in it."""
        head = self._head(hidden, embedding)
        frequent = self.clusters[0][1]
        column = targets.clamp(max=frequent - 1)
        for i, (low, _) in enumerate(self.clusters[1:], 1):
            column = torch.where(targets >= low, frequent + i - 1, column)
        total = head.gather(1, column[:, None]).sum()
        for i, (low, high) in enumerate(self.clusters[1:], 1):
            (where,) = ((targets >= low) & (targets < high)).nonzero(as_tuple=True)
            if len(where):
                tail = self._tail(hidden[where], embedding, i)
                total = total + tail.gather(1, targets[where, None] - low).sum()
        return -total / max(len(targets), 1)

    def _head(self, hidden: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        narrow = self.projection(hidden)
        words = F.linear(narrow, embedding.vectors(0), self.bias[: self.clusters[0][1]])
        return log_softmax(words if self.gate is None else torch.cat([words, self.gate(narrow)], -1))

    def _tail(self, hidden: Tensor, embedding: AdaptiveEmbedding, cluster: int) -> Tensor:
        low, high = self.clusters[cluster]
        words = F.linear(embedding.narrow(hidden, cluster), embedding.vectors(cluster), self.bias[low:high])
        return log_softmax(words)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities over the last dimension, in at least single precision."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: FlexibleGPT2Config, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.dropout = config.attention_dropout
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within hidden states [B, T, d_model]; `mask` [B, 1, T, T] is None where nothing is padded."""
        size, length, width = hidden.shape
        split = (
            part.view(size, length, self.num_heads, -1).transpose(1, 2) for part in self.c_attn(hidden).chunk(3, -1)
        )
        query, key, value = split
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=mask is None)
        return self.c_proj(context.transpose(1, 2).reshape(size, length, width))  # type: ignore[no-any-return]


class FlexibleGPT2FeedForward(nn.Module):
    """Two linear layers about a GELU."""

    def __init__(self, config: FlexibleGPT2Config, inner: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.d_model, inner)
        self.c_proj = nn.Linear(inner, config.d_model)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, T, d_model] to the same shape."""
        return self.c_proj(F.gelu(self.c_fc(hidden), approximate="tanh"))  # type: ignore[no-any-return]


class FlexibleGPT2Block(GradientCheckpointingLayer):
    """Attention and feed-forward, each behind a LayerNorm and around a residual connection."""

    def __init__(self, config: FlexibleGPT2Config, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, heads)
        self.ln_2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mlp = FlexibleGPT2FeedForward(config, inner)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, T, d_model] to the same shape."""
        hidden = hidden + self.dropout(self.attn(self.ln_1(hidden), mask))
        return hidden + self.dropout(self.mlp(self.ln_2(hidden)))  # type: ignore[no-any-return]


class FlexibleGPT2PreTrainedModel(PreTrainedModel):
    """Loading, saving and random weights."""

    config_class = FlexibleGPT2Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["FlexibleGPT2Block"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal weights of one standard deviation everywhere, biases 0, norms the identity."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, AdaptiveSoftmax):
            nn.init.zeros_(module.bias)


class FlexibleGPT2Model(FlexibleGPT2PreTrainedModel):
    """The decoder without its head."""

    def __init__(self, config: FlexibleGPT2Config) -> None:
        super().__init__(config)
        self.wte = AdaptiveEmbedding(config)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(FlexibleGPT2Block(config, layer["heads"], layer["inner"]) for layer in config.layers)
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers'

    def get_input_embeddings(self) -> nn.Module:
        """The adaptive embedding."""
        return self.wte

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, return_dict: bool | None = None, **_: Any
    ) -> BaseModelOutput:
        """The hidden states [B, T, d_model] of token ids [B, T].

        Args:
            input_ids: int64 [B, T], T at most `max_position_embeddings`.
            attention_mask: 1 for real tokens and 0 for padding [B, T].
            return_dict: accepted for the library's sake; the output is always a `BaseModelOutput`.
        """
        length = input_ids.shape[1]
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"{length} tokens are more than the model's {self.config.max_position_embeddings} positions"
            )
        mask = None
        if attention_mask is not None and not bool(attention_mask.all()):
            causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
            itself = torch.eye(length, dtype=torch.bool, device=input_ids.device)  # a query needs one key
            mask = causal & (attention_mask[:, None, None, :].bool() | itself)
        positions = torch.arange(length, device=input_ids.device)
        hidden = self.dropout(self.wte(input_ids) + self.wpe(positions))
        for block in self.h:
            hidden = block(hidden, mask)
        return BaseModelOutput(last_hidden_state=self.ln_f(hidden))


class FlexibleGPT2LMHeadModel(FlexibleGPT2PreTrainedModel, GenerationMixin):
    """The decoder with an adaptive softmax that predicts the next token."""

    def __init__(self, config: FlexibleGPT2Config) -> None:
        super().__init__(config)
        self.transformer = FlexibleGPT2Model(config)
        self.lm_head = AdaptiveSoftmax(config)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers'

    def get_input_embeddings(self) -> nn.Module:
        """The adaptive embedding."""
        return self.transformer.wte

    def prepare_inputs_for_generation(  # type: ignore[override]  # the other arguments are not needed
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """All tokens so far, for there is no cache of keys and values."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """The loss where there are `labels`, else the log-probabilities of the next token.

        As Transformer-XL's head does, it spares the log-probabilities of all ids in training.

        Args:
            input_ids: int64 [B, T].
            attention_mask: 1 for real tokens and 0 for padding [B, T].
            labels: `input_ids` again, -100 where not to be predicted [B, T].
            return_dict: accepted for the library's sake; the output is always a `CausalLMOutput`.
        """
        hidden = self.transformer(input_ids, attention_mask).last_hidden_state
        if labels is None:
            return CausalLMOutput(logits=self.lm_head(hidden, self.transformer.wte))
        targets = labels[:, 1:].flatten()
        known = targets != -100
        predicted = hidden[:, :-1].flatten(0, 1)
        if not bool(known.all()):
            predicted, targets = predicted[known], targets[known]
        return CausalLMOutput(loss=self.lm_head.loss(predicted, targets, self.transformer.wte))


AutoConfig.register(FlexibleGPT2Config.model_type, FlexibleGPT2Config, exist_ok=True)
AutoModel.register(FlexibleGPT2Config, FlexibleGPT2Model, exist_ok=True)
AutoModelForCausalLM.register(FlexibleGPT2Config, FlexibleGPT2LMHeadModel, exist_ok=True)
