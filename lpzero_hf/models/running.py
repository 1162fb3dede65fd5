"""Tells which blocks of a model a minibatch runs: text does not run a vision tower, nor layers that only see images."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.layout import Block, ModelLayout
from lpzero_hf.models.lazy import source_of
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.minibatch import NoMinibatch
from lpzero_hf.models.objective import run_model, with_labels

TOKENS = 8  # of the sequence that is tried where there is no minibatch


def running_layout(
    model: PreTrainedModel, layout: ModelLayout, batch: Mapping[str, Any], seed: int, *, told_later: bool = True
) -> ModelLayout:
    """`layout` of only the blocks that the minibatch runs, the others being `not_run`.

    A model whose blocks are of one class and in one list is taken to run them all. Otherwise one sequence is tried,
    without weights if the model is lazy. If that fails, the parts that take no text (by their `input_modalities`) are
    those that do not run.

    Args:
        model: left unchanged.
        layout: of `model`.
        batch: `input_ids` [B, T] and the model's other inputs; `NoMinibatch` for any text.
        seed: for the model's random numbers.
        told_later: a capture follows, which tells of blocks that were wrongly taken to run (`Captured.idle`). Otherwise
            only a lazy model is taken to run blocks without being tried.
    """
    batch = {"input_ids": torch.arange(TOKENS)[None]} if isinstance(batch, NoMinibatch) else batch
    samples, length = batch["input_ids"].shape
    alike = len({(type(block.module), block.name.rpartition(".")[0]) for block in layout.blocks}) == 1
    if alike and samples < length and (told_later or source_of(model) is not None):
        return layout
    try:
        ran, transposed = _trial(model, layout, dict(batch), seed)
    except Exception:  # a model that cannot run says so when it is scored
        return layout.only(_of_text(model, layout))
    return replace(layout.only(ran), transposed=layout.transposed | transposed)


def _trial(
    model: PreTrainedModel, layout: ModelLayout, batch: dict[str, Any], seed: int
) -> tuple[set[str], frozenset[str]]:
    """The names of the blocks that one sequence runs, and of the layers and mixers whose outputs are [T, B, d]."""
    samples = len(batch["input_ids"])
    one = {k: v[:1] if isinstance(v, Tensor) and v.dim() and len(v) == samples else v for k, v in batch.items()}
    ran: set[str] = set()
    transposed: set[str] = set()

    def watch(block: Block, module: nn.Module, name: str) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            ran.add(block.name)
            if isinstance(output, tuple) and output:
                output = output[0]
            if isinstance(output, Tensor) and output.dim() == 3 and output.shape[0] > 1 == output.shape[1]:
                transposed.add(name)

        module.register_forward_hook(hook)

    lazy = source_of(model) is not None
    with (
        isolated(model, trainable=lambda parameter: False, seed=seed),
        plain_kernels(model),
        torch.no_grad(),
        ShapesOnly() if lazy else nullcontext(),
    ):
        for block in layout.blocks:
            for name, module in block.module.named_modules(prefix=block.name):
                watch(block, module, f"{name}.weight" if hasattr(module, "weight") else name)
        run_model(model, with_labels(model, one, seed))
    return ran, frozenset(transposed)


def _of_text(model: PreTrainedModel, layout: ModelLayout) -> set[str]:
    other = [
        name
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and "text" not in getattr(module, "input_modalities", "text")
    ]
    return {b.name for b in layout.blocks if not any(b.name.startswith(f"{tower}.") for tower in other)}
