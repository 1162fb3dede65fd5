"""Refuses models whose weights cannot be read: quantized, in shards, or not there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.errors import ModelError, ModelWarning

READABLE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
FLOAT = "load it in float32, float16 or bfloat16"


def check_readable(model: PreTrainedModel, *, shapes_suffice: bool) -> None:
    """Refuse a model whose weights have no values, or none that can be differentiated.

    Warns (`ModelWarning`) if the configuration asks for quantization, but the weights are not quantized.

    Args:
        model: not a lazy one.
        shapes_suffice: weights without values are enough.

    Raises:
        ModelError: weights are quantized, tensors of another class, or on the meta device; the message names one.
    """
    quantized = next(_quantized(model), None)
    kind = type(model).__name__
    if quantized is not None:
        raise ModelError(f"{kind} is quantized ({quantized}), and gradients need floating-point weights; {FLOAT}")
    for name, parameter in model.named_parameters():
        if type(parameter).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            what = f"'{name}' is a {type(parameter.data).__name__}"
            raise ModelError(f"{kind} has weights that are no plain tensors ({what}: quantized or in shards); {FLOAT}")
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing and not shapes_suffice:
        raise ModelError(
            f"{len(missing)} weights of {kind} are on the meta device and have no values (such as '{missing[0]}': "
            "offloaded, or never loaded); load them into memory, or build the model with load_model"
        )
    if quantization_of(model.config) is not None:
        warnings.warn(quantization_ignored(kind, next(model.parameters()).dtype), ModelWarning, stacklevel=4)


def quantization_of(config: Any) -> Any:
    """The `quantization_config` of a configuration, None if it has none."""
    return getattr(config, "quantization_config", None)


def quantization_ignored(what: str, dtype: torch.dtype) -> str:
    """The warning about a configuration that asks for quantization."""
    return f"the quantization_config of {what} is ignored: its weights are {str(dtype).removeprefix('torch.')}"


def _quantized(model: nn.Module) -> Iterator[str]:
    """The layers and tensors of `model` that are quantized."""
    for name, module in model.named_modules():
        if any(made.__module__.startswith("torch.ao.") for made in type(module).__mro__):
            yield f"'{name}' is a {type(module).__name__}"
        tensors: dict[str, Tensor | None] = {**module._buffers, **module._parameters}
        for key, tensor in tensors.items():
            weight = key in module._parameters or "weight" in key.lower()
            matrix = isinstance(tensor, Tensor) and tensor.dim() > 1 and tensor.dtype not in {*READABLE, torch.bool}
            if weight and matrix and tensor is not None:
                yield f"'{name}.{key}' is {str(tensor.dtype).removeprefix('torch.')}"
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        yield "by transformers"
