"""Finds the keys of a saved configuration that its class does not know, and so ignores."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import ModelWarning

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

TEXT = """adapters architectures attn_implementation auto_map bos_token_id classifier_dropout cls_token_id
custom_pipelines dtype eos_token_id experts_implementation finetuning_task gradient_checkpointing id2label
is_composition
keys_to_ignore_at_inference label2id language license mask_token_id model_type name_or_path num_labels
output_attentions output_hidden_states output_past pad_token_id partial_rotary_factor per_layer_config prefix
pruned_heads quantization_config return_dict rope_parameters rope_scaling rope_theta sep_token_id tags
task_specific_params tf_legacy_loss tie_word_embeddings tokenizer_class torch_dtype torchscript transformers_version
transformers_weights unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache"""
COMMON = frozenset(TEXT.split())  # keys of any published configuration, with those of older versions
MOST = 5  # keys named in one warning


def warn_of_unknown_keys(raw: Mapping[str, Any], config: PreTrainedConfig, name: str) -> None:
    """One `ModelWarning` for all keys of `raw` that the class of `config` does not know, with the nearest known one.

    Args:
        raw: the configuration as it was saved.
        config: what was made of it; where its class is no class of transformers, nothing is said.
        name: of the configuration, for people.
    """
    unknown = dict(unknown_keys(raw, config))
    if unknown:
        shown = [f"'{key}'" + (f" (did you mean '{near}'?)" if near else "") for key, near in unknown.items()]
        more = f" and {len(shown) - MOST} more" if len(shown) > MOST else ""
        warnings.warn(
            f"'{name}' has keys that {type(config).__name__} does not know and ignores: "
            f"{', '.join(shown[:MOST])}{more}",
            ModelWarning,
            stacklevel=3,
        )


def unknown_keys(raw: Mapping[str, Any], config: PreTrainedConfig, usual: Any = None) -> Iterator[tuple[str, str]]:
    """Each unknown key, with those of nested configurations, and the nearest known one or "".

    Args:
        raw: as saved.
        config: made of it.
        usual: one of the same class, or the one that stands in the same place, with the default values.
    """
    from transformers import PreTrainedConfig

    if not type(config).__module__.startswith("transformers."):
        return
    own = known_keys(type(config))  # type: ignore[arg-type]  # every class is hashable
    usual = _usual(type(config)) if usual is None else usual  # type: ignore[arg-type]  # every class is hashable
    own |= set(vars(usual)) if usual is not None else set()
    for key, value in raw.items():
        nested = vars(config).get(config.attribute_map.get(key, key))
        before = vars(usual).get(key) if usual is not None else None
        before = before if type(before) is type(nested) else None
        if isinstance(value, Mapping) and isinstance(nested, PreTrainedConfig):
            yield from ((f"{key}.{name}", near) for name, near in unknown_keys(value, nested, before))
        elif not (key.startswith("_") or key in own | COMMON | _generation() or _mentioned(type(config), key)):
            yield key, nearest_key(key, own)


@cache
def known_keys(of: Any) -> frozenset[str]:
    """The keys of a class of configurations: fields, arguments, other names of them, and properties."""
    arguments = {name for base in of.__mro__ for name in inspect.signature(base.__init__).parameters}
    fields = {name for base in of.__mro__ for name in getattr(base, "__annotations__", {})}
    settable = {name for base in of.__mro__ for name, value in vars(base).items() if isinstance(value, property)}
    renamed = {*of.attribute_map, *of.attribute_map.values()}
    return frozenset(arguments | fields | settable | renamed | set(of.sub_configs))


@cache
def _usual(of: Any) -> PreTrainedConfig | None:
    """The configuration of the default values, with all that the class sets; None if it needs arguments."""
    try:
        return of()  # type: ignore[no-any-return]
    except Exception:
        return None


@cache
def _generation() -> frozenset[str]:
    """The settings of generation, which older configurations hold."""
    from transformers import GenerationConfig

    return frozenset(vars(GenerationConfig()))


def _mentioned(of: type[PreTrainedConfig], key: str) -> bool:
    """Whether the code of the family reads `key` without declaring it."""
    pattern = re.compile(rf"""(config\.|["']){re.escape(key)}\b(["']|\W)""")
    return any(pattern.search(source) for source in _sources(of))  # type: ignore[arg-type]  # every class is hashable


@cache
def _sources(of: Any) -> tuple[str, ...]:
    """The code of the module of a class of configurations, and of the models beside it."""
    found = []
    for name in (of.__module__, of.__module__.replace(".configuration_", ".modeling_")):
        try:
            found.append(inspect.getsource(importlib.import_module(name)))
        except (ImportError, OSError, TypeError):
            continue
    return tuple(found)


def nearest_key(key: str, known: frozenset[str], cutoff: float = 0.7) -> str:
    """The known key that is spelled most like `key`, or ""; short words of counts are compared in full."""
    full = {"n": "num", "nb": "num", "dim": "size", "embd": "hidden", "layer": "layers", "head": "heads"}

    def spelled(name: str) -> str:
        return "_".join(full.get(word, word) for word in name.lower().split("_"))

    candidates = {spelled(name): name for name in sorted(known) if len(name) > 2}
    words_of = set(spelled(key).split("_"))
    if holding := [name for name in candidates if words_of < set(name.split("_"))]:  # num_hidden_layers for n_layers
        return candidates[min(holding, key=len)]
    near = difflib.get_close_matches(spelled(key), candidates, n=1, cutoff=cutoff)
    return candidates[near[0]] if near else ""
