"""The passes whose costs count: the prefill of a prompt, and one decoding step with the cache that it left.

A prefill gives the logits of all positions, as the forward of a model does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.minibatch import minibatch
from lpzero_hf.models.objective import head_kind, with_labels

CACHES = ("past_key_values", "cache_params", "state")  # under which outputs hold, and forwards take, what was computed
TARGETS = ("labels", "next_sentence_label", "sentence_order_label", "start_positions", "end_positions")


def prompts(model: PreTrainedModel, batch_size: int, tokens: int, seed: int) -> dict[str, Tensor]:
    """Random prompts: `input_ids` [B, T], and `decoder_input_ids` [B, T] where there is a decoder behind an encoder.

    There is no mask, because there is no padding; a masked language model sees all positions as well.
    """
    drawn = minibatch(model, batch_size=batch_size, seq_len=max(tokens, 2), seed=seed, random_tokens=True)
    fed = with_labels(model, {"input_ids": drawn["input_ids"][:, :tokens]}, seed)
    return {name: value for name, value in fed.items() if isinstance(value, Tensor) and name not in TARGETS}


def prefill(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Any:
    """The output for prompts, with a cache where the model has one."""
    keeps = {"use_cache": True} if "use_cache" in inspect.signature(model.forward).parameters else {}
    return model(**inputs, **keeps, return_dict=True)


def cache_of(output: Any) -> tuple[str, Any] | None:
    """What an output keeps for the next token, with its name; None if there is nothing."""
    return next(((name, output[name]) for name in CACHES if name in output and output[name] is not None), None)


def cached(model: PreTrainedModel, output: Any) -> tuple[str, Any]:
    """As `cache_of`. Raises `NotApplicable` if the model does not decode, or keeps nothing."""
    found = cache_of(output)
    if found is None or head_kind(model) == "masked":
        raise NotApplicable(f"{type(model).__name__} keeps nothing for a next token; it does not decode step by step")
    return found


def step(model: PreTrainedModel, inputs: dict[str, Tensor], output: Any, cache: Any) -> Any:
    """The output for one more token of each prompt.

    Args:
        model: that has seen the prompts.
        inputs: of the prefill.
        output: of the prefill.
        cache: name and content of what it has kept; the content is written to.
    """
    name, kept = cache
    apart = "decoder_input_ids" in inputs
    token = inputs["decoder_input_ids" if apart else "input_ids"][:, -1:]
    more: dict[str, Any] = {}
    accepted = inspect.signature(model.forward).parameters
    if apart:
        more["encoder_outputs"] = BaseModelOutput(last_hidden_state=output["encoder_last_hidden_state"])
    if "cache_position" in accepted:
        place = inputs["decoder_input_ids" if apart else "input_ids"].shape[1]
        more["cache_position"] = torch.tensor([place], device=token.device)
    return model(
        **{"decoder_input_ids" if apart else "input_ids": token, name: kept}, **more, use_cache=True, return_dict=True
    )


def tensors_in(held: Any) -> list[Tensor]:
    """All floating-point tensors that an object holds, each once."""
    found: dict[int, Tensor] = {}
    seen: set[int] = set()
    todo = [held]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, torch.nn.Module):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            if item.is_floating_point():
                found[id(item)] = item
        else:
            todo += list(_parts(item))
    return list(found.values())


def _parts(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.values()
    elif isinstance(item, list | tuple | set):
        yield from item
    elif hasattr(item, "__dict__") and not isinstance(item, type):
        yield from vars(item).values()
