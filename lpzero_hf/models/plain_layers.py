"""Replaces, for a while, the layers of a model that hide a plain layer by that plain layer.

Capture reads weights, their gradients and outputs from plain layers. A layer may hide one: in a compiled or wrapped
block, behind a parametrization or a pruning mask, under an adapter. Each of these computes what a plain layer with the
*effective* weight computes, so that layer takes its place while the model is scored: W is the effective weight, and G
the gradient of the objective with respect to it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lpzero_hf.errors import ModelError, one_line
from lpzero_hf.models.unwrap import check_open, class_names, inside_wrapper

ADAPTERS = {"peft.tuners.tuners_utils.BaseTunerLayer", "peft.utils.other.AuxiliaryTrainingWrapper"}
HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)  # that compute a weight before each run
KEPT_BY_HOOKS = ("orig", "mask", "g", "v", "u")  # what weight_norm, spectral_norm and prune keep: NAME_orig, ...
AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative, between an adapted layer and its merged one
HALF_AGREEMENT = 5e-2


@contextmanager
def plain_layers(model: PreTrainedModel) -> Iterator[None]:
    """Inside, `model` runs uncompiled and on plain layers; afterwards it is as it was.

    - A compiled model or block runs the code that was compiled, a wrapped block runs without its wrapper.
    - Weights of `torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm` and `prune` are computed once.
    - The active adapters of PEFT are merged: scored is the network that they and their base compute together, and
      parameters of adapters are not counted.

    An effective weight that equals the stored one stays that parameter, and tied to what it is tied to.

    Raises:
        ModelError: a layer hides another in a way that is not known.
    """
    plain: dict[int, nn.Module] = {id(model): model}

    def visit(module: nn.Module, name: str) -> None:
        _check(module, name)
        _uncompile(module, undo)
        for key, child in list(module._modules.items()):
            if child is None:
                continue
            full = f"{name}.{key}" if name else key
            if id(child) not in plain:
                plain[id(child)] = _plain(child, full)
                visit(plain[id(child)], full)
            if plain[id(child)] is not child:
                undo.callback(module._modules.__setitem__, key, child)
                module._modules[key] = plain[id(child)]

    with ExitStack() as undo:
        visit(model, "")
        yield


def hidden_layers(model: nn.Module) -> Iterator[str]:
    """The names of the modules of `model` that `plain_layers` replaces."""
    for name, module in model.named_modules():
        compiled = module.__dict__.get("_compiled_call_impl") is not None
        compiled |= hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        adapted = inside_wrapper(module) is not None or bool(ADAPTERS & {*class_names(module)})
        hooked = any(isinstance(hook, HOOKS) for hook in module._forward_pre_hooks.values())
        if compiled or adapted or hooked or parametrize.is_parametrized(module):
            yield name


def _check(module: nn.Module, name: str) -> None:
    check_open(module, name)
    known = isinstance(module._parameters.get("weight"), nn.Parameter)
    if type(module).__module__.startswith("peft."):
        raise ModelError(f"the adapter '{name}' ({type(module).__name__}) {_NOT_MERGED}")
    if parametrize.is_parametrized(module) or (isinstance(module, nn.Linear | Conv1D) and not known):
        raise ModelError(
            f"'{name}' ({type(module).__name__}) computes its weight in a way that is not known, so that it cannot be "
            "read; store the computed weight in the layer"
        )


def _uncompile(module: nn.Module, undo: ExitStack) -> None:
    """Undo `module.compile()` and `module.forward = torch.compile(module.forward)`."""
    compiled = module.__dict__.get("_compiled_call_impl")
    if compiled is not None:
        undo.callback(module.__dict__.__setitem__, "_compiled_call_impl", compiled)
        module.__dict__["_compiled_call_impl"] = None
    forward = module.__dict__.get("forward")
    original = getattr(forward, "_torchdynamo_orig_callable", None)
    if original is not None:
        undo.callback(module.__dict__.__setitem__, "forward", forward)
        module.__dict__["forward"] = original


def _plain(module: nn.Module, name: str) -> nn.Module:
    """The plain layer that `module` hides, or `module` itself."""
    while (inner := inside_wrapper(module)) is not None:
        module = inner
    if ADAPTERS & {*class_names(module)}:
        module = _merged(module, name)
    if parametrize.is_parametrized(module):
        module = _unparametrized(module)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, HOOKS):
            module = _unhooked(module, hook)
    return module


# Parametrizations and hooks that compute a weight --------------------------------------------------------


def _unparametrized(module: Any) -> nn.Module:
    """`module` without its parametrizations, with the values that they compute in eval mode."""
    plain = _shallow(module, type(module).__bases__[0])
    del plain._modules["parametrizations"]
    modes = [(m, m.training) for m in module.parametrizations.modules()]
    try:
        for part, _ in modes:
            part.training = False
        for name, parametrization in module.parametrizations.items():
            originals = [*parametrization.parameters(recurse=False)]
            if not originals:
                plain._buffers[name] = getattr(module, name).detach()
                continue
            with torch.no_grad():
                _store(plain, name, getattr(module, name), originals)
    finally:
        for part, mode in modes:
            part.training = mode
    return plain


def _unhooked(module: nn.Module, hook: Any) -> nn.Module:
    """`module` with the weight that `hook` computes before each run as an ordinary parameter."""
    name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
    with torch.no_grad():
        if isinstance(hook, BasePruningMethod):
            value = hook.apply_mask(module)
        elif isinstance(hook, SpectralNorm):
            value = hook.compute_weight(module, do_power_iteration=False)
        else:
            value = hook.compute_weight(module)
    plain = _shallow(module, type(module))
    plain._forward_pre_hooks = type(plain._forward_pre_hooks)(
        (key, other) for key, other in module._forward_pre_hooks.items() if other is not hook
    )
    plain.__dict__.pop(name, None)
    originals = []
    for kept in (f"{name}_{suffix}" for suffix in KEPT_BY_HOOKS):
        originals.append(plain._parameters.pop(kept, None))
        plain._buffers.pop(kept, None)
    _store(plain, name, value, [p for p in originals if p is not None])
    return plain


def _shallow(module: nn.Module, made: Any) -> nn.Module:
    """A module of class `made` with the same contents in tables of its own."""
    twin: nn.Module = made.__new__(made)
    twin.__dict__.update(module.__dict__)
    for table in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[table] = dict(module.__dict__[table])
    return twin


def _store(module: nn.Module, name: str, value: Tensor, originals: list[nn.Parameter]) -> None:
    """Make `value` the first parameter of `module`; one of `originals` if that has this value."""
    same = next((p for p in originals if p.dtype == value.dtype and torch.equal(p, value)), None)
    rest = {key: p for key, p in module._parameters.items() if key != name}
    module._parameters.clear()
    module._parameters.update({name: nn.Parameter(value.detach()) if same is None else same, **rest})


# Adapters ------------------------------------------------------------------------------------------------

_NOT_MERGED = (
    "cannot be merged into the layer that it adapts, so the weight to read is unknown; merge or remove it, "
    "or score the base model"
)


def _merged(layer: Any, name: str) -> nn.Module:
    """The layer that computes what `layer` computes with its active adapters.

    Raises:
        ModelError: there is no such layer.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's, about merging, which only a copy sees
            work = copy.deepcopy(layer).eval()
            sample = _sample(work)
            before = None if sample is None else work(sample)
            plain = _unloaded(work).eval()
            after = None if sample is None else plain(sample)
    except Exception as error:  # of a kind of adapter that cannot
        raise ModelError(f"the adapter '{name}' ({type(layer).__name__}) {_NOT_MERGED} ({one_line(error)})") from error
    if after is not None and not _agree(before, after):
        raise ModelError(f"the adapter '{name}' ({type(layer).__name__}) {_NOT_MERGED}")
    _share(plain, layer)
    return plain


