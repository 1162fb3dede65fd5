"""Names the loss that transformers takes for a class of which the name tells it none."""

from __future__ import annotations

from torch import nn

DEFAULT = "ForCausalLM"  # in `transformers.loss.loss_utils.LOSS_MAPPING`


def name_default_loss(model: nn.Module) -> None:
    """Let models whose `loss_type` is None, such as `GPT2LMHeadModel`, have the one that transformers falls back to.

    The loss is the same, and there is no log line of an unrecognized `loss_type=None` that nobody has set: transformers
    reads it from the name of the class, not from the configuration.

    Args:
        model: is changed, as are models inside of it.
    """
    for module in model.modules():
        if getattr(module, "loss_type", DEFAULT) is None:
            vars(module)["loss_type"] = DEFAULT
