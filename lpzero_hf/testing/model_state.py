"""Everything that scoring a model could change: recorded before, compared afterwards."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

State = dict[str, Any]
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
FOREIGN = {"torch", "builtins", "logging", "threading", "weakref", "functools", "enum", "re"}  # not the model's objects


def disturb(model: PreTrainedModel) -> None:
    """Give `model` a state that must be preserved: gradients, frozen weights, mixed modes, a hook."""
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 != 0)
        parameter.grad = torch.full_like(parameter, 0.5) if index % 2 else None
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    next(iter(model.children())).register_forward_hook(_do_nothing)


def _do_nothing(*_: object) -> None:
    """A hook that does nothing."""


def state(model: PreTrainedModel, batch: Mapping[str, Any]) -> State:
    """The current state of `model`, `batch` and the process, tensors by identity and by copy."""
    parameters, modules = list(model.named_parameters()), list(model.named_modules())
    return {
        "weights": [(name, id(p), p.detach().clone()) for name, p in parameters],
        "gradients": [(name, None if p.grad is None else (id(p.grad), p.grad.clone())) for name, p in parameters],
        "requires_grad": [(name, p.requires_grad) for name, p in parameters],
        "hooks of its weights": [
            (name, dict(p._backward_hooks or {}), dict(getattr(p, "_post_accumulate_grad_hooks", None) or {}))
            for name, p in parameters
        ],
        "buffers": [(name, id(b), b.clone()) for name, b in model.named_buffers()],
        "modules": [(name, id(m)) for name, m in modules],
        "train and eval modes": [(name, m.training) for name, m in modules],
        "hooks": [(name, hook, dict(getattr(m, hook))) for name, m in modules for hook in HOOKS],
        "attributes": attributes(model),
        "configuration": copy.deepcopy(model.config.to_dict()),
        "attention kernel": model.config._attn_implementation,
        "minibatch": {name: v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for name, v in batch.items()},
        "random state of torch": torch.get_rng_state(),
        "random state of CUDA": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "calls queued for CUDA": [id(call) for call, *_ in torch.cuda._queued_calls],
        "seed queued for CUDA": [id(call) for call in torch.cuda._lazy_seed_tracker.get_calls()],
        "random state of Python": random.getstate(),
        "random state of numpy": list(numpy.random.get_state()),
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
    }


def attributes(model: PreTrainedModel) -> State:
    """Everything that can be reached from `model` through attributes and containers, by the path to it.

    Tensors by identity, version and copy; other objects by identity, and those of the model by what they hold.
    """
    found: State = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("model", model)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Tensor):
            found[path] = [id(value), value._version, value.requires_grad, value.detach().clone()]
            waiting.append((f"{path}.grad", value.grad if value.is_leaf else None))
            continue
        found[path] = value if isinstance(value, int | float | str | None) else id(value)
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += [(f"{path}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        package = type(value).__module__.partition(".")[0]
        if isinstance(value, torch.nn.Module) or package not in FOREIGN:
            waiting += [(f"{path}.{name}", item) for name, item in getattr(value, "__dict__", {}).items()]
            found[f"{path}.*"] = list(getattr(value, "__dict__", {}))
    return found


def changes(before: State, after: State) -> list[str]:
    """The names of the parts that differ between two states; tensors must agree in every bit."""
    return [what for what in before if not same(before[what], after[what])]


def same(a: Any, b: Any) -> bool:
    """Deep equality in which tensors and arrays must agree in every bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and _bits(a) == _bits(b)
    if isinstance(a, numpy.ndarray):
        return isinstance(b, numpy.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def _bits(tensor: Tensor) -> tuple[torch.Size, bytes]:
    """Shape and bits: a NaN equals itself here, 0.0 and -0.0 differ."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return tensor.shape, bytes(flat.view(torch.uint8).numpy().tobytes())
