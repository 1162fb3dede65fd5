"""Stops building a model that has too many modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from lpzero_hf.errors import ModelError

MODULES = 100_000  # of one model; building more takes too long


@contextmanager
def few_modules(failure: str) -> Iterator[None]:
    """Stop building a model at `MODULES` modules. Raises `ModelError`."""
    made = 0

    def count(owner: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal made
        made += 1
        if made > MODULES:
            raise ModelError(f"{failure}: it has more than {MODULES:,} modules; give fewer layers or experts")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
