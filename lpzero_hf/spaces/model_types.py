"""The model types that transformers knows, with those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lpzero_hf.plugins import PluginRegistry, load_plugins

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def model_types(plugins: PluginRegistry | None = None) -> Mapping[str, type[PreTrainedConfig]]:
    """The configuration classes by model type.

    Args:
        plugins: which register their own; by default everything installed.

    Example:
        >>> "llama" in model_types(), "lpz-flexibert" in model_types()
        (True, True)
    """
    for _ in (load_plugins() if plugins is None else plugins).ask("lpz_model_types"):
        pass  # each registers its own with transformers
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING
