"""The standard deviation that a configuration draws random weights with, and another in its place."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

from lpzero_hf.errors import UsageError
from lpzero_hf.models.config_repairs import nested_configs

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DEVIATIONS = ("initializer_range", "init_std", "initializer_std", "embed_init_std")  # as families call it
FACTORS = ("initializer_factor", "w_init_variance_scale")  # that multiply a deviation of the family's own
LARGEST = 10.0


def initial_stds(config: PreTrainedConfig) -> dict[str, float]:
    """What the configuration of the text model says of the deviation of random weights, by the names of its fields.

    Example:
        >>> from transformers import GPT2Config
        >>> initial_stds(GPT2Config())
        {'initializer_range': 0.02}
    """
    text = config.get_text_config()
    values = {name: getattr(text, name, None) for name in (*DEVIATIONS, *FACTORS)}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def with_initial_std(config: PreTrainedConfig, std: float) -> PreTrainedConfig:
    """A copy of `config`, and of those nested in it, that draws random weights with this standard deviation.

    What a family makes of it stays: GPT-2 divides it for projections into the residual stream, for example.

    Raises:
        UsageError: the deviation is not above 0 and at most 10, or the family is not drawn by one.
    """
    if not (math.isfinite(std) and 0 < std <= LARGEST):
        raise UsageError(f"weights cannot be drawn with the standard deviation {std}; give one above 0 and at most 10")
    config = copy.deepcopy(config)
    found = False
    for one in nested_configs(config):
        for name in DEVIATIONS:
            if isinstance(getattr(one, name, None), int | float):
                setattr(one, name, std)
                found = True
    if not found:
        raise UsageError(
            f"a '{config.model_type}' has no standard deviation of its random weights ({', '.join(DEVIATIONS[:3])}), "
            "so it cannot be drawn with the same as others; leave it out, or compare with its own"
        )
    return config
