"""Checks that a checkpoint has all weights of its model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import ModelError, ModelWarning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST = 3  # names in one message


def check_loaded(model: PreTrainedModel, found: Mapping[str, Any], location: str) -> None:
    """Refuse a checkpoint that lacks weights: they would be random, and scored as if they were trained.

    Args:
        model: as loaded.
        found: what `from_pretrained(..., output_loading_info=True)` tells.
        location: of the checkpoint, for people.

    Raises:
        ModelError: weights are missing, or have other shapes than in the model; it names the first ones. Buffers and
            weights tied to others do not count.
    """
    weights = [name for name, _ in model.named_parameters()]  # those that are tied are named once
    missing = [name for name in weights if name in set(found.get("missing_keys") or ())]
    changed = [str(name[0] if isinstance(name, tuple) else name) for name in found.get("mismatched_keys") or ()]
    unused = sorted(map(str, found.get("unexpected_keys") or ()))
    if missing or changed:
        facts = [f"lacks {len(missing)} of {len(weights)} weights ({_some(missing)})"] if missing else []
        facts += [f"has {len(changed)} weights of other shapes ({_some(changed)})"] if changed else []
        facts += [f"has {len(unused)} that the model does not use ({_some(unused)})"] if unused else []
        raise ModelError(
            f"the checkpoint '{location}' {' and '.join(facts)} for {type(model).__name__}; use a whole checkpoint, "
            "name the class that was saved in 'architectures', or leave out `pretrained=True` for random weights"
        )
    if unused:
        warnings.warn(
            f"the checkpoint '{location}' has {len(unused)} weights that {type(model).__name__} does not use: "
            f"{_some(unused)}",
            ModelWarning,
            stacklevel=4,
        )


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(list(names)[:MOST]) + more
