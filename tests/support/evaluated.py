"""`evaluate` by names, as the commands call it: they are resolved first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring import evaluate as module
from lpzero_hf.scoring.evaluate import Row
from lpzero_hf.scoring.setting import Setting


def evaluate(
    configs: Mapping[str, PreTrainedConfig],
    wanted: Any,
    setting: Setting | None = None,
    *,
    plugins: PluginRegistry | None = None,
    **others: Any,
) -> dict[str, dict[str, Row]]:
    """The rows of some architectures."""
    return module.evaluate(configs, resolve(wanted, plugins), setting, plugins=plugins, **others)
