"""Makes a configuration fit to be built here: old names of position scaling, quantisation, kernels of attention."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import ModelError, ModelWarning, UsageError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PLAIN_ATTENTION = ("eager", "sdpa")
SCALINGS = ("rope_parameters", "rope_scaling")


def repaired(config: PreTrainedConfig, attention: str | None = None) -> PreTrainedConfig:
    """A copy of `config` that can be built.

    Warns (`ModelWarning`) of a `quantization_config`, which random weights do not have.

    Args:
        config: of a model.
        attention: the implementation of attention, "eager" or "sdpa"; None for the configuration's.

    Raises:
        UsageError: there is no such implementation of attention.
        ModelError: it scales positions in an unknown way.
    """
    from transformers import PreTrainedConfig

    if attention not in (None, *PLAIN_ATTENTION):
        raise UsageError(f"unknown attention '{attention}'; use one of {', '.join(PLAIN_ATTENTION)}")
    config = copy.deepcopy(config)
    with suppress(ValueError):  # several models of text in one
        if not isinstance(text := config.get_text_config(), PreTrainedConfig):
            raise ModelError(f"the configuration of the text model is a {type(text).__name__}; give a model_type in it")
    for one in nested_configs(config):
        if vars(one).pop("quantization_config", None) is not None:
            warnings.warn(
                f"the quantization_config of '{config.model_type}' is ignored: random weights are not quantised",
                ModelWarning,
                stacklevel=3,
            )
        if type(one).__module__.startswith("transformers."):  # other code may know scalings of its own
            for name in SCALINGS:
                for scaling in _scalings(vars(one).get(name)):
                    _rename(scaling, one)
    if attention is not None:
        config._attn_implementation = attention
    return config


def attention_of(config: PreTrainedConfig) -> str | None:
    """The implementation of attention that `config`, or the first nested one, asks for if it is not a plain one."""
    asked = (getattr(one, "_attn_implementation", None) for one in nested_configs(config))
    return next((str(name) for name in asked if name is not None and name not in PLAIN_ATTENTION), None)


def without_kernels(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of `config` that asks for no kernel of attention that may be missing; its model has the same shapes."""
    config = copy.deepcopy(config)
    if attention_of(config) is not None:
        config._attn_implementation = None
    return config


def nested_configs(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """`config` and those nested in it."""
    from transformers import PreTrainedConfig

    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig) and value is not config:
            yield from nested_configs(value)


def _scalings(value: Any) -> Iterator[dict[str, Any]]:
    """The settings of position scaling: one, or one for each type of layer."""
    if isinstance(value, dict):
        if "rope_type" in value or "type" in value:
            yield value
        for one in value.values():
            yield from _scalings(one)


def _rename(scaling: dict[str, Any], config: PreTrainedConfig) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    plain = getattr(config, "default_rope_type", "default")
    known = {"default", plain, *ROPE_INIT_FUNCTIONS}
    for key in ("rope_type", "type"):
        name = str(scaling.get(key, plain))
        if name == "mrope":
            scaling[key] = plain  # with a section for each kind of position
        elif name == "su":
            scaling[key] = "longrope"
            scaling.setdefault("original_max_position_embeddings", getattr(config, "max_position_embeddings", None))
        elif name not in known:
            raise ModelError(
                f"unknown scaling of positions (rope_type) '{name}'{did_you_mean(name, known)}: "
                f"use one of {', '.join(sorted(known))}"
            )
