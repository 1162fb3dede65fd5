"""The tensors that a pass keeps for its backward pass, from a pass without values, or guessed from the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.objective import unchecked_objective, with_labels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lpzero_hf.models.layout import ModelLayout

MANY = 2_000  # linear layers


def kept_tensors(model: PreTrainedModel, batch: Mapping[str, Any], layout: ModelLayout) -> dict[str, int] | None:
    """What a pass keeps for the backward pass, from a pass without values; None if the model reads values, or has so
    many layers that the pass would take long."""
    if len(layout.sites) > MANY:
        return None
    sites = {id(site.parameter) for site in layout.weights}
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}  # by storage: a tensor that keeps it, and the block that ran
    running, applied, inputs = [-1], [-1], [0]

    def keep(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in weights:
            kept.setdefault(key, (tensor.detach(), running[0]))
        return tensor

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        applied[0] += 1
        running[0] = applied[0]
        hidden = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.is_floating_point()), None)
        inputs[0] += 0 if hidden is None else hidden.untyped_storage().nbytes()

    def leave(module: Any, args: Any, output: Any) -> None:
        running[0] = -1

    def read(module: Any, args: Any, output: Any) -> None:
        keep(output)

    try:
        with isolated(model, trainable=lambda p: id(p) in sites) as replaced, ShapesOnly():
            weights |= {p.untyped_storage()._cdata for p in replaced.values()}
            for block in layout.blocks:
                block.module.register_forward_pre_hook(enter, with_kwargs=True)
                block.module.register_forward_hook(leave)
            for site in layout.linears:
                assert site.module is not None
                site.module.register_forward_hook(read)
            fed = with_labels(model, dict(batch), 42)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                unchecked_objective(model, fed, 42)
    except Exception:  # its control flow depends on values, or it does not run at all, which scoring will report
        return None
    sums: dict[int, int] = {}
    for tensor, ran in kept.values():
        sums[ran] = sums.get(ran, 0) + tensor.untyped_storage().nbytes()
    inside = [size for ran, size in sums.items() if ran >= 0]
    largest = max((tensor.untyped_storage().nbytes() for tensor, _ in kept.values()), default=0)
    return {
        "outside": sums.get(-1, 0), "inputs": inputs[0], "blocks": sum(inside), "block": max(inside, default=0),
        "tensor": largest,
    }  # fmt: skip


def guessed_tensors(batch: Mapping[str, Any], layout: ModelLayout, itemsize: int) -> dict[str, int]:
    """The same, estimated from the linear layers: twice the input and output of each."""
    tokens = batch["input_ids"].numel()
    blocks = [0] * len(layout.blocks)
    width = 0
    for site in layout.sites:
        rows, columns = site.matrices(site.parameter)[0].shape
        experts = 2 if len(site.names) > 1 else 1
        blocks[site.block] += 2 * tokens * itemsize * (rows + columns) * experts
        width = max(width, columns)
    repeats = max(1, round(layout.repeats))
    inputs = tokens * width * itemsize * len(blocks) * repeats
    return {
        "outside": 4 * tokens * width * itemsize, "inputs": inputs, "blocks": sum(blocks) * repeats,
        "block": max(blocks), "tensor": tokens * width * itemsize,
    }  # fmt: skip
