"""Counts the parameters of a model's body: those outside its embeddings and heads."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from lpzero_hf.models.embeddings import token_embedding
from lpzero_hf.models.layout import ModelLayout, distinct_parameters, find_layout, words_of

TARGETS = {"labels", "start_positions"}  # what the forward of a model with a head takes to compute its loss


def count_body_parameters(model: PreTrainedModel, layout: ModelLayout | None = None) -> int:
    """Number of parameters, trained or frozen, outside embeddings and output heads: the same for a bare model and for
    every model that puts a head on it. Relative-position embeddings inside a block count as part of the block. Blocks
    that do not run do not count, nor what is outside of the blocks' model in a composite one (it embeds images).
    """
    layout = find_layout(model) if layout is None else layout
    inside = {id(m) for block in layout.blocks for m in block.module.modules()}
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding) and id(m) not in inside]
    idle = [model.get_submodule(name) for name in layout.not_run]
    outside = distinct_parameters([*embeddings, token_embedding(model), *_heads(model, inside), *idle])
    return sum(p.numel() for key, p in distinct_parameters([_around(model, layout)]).items() if key not in outside)


def _around(model: PreTrainedModel, layout: ModelLayout) -> PreTrainedModel:
    """The innermost model that holds all blocks of `layout`."""
    blocks = {id(block.module) for block in layout.blocks}
    models = [m for m in model.modules() if isinstance(m, PreTrainedModel)]
    return [m for m in models if blocks <= {id(part) for part in m.modules()}][-1]


def _heads(model: PreTrainedModel, inside: set[int]) -> Iterator[nn.Module | None]:
    """The modules of `model` that turn hidden states into its outputs: poolers, the output embeddings, heads of the
    models that it is made of, and in a headed model that is its own base what follows the last blocks, but for norms.

    Args:
        inside: the ids of all modules of blocks.
    """
    base, children = model.base_model, list(model.base_model.children())
    blocks = [index for index, child in enumerate(children) if _overlaps(child, inside)]
    headed = base is model and TARGETS & {*inspect.signature(model.forward).parameters}
    for child in children[max(blocks, default=-1) + 1 :]:
        if headed and "norm" not in type(child).__name__.lower():
            yield child
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            yield part.get_output_embeddings()
            yield from (child for name, child in part.named_children() if "pooler" in words_of(name))
            if part.base_model is not part:
                yield from (child for child in part.children() if not _overlaps(child, {id(part.base_model), *inside}))


def _overlaps(module: nn.Module, ids: set[int]) -> bool:
    return any(id(m) in ids for m in module.modules())