def _unloaded(work: Any) -> nn.Module:
    active = not work.disable_adapters
    if hasattr(work, "unload_and_optionally_merge_module"):
        unload = work.unload_and_optionally_merge_module
        return unload(merge=active, safe_merge=False, adapter_names=None)  # type: ignore[no-any-return]  # PEFT's
    if active and not work.merged:
        work.merge()
    elif work.merged and not active:
        work.unmerge()
    return work.get_base_layer()  # type: ignore[no-any-return]


def _sample(layer: Any) -> Tensor | None:
    """Inputs of two tokens for a layer that adapts a linear layer or an embedding; None for others."""
    base = layer.get_base_layer() if hasattr(layer, "get_base_layer") else None
    if isinstance(base, nn.Embedding):
        return torch.arange(min(2, base.num_embeddings), device=base.weight.device)
    if not isinstance(base, nn.Linear | Conv1D):
        return None
    width = base.in_features if isinstance(base, nn.Linear) else base.nx
    return torch.randn(2, width, generator=torch.Generator().manual_seed(0)).to(base.weight)


def _agree(before: Any, after: Tensor) -> bool:
    tolerance = AGREEMENT.get(after.dtype, HALF_AGREEMENT)
    difference = torch.linalg.vector_norm((before - after).double())
    return bool(difference <= tolerance * torch.linalg.vector_norm(after.double()))


def _share(plain: nn.Module, layer: nn.Module) -> None:
    """Let `plain` hold the parameters of `layer` wherever merging has left a value as it was."""
    stored = dict(layer.named_parameters(remove_duplicate=False))
    for path, module in plain.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            ending = f".{path}.{key}" if path else f".{key}"
            twins = (p for name, p in stored.items() if f".{name}".endswith(ending) and p.shape == parameter.shape)
            same = next((p for p in twins if p.dtype == parameter.dtype and torch.equal(p, parameter)), None)
            module._parameters[key] = parameter if same is None else same
