"""Kernels that can be counted, run in double precision and differentiated twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain_kernels(model: nn.Module, experts: str = "eager") -> Iterator[None]:
    """Run attention as matrix products, and experts one by one instead of in fused kernels.

    Args:
        model: that runs inside the context.
        experts: "batched_mm" for a copy of the experts' weights per token, which needs no values of the router.
    """
    name = "_experts_implementation_internal"
    configs = {id(c): c for m in model.modules() if hasattr(c := getattr(m, "config", None), name)}
    before = [(config, getattr(config, name)) for config in configs.values()]
    try:
        for config, _ in before:
            setattr(config, name, experts)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for config, implementation in before:
            setattr(config, name, implementation)
