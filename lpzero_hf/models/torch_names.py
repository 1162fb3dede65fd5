"""Precisions and devices, which callers give by name or as torch's objects."""

from __future__ import annotations

import torch

from lpzero_hf.errors import UsageError


def precision(wanted: str | torch.dtype) -> torch.dtype:
    """A precision of weights: "bfloat16", "torch.bfloat16" and `torch.bfloat16` are one.

    Raises:
        UsageError: torch has none of that name, or it is none of weights.

    Example:
        >>> precision("bfloat16") is precision(torch.bfloat16)
        True
    """
    name = str(wanted).removeprefix("torch.")
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(f"'{name}' is no precision of torch for weights; use float32 or bfloat16")
    return found


def precision_name(wanted: str | torch.dtype) -> str:
    """The name of a precision, "bfloat16". Raises `UsageError` as `precision`."""
    return str(precision(wanted)).removeprefix("torch.")


def device_of(wanted: str | torch.device) -> torch.device:
    """A device. Raises `UsageError` if torch knows none of that name.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    try:
        return torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"'{wanted}' is no device of torch; use `device=cpu`, or cuda") from error
