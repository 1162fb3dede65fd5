"""Finds the `PreTrainedModel` inside what users wrap around it, so that its class decides the objective."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lpzero_hf.errors import ModelError

# Wrappers that compute what their module computes, by class, with the attribute that holds it.
WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": "_checkpoint_wrapped_module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.OffloadWrapper": "_checkpoint_wrapped_module",
}
OPAQUE = {
    "torch.jit._script.ScriptModule": "is compiled to TorchScript",
    "torch.fx.graph_module.GraphModule": "is a traced graph",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "has its weights in shards",
}
PEFT_MODEL = "peft.peft_model.PeftModel"


def unwrapped(model: Any) -> PreTrainedModel:
    """The `PreTrainedModel` in `model`: out of `torch.compile`, (distributed) data parallelism, an averaged model or a
    `PeftModel` whose adapter sits in its layers; `model` itself if it is one.

    Raises:
        ModelError: there is none, or what is around it computes something else or hides its layers.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from lpzero_hf.models.unwrap import unwrapped
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=16))
        >>> unwrapped(torch.compile(model)) is model
        True
    """
    while True:
        check_open(model)
        if isinstance(model, nn.Module) and PEFT_MODEL in class_names(model):
            model = _without_peft(model)
        elif (inner := inside_wrapper(model)) is not None:
            model = inner
        elif isinstance(model, PreTrainedModel):
            return model
        else:
            raise ModelError(_no_model(model))


def inside_wrapper(module: Any) -> nn.Module | None:
    """The module that `module` only wraps; None if it is no known wrapper."""
    attribute = next((WRAPPERS[name] for name in class_names(module) if name in WRAPPERS), None)
    return None if attribute is None else getattr(module, attribute)


def check_open(module: Any, name: str = "") -> None:
    """Raise `ModelError` if `module` is of a kind whose layers cannot be read; `name` is its place in the model."""
    for known in class_names(module):
        if known in OPAQUE:
            what = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
            raise ModelError(
                f"{what} {OPAQUE[known]}, so its layers cannot be read; score the PreTrainedModel that it was made of"
            )


def class_names(module: Any) -> list[str]:
    """The full names of the class of `module` and of those it derives from."""
    return [f"{made.__module__}.{made.__qualname__}" for made in type(module).__mro__]


def _without_peft(model: Any) -> nn.Module:
    """The model in a `PeftModel`, if its adapters are in that model's layers."""
    kind = model.active_peft_config
    if kind.is_prompt_learning:
        raise ModelError(
            f"the adapter ({kind.peft_type.value}) feeds the model more than its tokens, outside of its layers; "
            "score the model without it: peft_model.get_base_model()"
        )
    inner: nn.Module = model.get_base_model()
    return inner


def _no_model(model: Any) -> str:
    kind = type(model).__name__
    inside = list(model.named_modules()) if isinstance(model, nn.Module) else []
    held = next(((name, m) for name, m in inside if isinstance(m, PreTrainedModel)), None)
    if held is None:
        return (
            f"{kind} is no PreTrainedModel and holds none; score a model of transformers or of a class derived from it"
        )
    name, found = held
    return (
        f"{kind} is no PreTrainedModel, and what it computes around its {type(found).__name__} is unknown; "
        f"score the model that it holds: its attribute '{name}'"
    )
