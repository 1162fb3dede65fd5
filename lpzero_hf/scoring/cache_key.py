"""What the cached scores and tables of an architecture depend on: its configuration, and the code that runs for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.models.build import model_class
from lpzero_hf.plugins import OWN, PluginRegistry
from lpzero_hf.scoring.cache import digest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

VERSIONED = ("transformers", "lpzero_hf", "lpz_zoo")  # packages whose versions are part of `Setting.key`


def architecture_key(config: PreTrainedConfig, context: str, plugins: PluginRegistry) -> str:
    """The cache key of an architecture; "" if its code could change unnoticed, so that nothing may be cached.

    Args:
        config: of the architecture.
        context: all else that determines the numbers, see `Setting.key`.
        plugins: those that describe layouts count, with the versions of their distributions.
    """
    code = _third_party_code(config)
    if code is None:
        return ""
    layouts = [
        (status.distribution, status.version, status.name)
        for status in plugins.statuses.values()
        if status.status == "active" and "lpz_model_layout" in status.hooks and status.distribution != OWN
    ]
    return digest(identity(config), context, *([code] if code else []), *layouts)


def identity(config: PreTrainedConfig) -> dict[str, Any]:
    """What of a configuration decides the model, as plain data."""
    values = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    attention = getattr(config, "_attn_implementation", None)
    return values if attention is None else values | {"attn_implementation": attention}


def _third_party_code(config: PreTrainedConfig) -> list[str] | None:
    """The version and source of each module that defines the model's and the configuration's class, other than those of
    transformers and this library; None if one is defined in a script or at a prompt."""
    chosen = model_class(config)
    if hasattr(chosen, "_model_mapping"):  # an Auto class
        chosen = chosen._model_mapping.get(type(config), chosen)
    classes = (type(config), *(chosen if isinstance(chosen, tuple) else (chosen,)))
    found: list[str] = []
    modules = dict.fromkeys(base.__module__ for one in classes for base in one.__mro__)
    for name in modules:
        root = name.partition(".")[0]
        if root in (*VERSIONED, "torch", "builtins") or root in sys.stdlib_module_names - {"__main__"}:
            continue
        file = getattr(sys.modules.get(name), "__file__", None)
        if name == "__main__" or file is None:
            return None
        found += [name, hashlib.sha256(Path(file).read_bytes()).hexdigest(), _version(root)]
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
