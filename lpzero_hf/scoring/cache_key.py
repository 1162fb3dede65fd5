"""What the cached scores and tables of an architecture depend on: its configuration, and the code that runs for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.models.build import model_class
from lpzero_hf.plugins import OWN, PluginRegistry
from lpzero_hf.proxies.code_digest import VERSIONED, code_digest
from lpzero_hf.scoring.cache import digest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NOT_ARCHITECTURE = {  # how a model is run, read out, or called
    "_name_or_path", "architectures", "attn_implementation", "experts_implementation", "dtype", "torch_dtype",
    "use_cache", "transformers_version", "output_attentions", "output_hidden_states", "return_dict", "id2label",
    "label2id", "problem_type", "task_specific_params", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id",
}  # fmt: skip


def architecture_key(config: PreTrainedConfig, context: str, plugins: PluginRegistry) -> str:
    """The cache key of an architecture; "" if its code could change unnoticed, so that nothing may be cached.

    Args:
        config: of the architecture.
        context: all else that determines the numbers, see `Setting.key`.
        plugins: those that describe layouts count, with the versions of their distributions.
    """
    code = _third_party_code(config)
    layouts = _layouts(plugins)
    if code is None or layouts is None:
        return ""
    return digest(identity(config), context, *([code] if code else []), *layouts)


def identity(config: PreTrainedConfig) -> dict[str, Any]:
    """What of a configuration decides the model, as plain data."""
    values = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    return values | implementations(config)


def architecture_content(config: PreTrainedConfig) -> dict[str, Any]:
    """The architecture that a configuration describes, written in one way: equal for two files of one architecture,
    whatever they call it and however they run it or read it out."""
    content: dict[str, Any] = _plain(identity(config))
    return content


def _plain(value: Any) -> Any:
    """A part of a configuration as one way of writing it: without what is no architecture, and 1.0 as 1."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if key not in NOT_ARCHITECTURE}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def implementations(config: PreTrainedConfig) -> dict[str, str]:
    """The implementations of attention and of experts that a configuration asks for, and those inside it, by place."""
    found = {}
    for name in ("attn_implementation", "experts_implementation"):
        if (chosen := getattr(config, f"_{name}", None)) is not None:
            found[name] = str(chosen)
    for part in getattr(config, "sub_configs", {}):
        inner = getattr(config, part, None)
        if inner is not None and hasattr(inner, "to_dict"):
            found |= {f"{part}.{name}": chosen for name, chosen in implementations(inner).items()}
    return found


def _layouts(plugins: PluginRegistry) -> list[tuple[str, str, str, str]] | None:
    """The plugins that describe layouts, with their versions and code; None if the code of one has no digest."""
    found = []
    for status, function in plugins.implementations("lpz_model_layout"):
        if status.distribution != OWN:
            code = code_digest(function)
            if not code:
                return None
            found.append((status.distribution, status.version, status.name, code))
    return found


def _third_party_code(config: PreTrainedConfig) -> list[str] | None:
    """The version and source of each module that defines the model's and the configuration's class, other than those of
    transformers and this library, with a digest of the code that they read; None if one is defined in a script or at a
    prompt, or has no digest. The same for functions of attention that a user has registered."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    chosen = model_class(config)
    if hasattr(chosen, "_model_mapping"):  # an Auto class
        chosen = chosen._model_mapping.get(type(config), chosen)
    classes = (type(config), *(chosen if isinstance(chosen, tuple) else (chosen,)))
    found: list[str] = []
    modules = dict.fromkeys(base.__module__ for one in classes for base in one.__mro__)
    for name in modules:
        root = name.partition(".")[0]
        if root in (*VERSIONED, "builtins") or root in sys.stdlib_module_names - {"__main__"}:
            continue
        file = getattr(sys.modules.get(name), "__file__", None)
        if name == "__main__" or file is None:
            return None
        found += [name, hashlib.sha256(Path(file).read_bytes()).hexdigest(), _version(root)]
    foreign = [one for one in classes if one.__module__.partition(".")[0] not in VERSIONED]
    foreign += [
        function for name in implementations(config).values()
        if (function := ALL_ATTENTION_FUNCTIONS.get(name)) is not None
        and getattr(function, "__module__", "").partition(".")[0] not in VERSIONED
    ]  # fmt: skip
    if foreign:
        if not (read := code_digest(*foreign)):
            return None
        found.append(read)
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
