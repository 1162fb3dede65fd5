"""Isolates a model: code may use it, and afterwards it is exactly as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lpzero_hf.models.default_loss import name_default_loss
from lpzero_hf.models.snapshot import Snapshot
from lpzero_hf.models.write_guard import WriteGuard

Substitute = Callable[[nn.Parameter], Tensor]


def same(parameter: nn.Parameter) -> Tensor:
    """The parameter's own storage, shared; writes into it are counted apart from the parameter's."""
    return parameter.data


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
    `requires_grad` of the originals are never touched; buffers and tensors in plain attributes are replaced by
    copies. Afterwards everything that the model's objects held is put back (see `Snapshot`): parameters, buffers,
    submodules, hooks, modes, plain attributes, its configuration; weights that it overwrote (see `WriteGuard`); and
    the state of the random number generators. This holds also when the block raises.

    Args:
        model: the model to isolate.
        substitute: what each parameter is replaced by; the default shares its memory.
        trainable: which parameters need a gradient inside; by default those that need one outside.
        seed: seeds the random number generators inside.

    Yields:
        The replacement of each original parameter, by the `id` of the original.

    Raises:
        CaptureError: the model wrote into its weights in a way that cannot be undone.
    """
    before = Snapshot(model)
    replaced: dict[int, nn.Parameter] = {}
    copies: dict[int, Tensor] = {}
    guard = WriteGuard()

    def replacement(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return copies.setdefault(id(tensor), tensor.detach().clone())
        if id(tensor) not in replaced:
            needs_grad = tensor.requires_grad if trainable is None else trainable(tensor)
            replaced[id(tensor)] = nn.Parameter(substitute(tensor), requires_grad=needs_grad)
            guard.watch(tensor, replaced[id(tensor)])
        return replaced[id(tensor)]

    with torch.inference_mode(False), torch.enable_grad(), random_numbers(model, seed):
        try:
            before.exchange(replacement)
            name_default_loss(model)
            for module in model.modules():
                module.training = False
            with guard:
                yield replaced
        finally:
            before.restore()
            guard.undo()
    guard.check(model)


@contextmanager
def random_numbers(model: nn.Module, seed: int) -> Iterator[None]:
    """Seeded generators of Python, numpy and the devices of `model`; all have their state back afterwards.

    Generators of a CUDA that `model` does not use are left alone: `torch.manual_seed` would seed them now, or when
    CUDA starts.
    """
    used = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    every = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    numbers, arrays, dtype = random.getstate(), numpy.random.get_state(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=every, device_type="cuda"), _queue_of_cuda():
        try:
            torch.default_generator.manual_seed(seed)
            for device in used:
                torch.cuda.default_generators[device.index or 0].manual_seed(seed)
            random.seed(seed)
            numpy.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(numbers)
            numpy.random.set_state(arrays)
            torch.set_default_dtype(dtype)


@contextmanager
def _queue_of_cuda() -> Iterator[None]:
    """What code inside queues for the start of CUDA (`torch.manual_seed` does) is dropped from the queue."""
    queue: list[Any] = torch.cuda._queued_calls
    seeds: dict[str, Any] = vars(torch.cuda._lazy_seed_tracker)
    length, held = len(queue), dict(seeds)
    try:
        yield
    finally:
        if not torch.cuda.is_initialized():
            del queue[length:]
            seeds.update(held)
