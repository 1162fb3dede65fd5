"""Counts the floating-point operations of a forward pass, from shapes where the model allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from lpzero_hf.models.block_counts import KindsCounted
from lpzero_hf.models.isolation import Substitute, isolated, same
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.layout import ModelLayout
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.objective import Batch, run_model


def forward_flops(model: PreTrainedModel, batch: Batch, layout: ModelLayout, seed: int = 42) -> int:
    """Floating-point operations of one forward pass, two for a multiplication with its addition.

    Counted by `torch.utils.flop_counter`: matrix products and convolutions, attention in full, of a mixture of experts
    those that a token is sent to. The pass computes only shapes, and each kind of block runs once; a model whose
    control flow depends on values runs whole.

    Args:
        model: with weights, or lazy.
        batch: its inputs, `input_ids` [B, T] among them.
        layout: of the model.
        seed: of the random numbers that it draws.
    """
    try:
        with ShapesOnly():
            return _counted(model, batch, layout, "batched_mm", without_values, seed)
    except Exception:  # its control flow depends on values
        if any(parameter.is_meta for parameter in model.parameters()):
            raise
        return _counted(model, batch, layout, "eager", same, seed)


def _counted(
    model: PreTrainedModel, batch: Batch, layout: ModelLayout, experts: str, substitute: Substitute, seed: int
) -> int:
    """Blocks of one kind run once if the weights have no values."""
    counter = FlopCounterMode(display=False)
    kinds = KindsCounted(counter)
    blocks = [block.module for block in layout.blocks] if substitute is without_values else []
    frozen = isolated(model, substitute=substitute, trainable=lambda parameter: False, seed=seed)
    with frozen, torch.no_grad(), plain_kernels(model, experts), kinds.watching(blocks), counter:
        run_model(model, batch)
    return kinds.total


def without_values(parameter: nn.Parameter) -> torch.Tensor:
    """The shape of a parameter."""
    return parameter.detach().to("meta")


@contextmanager
def shapes_of(model: PreTrainedModel, seed: int = 42) -> Iterator[None]:
    """A context in which passes of `model` compute shapes alone, without gradients, and leave no trace on it."""
    frozen = isolated(model, substitute=without_values, trainable=lambda parameter: False, seed=seed)
    with ShapesOnly(floats=False), frozen, torch.no_grad():
        yield


@contextmanager
def values_of(model: PreTrainedModel, seed: int = 42) -> Iterator[None]:
    """As `shapes_of`, for a model with weights: its passes compute values."""
    with isolated(model, trainable=lambda parameter: False, seed=seed), torch.no_grad():
        yield
