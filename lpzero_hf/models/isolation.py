"""Isolates a model: code may use it, and afterwards it is exactly as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
Substitute = Callable[[nn.Parameter], Tensor]


def same(parameter: nn.Parameter) -> Tensor:
    """The parameter's own storage, shared."""
    return parameter.detach()


def copied(parameter: nn.Parameter) -> Tensor:
    """A copy of the parameter, for code that may write into it."""
    return parameter.detach().clone()


@contextmanager
def isolated(
    model: nn.Module,
    *,
    substitute: Substitute = same,
    trainable: Callable[[nn.Parameter], bool] | None = None,
    seed: int = 42,
) -> Iterator[dict[int, nn.Parameter]]:
    """Run code on `model` in eval mode without leaving a trace on it.

    Inside the block every parameter is replaced by a fresh one, so that gradients, hooks and
    `requires_grad` of the originals are never touched; buffers are replaced by copies. Afterwards the
    original parameters, buffers, submodules, hooks and modes are put back, also when the block raises, and
    so is the state of every random number generator.

    Args:
        model: the model to isolate.
        substitute: what each parameter is replaced by; the default shares its memory.
        trainable: which parameters need a gradient inside; by default those that need one outside.
        seed: seeds the random number generators inside.

    Yields:
        The replacement of each original parameter, by the `id` of the original.
    """
    modules = list(model.modules())
    tables: list[dict[str, Any]] = [table for m in modules for table in (m._parameters, m._buffers, m._modules)]
    hooks = [getattr(m, name) for m in modules for name in HOOKS]
    saved_tables = [list(table.items()) for table in tables]
    saved_hooks = [list(table.items()) for table in hooks]
    saved_modes = [m.training for m in modules]
    numbers, arrays = random.getstate(), numpy.random.get_state()
    replaced: dict[int, nn.Parameter] = {}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            numpy.random.seed(seed % 2**32)
            for module in modules:
                module.training = False
                for name, parameter in module._parameters.items():
                    if parameter is None:
                        continue
                    if id(parameter) not in replaced:
                        needs_grad = parameter.requires_grad if trainable is None else trainable(parameter)
                        replaced[id(parameter)] = nn.Parameter(substitute(parameter), requires_grad=needs_grad)
                    module._parameters[name] = replaced[id(parameter)]
                for name, buffer in module._buffers.items():
                    module._buffers[name] = buffer if buffer is None else buffer.detach().clone()
            yield replaced
        finally:
            for table, before in zip(tables, saved_tables, strict=True):
                table.clear()
                table.update(before)
            for hook_table, hooks_before in zip(hooks, saved_hooks, strict=True):
                hook_table.clear()
                hook_table.update(hooks_before)
            for module, mode in zip(modules, saved_modes, strict=True):
                module.training = mode
            random.setstate(numbers)
            numpy.random.set_state(arrays)
