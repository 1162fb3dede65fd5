"""Finds the modules of a model that embed token ids."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def token_embedding(model: PreTrainedModel) -> nn.Module | None:
    """The module that embeds token ids; None if the model does not name one."""
    try:
        found: nn.Module | None = model.get_input_embeddings()
    except NotImplementedError:  # transformers' answer for a model that takes no text
        return None
    return found


def input_embeddings(model: PreTrainedModel) -> list[nn.Module]:
    """Every module that embeds input ids; an encoder and a decoder may have one each, with tied weights."""
    embedding = token_embedding(model)
    weight = getattr(embedding, "weight", None)
    candidates = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    tied: list[nn.Module] = [m for m in candidates if weight is not None and m.weight is weight]
    return tied or [embedding] if embedding is not None else []
